/** `understudy console`: the console of a running VM, on this terminal, through failovers. */

import { type Command, Option } from 'commander'
import { ExitCode } from '../base/assert.ts'
import { ConsoleViewer, type ViewerEnd } from '../host/console-viewer.ts'
import { requireRunning } from '../host/local-pair.ts'
import { attachTerminal } from '../host/terminal.ts'
import { findVmFolder } from '../host/vm-argument.ts'
import { say } from './output.ts'
import { vmArgument } from './vm-argument.ts'

export function addConsoleCommand(program: Command): void {
  program
    .command('console')
    .description('attach to the console of a running VM (Ctrl-] leaves); it goes on after a failover')
    .argument(...vmArgument)
    .addOption(new Option('--watch', 'only look, never type').conflicts('take'))
    .option('--take', 'type, even if another console does: that one watches from now on')
    .action(async (vm: string, options: { watch?: boolean; take?: boolean }) => {
      const folder = findVmFolder(vm)
      await requireRunning(folder)
      const wish = options.watch ? 'watch' : options.take ? 'take' : 'write'
      const ended = Promise.withResolvers<ViewerEnd | undefined>()
      const viewer = new ConsoleViewer(folder, wish, {
        onOutput: (bytes) => process.stdout.write(bytes),
        onNotice: (text) => say(`[${folder.name}: ${text}]`),
        onEnd: ended.resolve,
      })
      if (process.stdin.isTTY) say(`[${folder.name}: Ctrl-] leaves]`)
      const restoreTerminal = attachTerminal(
        (bytes) => viewer.sendKeys(bytes),
        () => ended.resolve(undefined),
      )
      const end = await ended.promise
      restoreTerminal()
      viewer.close()
      if (end?.kind === 'off') say(`[${folder.name}: the guest is off${end.failed ? ' after a panic' : ''}]`)
      if (end?.kind === 'gone') say(`[${folder.name}: no replica is left]`)
      process.exitCode = end?.kind === 'off' && end.failed ? ExitCode.guestPanicked : ExitCode.ok
    })
}
