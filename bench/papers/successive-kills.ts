/**
 * What `failover` measures: a protected VM under the fault trials' mixed load, whose primary is killed again and again,
 * each time after its redundancy has been restored by itself.
 *
 *   kill ──► the backup notices ──► the arbiter answers ──► the log is replayed ──► first frame … ──► protected again
 *
 * The parts are the survivor's own words, on the same host's clock as the kill.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { nowMs, type ReplicaStatus } from '../../src/host/replica-status.ts'
import type { FaultyVm } from '../../test/faults/faulty-vm.ts'
import { MixedLoad } from '../../test/faults/mixed-load.ts'
import { withFaultyVm } from '../support/faulty-guest.ts'
import type { Sample } from './samples.ts'

export interface KillTimes extends Sample {
  /** Until the backup has noticed. */
  readonly detectionMs: number
  /** Until the arbiter has answered it. */
  readonly arbitrationMs: number
  /** Until all that it acknowledged is replayed. */
  readonly replayMs: number
  /** Until its first frame left. */
  readonly firstOutputMs: number
  /** The sum. */
  readonly failoverMs: number
  /** The longest wait for an answer of the clients that waited for one, or asked, during the failover. */
  readonly stallMs: number
  /** The longest from then on, until the VM was protected again: the machine is copied meanwhile. */
  readonly copyingStallMs: number
  readonly protectedAgainMs: number
}

/** The load has been there for so long, and what it runs is translated, before the first kill. */
const warmUpMs = 5000
const protectedWithinMs = 60_000
const answersWithinMs = 30_000

/** @throws Error when a promise did not hold: the figures of such a run are worth nothing */
export async function killSuccessively(
  kills: number,
  memory: string,
  say: (line: string) => void,
  onKill: (times: KillTimes) => void,
): Promise<void> {
  await withFaultyVm({ automatic: true, memory }, say, async (vm) => {
    const load = new MixedLoad(vm.port, 1, (text) => vm.type(text), say)
    try {
      await load.adopt()
      await load.start()
      await sleep(warmUpMs)
      for (let done = 0; done < kills; done++) {
        // The moments of the load are as they come.
        await sleep(500 + 500 * Math.random())
        onKill(await killOnce(vm, load))
      }
      await load.stop(answersWithinMs)
      await load.verify()
      load.judgeConsole(vm.consoleText())
    } finally {
      load.closeConnections()
    }
    const wrong = await vm.powerOffAndCheck()
    const { lost, duplicated, resets } = load.findings
    if (lost + duplicated + resets + vm.divergences() > 0 || wrong !== undefined) {
      throw new Error(`the promises do not hold: ${JSON.stringify(load.findings)} ${wrong ?? ''}`)
    }
  })
}

async function killOnce(vm: FaultyVm, load: MixedLoad): Promise<KillTimes> {
  const { pid } = await vm.replicaIn('primary')
  load.startMeasuring()
  const [killedAt, killedAtOfDay] = [performance.now(), nowMs()]
  process.kill(pid, 'SIGKILL')
  const { failover } = await protectedAgain(vm, pid)
  const protectedAgainMs = performance.now() - killedAt
  if (failover?.firstOutputAt === undefined) throw new Error('the survivor has not told of its failover')
  const failoverMs = failover.firstOutputAt - killedAtOfDay
  return {
    detectionMs: failover.detectedAt - killedAtOfDay,
    arbitrationMs: failover.arbitratedAt - failover.detectedAt,
    replayMs: failover.replayedAt - failover.arbitratedAt,
    firstOutputMs: failover.firstOutputAt - failover.replayedAt,
    failoverMs,
    stallMs: load.longestWaitMs(killedAt, killedAt + failoverMs),
    copyingStallMs: load.longestWaitMs(killedAt + failoverMs, Number.POSITIVE_INFINITY),
    protectedAgainMs,
  }
}

async function protectedAgain(vm: FaultyVm, pidBefore: number): Promise<ReplicaStatus> {
  for (const until = performance.now() + protectedWithinMs; performance.now() < until; await sleep(50)) {
    const survivor = (await vm.statuses()).find(({ isProtected, pid }) => isProtected && pid !== pidBefore)
    if (survivor) return survivor
  }
  throw new Error(`not protected again within ${protectedWithinMs / 1000} s`)
}
