/**
 * The long form of the clock's test: `node test/system/clock-campaign.ts --help`.
 *
 * Idle and load take turns of half a minute; in the middle, at work, the primary is killed. Exit code 0 if the clock
 * stayed within 20 ms and never went back.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { numberFrom } from '../../src/cli/count-argument.ts'
import { freePort, writeRedisVm } from '../../src/host/redis-vm.ts'
import { developerCommand, runDeveloperCommand } from '../support/developer-command.ts'
import { endWithThisProcess } from '../support/reaper.ts'
import { boundMs, type TrialStep, trialHolds, tryClock } from './clock-trial.ts'

interface Options {
  readonly minutes: number
  readonly guest?: string
  readonly json?: boolean
}

const command = developerCommand(
  'node test/system/clock-campaign.ts',
  "The guest's clock beside the host's, idle and under load in turns, through a kill of the primary.",
)
  .option('--minutes <N>', 'how long', numberFrom(0.1), 10)
  .option('--guest <FOLDER>', 'a guest that is built already')
  .option('--json', 'print the report as one object')

function stepsOf(minutes: number): TrialStep[] {
  const phaseSeconds = Math.min(30, minutes * 15)
  const phases = Math.round((minutes * 60) / phaseSeconds)
  // The kill comes right after a phase of load.
  const killAfter = 2 * Math.ceil(phases / 4)
  return Array.from({ length: phases }, (_, index): TrialStep[] => {
    const phase: TrialStep = { kind: index % 2 === 0 ? 'idle' : 'load', seconds: phaseSeconds }
    return index + 1 === killAfter ? [phase, { kind: 'failover' }] : [phase]
  }).flat()
}

await runDeveloperCommand<Options>(command, async ({ minutes, guest, json }) => {
  endWithThisProcess()
  const folder = mkdtempSync(join(tmpdir(), 'understudy-clock-'))
  process.env.XDG_STATE_HOME = join(folder, 'state')
  try {
    const port = await freePort()
    const vm = await writeRedisVm(folder, `clock-${process.pid}`, port, { guestFolder: guest })
    const report = await tryClock(vm, port, stepsOf(minutes), (text) => console.error(text))
    if (json) console.log(JSON.stringify(report))
    else {
      console.log(
        `${report.samples} readings in ${report.minutes} minutes: off by at most ${report.worst_offset_ms} ms, certainly ` +
          `no more than ${report.worst_certain_error_ms} ms (bound ${boundMs} ms), went back ${report.went_back} times`,
      )
    }
    process.exitCode = trialHolds(report) ? 0 : 1
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
