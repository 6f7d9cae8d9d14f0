/** `understudy console`: the console of a running VM, on this terminal, through failovers. */

import { type Command, Option } from 'commander'
import { ExitCode } from '../base/assert.ts'
import { ConsoleViewer, type ViewerEnd } from '../host/console-viewer.ts'
import { attachTerminal } from '../host/terminal.ts'
import { readVmConfig } from '../host/vm-config.ts'
import { VmFolder } from '../host/vm-folder.ts'
import { say } from './output.ts'

export function addConsoleCommand(program: Command): void {
  program
    .command('console')
    .description('attach to the console of a running VM (Ctrl-] leaves); it goes on after a failover')
    .argument('<VM>', 'VM file, or a folder with vm.toml')
    .addOption(new Option('--watch', 'only look, never type').conflicts('take'))
    .option('--take', 'type, even if another console does: that one watches from now on')
    .action(async (vm: string, options: { watch?: boolean; take?: boolean }) => {
      const { config } = readVmConfig(vm)
      const folder = new VmFolder(config.name)
      folder.requireRun()
      const wish = options.watch ? 'watch' : options.take ? 'take' : 'write'
      const ended = Promise.withResolvers<ViewerEnd | undefined>()
      const viewer = new ConsoleViewer(folder, wish, {
        onOutput: (bytes) => process.stdout.write(bytes),
        onNotice: (text) => say(`[${config.name}: ${text}]`),
        onEnd: ended.resolve,
      })
      if (process.stdin.isTTY) say(`[${config.name}: Ctrl-] leaves]`)
      const restoreTerminal = attachTerminal(
        (bytes) => viewer.sendKeys(bytes),
        () => ended.resolve(undefined),
      )
      const end = await ended.promise
      restoreTerminal()
      viewer.close()
      if (end?.kind === 'off') say(`[${config.name}: the guest is off${end.failed ? ' after a panic' : ''}]`)
      if (end?.kind === 'gone') say(`[${config.name}: no replica is left]`)
      process.exitCode = end?.kind === 'off' && end.failed ? ExitCode.guestPanicked : ExitCode.ok
    })
}
