/**
 * The long form of the clock's test:
 *
 *     node test/system/clock-campaign.ts [--minutes 10] [--guest FOLDER] [--json]
 *
 * Idle and load take turns of half a minute; in the middle, at work, the primary is killed. Exit code 0 if the clock
 * stayed within 20 ms and never went back.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { freePort, writeRedisVm } from '../../src/host/redis-vm.ts'
import { endWithThisProcess } from '../support/reaper.ts'
import { boundMs, type TrialStep, trialHolds, tryClock } from './clock-trial.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    guest: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const minutes = Number(values.minutes)
const phaseSeconds = Math.min(30, minutes * 15)

function steps(): TrialStep[] {
  const phases = Math.round((minutes * 60) / phaseSeconds)
  // The kill comes right after a phase of load.
  const killAfter = 2 * Math.ceil(phases / 4)
  return Array.from({ length: phases }, (_, index): TrialStep[] => {
    const phase: TrialStep = { kind: index % 2 === 0 ? 'idle' : 'load', seconds: phaseSeconds }
    return index + 1 === killAfter ? [phase, { kind: 'failover' }] : [phase]
  }).flat()
}

endWithThisProcess()
const folder = mkdtempSync(join(tmpdir(), 'understudy-clock-'))
process.env.XDG_STATE_HOME = join(folder, 'state')
try {
  const port = await freePort()
  const vm = await writeRedisVm(folder, `clock-${process.pid}`, port, { guestFolder: values.guest })
  const report = await tryClock(vm, port, steps(), (text) => console.error(text))
  if (values.json) console.log(JSON.stringify(report))
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
