/** How commands take a VM. */

export const vmArgument = [
  '<VM>',
  'VM file, or a folder with vm.toml; or the configuration of one of its processes on this host',
] as const
