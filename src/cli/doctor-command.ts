/** `understudy doctor`: checks the host. */

import type { Command } from 'commander'
import { ExitCode } from '../base/assert.ts'
import { diagnose, readHostFacts } from '../host/doctor.ts'
import { printJson } from './output.ts'

export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('check whether this host can build guests and run protected VMs; exits with 1 if not')
    .option('--json', 'print the findings as one JSON object')
    .action(async (options: { json?: boolean }) => {
      const findings = diagnose(await readHostFacts())
      const problems = findings.filter(({ verdict }) => verdict === 'problem').length
      if (options.json) {
        printJson({ ok: problems === 0, findings })
      } else {
        for (const { name, verdict, detail, advice } of findings) {
          const end = advice === undefined ? '' : `: ${advice}`
          process.stdout.write(`${verdict.padEnd(7)}  ${name}: ${detail}${end}\n`)
        }
      }
      process.exitCode = problems === 0 ? ExitCode.ok : ExitCode.failure
    })
}
