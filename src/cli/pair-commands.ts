/** `up`, `status`, `fail`, `repair`: a protected VM as local processes. */

import type { Command } from 'commander'
import { ExitCode } from '../base/assert.ts'
import { bringUp, failReplica, pairStatus, repairVm } from '../host/local-pair.ts'
import { ProgressLine, printJson, say } from './output.ts'
import { describeStatus, watchStatus } from './status-watch.ts'
import { vmArgument } from './vm-argument.ts'

interface StatusOptions {
  readonly check?: boolean
  readonly watch?: boolean
  readonly json?: boolean
}

export function addPairCommands(program: Command): void {
  program
    .command('up')
    .description('start a VM protected: disk server, LAN, primary and backup, each a process of its own')
    .argument(...vmArgument)
    .option('--unprotected', 'start no backup')
    .option('--json', 'print the status as one JSON object when it is up')
    .action(async (vm: string, options: { unprotected?: boolean; json?: boolean }) => {
      const progress = new ProgressLine()
      const status = await bringUp(vm, {
        protect: !options.unprotected,
        onProgress: (text) => progress.show('up', text),
      })
      progress.end()
      if (options.json) printJson(status)
      else say(`${status.name}: ${status.protection}`)
    })
  program
    .command('status')
    .description('show how a VM is doing')
    .argument(...vmArgument)
    .option('--check', 'exit with 6 unless the VM is protected')
    .option('--watch', 'go on until Ctrl-C: redrawn every second on a terminal, elsewhere a line per change')
    .option('--json', 'print it as one JSON object (with --watch: one a change)')
    .action(async (vm: string, options: StatusOptions) => {
      if (options.watch) await watchStatus(vm, options.json ?? false)
      const status = await pairStatus(vm)
      if (options.json && !options.watch) printJson(status)
      else if (!options.watch) for (const line of describeStatus(status)) say(line)
      if (options.check && status.protection !== 'protected') process.exitCode = ExitCode.notProtected
    })
  program
    .command('fail')
    .description('kill a replica (SIGKILL), to see that clients do not notice')
    .addArgument(program.createArgument('<ROLE>', 'which replica').choices(['primary', 'backup']))
    .argument(...vmArgument)
    .action(async (role: 'primary' | 'backup', vm: string) => {
      const killed = await failReplica(vm, role)
      say(`killed ${role} ${killed.name} (pid ${killed.pid})`)
    })
  program
    .command('repair')
    .description('start disk server and LAN again if they have died; the VM goes on')
    .argument(...vmArgument)
    .action(async (vm: string) => {
      const { diskServer, lan } = await repairVm(vm)
      if (diskServer) say('started the disk server again')
      if (lan) say('started the LAN again')
      if (!diskServer && !lan) say('disk server and LAN are running: nothing to repair')
    })
}
