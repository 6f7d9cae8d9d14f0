/** `understudy demo`: the main job in one command. */

import type { Command } from 'commander'
import { ExitCode } from '../base/assert.ts'
import { formatBytes } from '../base/units.ts'
import { type DemoReport, demoHolds, runDemo } from '../host/demo.ts'
import { chooseDiscipline, type DisciplineWords } from '../host/discipline-choice.ts'
import { countFrom } from './count-argument.ts'
import { addDisciplineOptions } from './discipline-options.ts'
import { ProgressLine, printJson, say } from './output.ts'

export function addDemoCommand(program: Command): void {
  const command = program
    .command('demo')
    .description('build a Debian guest with Redis, run it protected, kill its primary under load, and report')
    .option('--guest <FOLDER>', 'use the guest in this folder instead of building one')
    .option('--runs <N>', 'how often, from the start each time', countFrom(1), 1)
  addDisciplineOptions(command)
    .option('--json', 'print each report as one JSON object on stdout')
    .action(async (options: { guest?: string; runs: number; json?: boolean; scsi?: boolean } & DisciplineWords) => {
      const discipline = chooseDiscipline(options)
      let held = 0
      for (let run = 1; run <= options.runs; run++) {
        const progress = new ProgressLine()
        const report = await runDemo({
          ...(options.guest === undefined ? {} : { guestFolder: options.guest }),
          discipline,
          ...(options.scsi ? { bus: 'scsi' as const } : {}),
          onStep: (text) => {
            progress.end()
            say(text)
          },
          onGuestProgress: ({ phase, detail, doneBytes, totalBytes }) => {
            const done = doneBytes === undefined ? '' : ` ${formatBytes(doneBytes)}`
            const total = totalBytes === undefined ? '' : ` of ${formatBytes(totalBytes)}`
            progress.show(`guest ${phase}`, `${detail}${done}${total}`)
          },
        })
        progress.end()
        if (demoHolds(report)) held++
        if (options.json) printJson(report)
        else describe(report)
        if (options.runs > 1) say(`${held} of ${run} runs held`)
      }
      process.exitCode = held === options.runs ? ExitCode.ok : ExitCode.failure
    })
}

function describe(report: DemoReport): void {
  const { failover } = report
  say(`
  same connection alive       ${report.connections_reset === 0 ? 'yes' : 'NO'}
  acknowledged INCRs          ${report.acknowledged} (${report.acknowledged_before_kill} before the kill)
  lost / duplicated           ${report.lost} / ${report.duplicated}
  client's longest stall      ${report.stall_ms} ms
  failover                    ${report.failover_ms} ms = detection ${failover.detection_ms} + arbitration ${failover.arbitration_ms} + replay ${failover.replay_ms} + first output ${failover.first_output_ms}
  divergences                 ${report.divergences} in ${report.digest_checks} digest checks
  log bytes by cause          ${Object.entries(report.log_bytes_by_cause)
    .filter(([, bytes]) => bytes > 0)
    .map(([cause, bytes]) => `${cause} ${formatBytes(bytes)}`)
    .join(', ')}

  ${demoHolds(report) ? 'The server outlived its primary.' : 'NOT as promised.'}`)
}
