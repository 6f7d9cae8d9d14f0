/** `replica`, `disk-server`, `switch`: one process of a VM on a host of its own; `host`: such a host, for any VM. In the foreground. */

import type { Command } from 'commander'
import { WorldError } from '../base/assert.ts'
import { trace } from '../host/child-process.ts'
import { runDiskServer, runHost, runReplica, runSwitch } from '../host/host-processes.ts'
import { reportError } from './output.ts'

/** Sockets may be open already: an error ends the process, not only the command. */
async function runToTheEnd(run: () => Promise<void>): Promise<void> {
  process.on('uncaughtException', (error) => process.exit(reportError(error)))
  try {
    await run()
  } catch (error) {
    if (error instanceof WorldError) trace(`${error.code}: ${error.message}`)
    process.exit(reportError(error))
  }
}

export function addHostCommands(program: Command): void {
  const config = ['--config <FILE>', 'its configuration (TOML)'] as const
  program
    .command('replica')
    .description('run one replica of a VM on this host, in the foreground; ends with its role and its exit code')
    .requiredOption(...config)
    .option('--unprotected', 'a primary: wait for no backup')
    .action((options: { config: string; unprotected?: boolean }) =>
      runToTheEnd(() => runReplica(options.config, { isUnprotected: options.unprotected ?? false, isPatient: true })),
    )
  program
    .command('disk-server')
    .description("serve a VM's disks and its arbiter from this host, in the foreground")
    .requiredOption(...config)
    .action((options: { config: string }) => runToTheEnd(() => runDiskServer(options.config)))
  program
    .command('switch')
    .description("run a VM's switch and gateway on this host, in the foreground")
    .requiredOption(...config)
    .action((options: { config: string }) => runToTheEnd(() => runSwitch(options.config)))
  program
    .command('host')
    .description('offer this host to VMs that lack a backup, in the foreground; replicas that come go on without it')
    .requiredOption(...config)
    .action((options: { config: string }) => runToTheEnd(() => runHost(options.config)))
}
