/**
 * The command line. Each command is a thin reader of arguments; what it does lives in host/ and guest/.
 */

import { Command, CommanderError } from 'commander'
import { ExitCode } from '../base/assert.ts'
import { addConfigSchemaCommand } from './config-schema-command.ts'
import { addConsoleCommand } from './console-command.ts'
import { addDemoCommand } from './demo-command.ts'
import { addDoctorCommand } from './doctor-command.ts'
import { addGuestCommand } from './guest-command.ts'
import { addHostCommands } from './host-commands.ts'
import { addKeygenCommand } from './keygen-command.ts'
import { addLogsCommand } from './logs-command.ts'
import { addOperatorCommands } from './operator-commands.ts'
import { endWithReader, oneLineErrors, reportError } from './output.ts'
import { addPairCommands } from './pair-commands.ts'
import { addRunCommand } from './run-command.ts'

const exitCodeHelp = `
Exit codes:
  0 ok   1 failure   2 usage   3 no such VM   4 wrong state   5 timed out   6 not protected (status --check)
  7 lost arbitration   8 divergence   9 guest panicked   69 disk or arbiter out of reach   77 permission
  78 bad configuration   125 our own failure while running a bare program   128+n ended by signal n`

const program = new Command('understudy')
  .description('Runs an unmodified riscv64 Linux server as a primary and a backup that execute the same instructions.')
  .version('0.1.0')
  .configureOutput(oneLineErrors('understudy'))
  .addHelpText('after', exitCodeHelp)
  .exitOverride()

addGuestCommand(program)
addRunCommand(program)
addPairCommands(program)
addOperatorCommands(program)
addHostCommands(program)
addConsoleCommand(program)
addLogsCommand(program)
addDoctorCommand(program)
addDemoCommand(program)
addKeygenCommand(program)
addConfigSchemaCommand(program)

endWithReader()
try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? ExitCode.ok : ExitCode.usage
  else process.exitCode = reportError(error)
}
