/** `understudy guest build`: a Debian guest from Debian's own packages. */

import { type Command, Option } from 'commander'
import { formatBytes, parseSize } from '../base/units.ts'
import { buildGuest } from '../guest/guest-builder.ts'
import { ProgressLine, printJson, say } from './output.ts'

interface BuildOptions {
  readonly output: string
  readonly package?: string[]
  readonly size?: string
  readonly flavour: 'minimal' | 'systemd'
  readonly authorizedKey?: string[]
  readonly offline?: boolean
  readonly refresh?: boolean
  readonly overwrite?: boolean
  readonly json?: boolean
}

export function addGuestCommand(program: Command): void {
  const guest = program.command('guest').description('build guests')
  guest
    .command('build')
    .description(
      'fetch Debian riscv64 packages and make kernel, initrd and root disk, without root, cached and verified',
    )
    .option('-o, --output <FOLDER>', 'where the files go', 'guest')
    .option('-p, --package <NAME...>', 'Debian packages in the root file system (default: redis-server)')
    .option('--size <SIZE>', 'size of the root disk (default: 256M, systemd 1G)')
    .option('--authorized-key <KEY...>', "public ssh keys of the guest's root")
    .addOption(
      new Option('--flavour <NAME>', 'minimal: busybox init; systemd: a full Debian')
        .choices(['minimal', 'systemd'])
        .default('minimal'),
    )
    .option('--offline', 'use the cache only')
    .option('--refresh', 'take the newest packages even if the cache holds this guest')
    .option('--overwrite', 'replace a root disk that a machine has written to')
    .option('--json', 'print the result as one JSON object')
    .action(async (options: BuildOptions) => {
      const progress = new ProgressLine()
      const image = await buildGuest(
        {
          outputFolder: options.output,
          flavour: options.flavour,
          offline: options.offline ?? false,
          refresh: options.refresh ?? false,
          overwrite: options.overwrite ?? false,
          ...(options.size === undefined ? {} : { rootSizeBytes: parseSize(options.size) }),
          ...(options.package ? { packages: options.package } : {}),
          ...(options.authorizedKey ? { authorizedKeys: options.authorizedKey } : {}),
        },
        ({ phase, detail, doneBytes, totalBytes }) => {
          const done = doneBytes === undefined ? '' : ` ${formatBytes(doneBytes)}`
          const total = totalBytes === undefined ? '' : ` of ${formatBytes(totalBytes)}`
          progress.show(phase, `${detail}${done}${total}`)
        },
      )
      progress.end()
      if (options.json) printJson(image)
      else
        say(`guest ready: ${image.kernelPath}, ${image.initrdPath}, ${image.rootPath} (Linux ${image.kernelVersion})`)
    })
}
