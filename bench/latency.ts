/**
 * How long an arriving frame waits for its log entry while the guest works, and what an idle machine costs:
 *
 *     node bench/latency.ts [--seconds 20] [--guest FOLDER] [--only unprotected|protected] [--json]
 *
 * A shell in the guest spins, so the hart never waits; beside it clients send PING to Redis, a thousand or so a second.
 * The replica itself measures each frame: from the moment its main thread has it to its entry in the log (`frameDelays` of
 * `status`). Not in it is the way from the client to the replica. Idle is CPU time of all processes of the machine
 * while the guest has nothing to do.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { DelaySummary } from '../src/host/delay-histogram.ts'
import { bringUp, takeDown } from '../src/host/local-pair.ts'
import { RedisConnection, waitForRedis } from '../src/host/redis-load.ts'
import { freePort, writeRedisVm } from '../src/host/redis-vm.ts'
import { readVmConfig } from '../src/host/vm-config.ts'
import { VmFolder } from '../src/host/vm-folder.ts'
import { liveReplica, typeOnConsole } from '../test/system/guest-console.ts'
import { cpuSeconds } from './support/cpu-time.ts'
import { round2 } from './support/figures.ts'
import { describeHost } from './support/host.ts'

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '20' },
    guest: { type: 'string' },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})

const bootWithinMs = 300_000
/** After the boot there is still something to do now and then. */
const settleMs = 5000
const clients = 4

interface Figures {
  readonly mode: 'unprotected' | 'protected'
  /** Share of one core, in percent: the replicas, and with them disk server, LAN and gateway. */
  readonly idle_replicas_percent: number
  readonly idle_all_percent: number
  readonly busy_frames: DelaySummary
  readonly busy_mips: number
  /** Client's view of the same time. */
  readonly busy_pings_per_second: number
}

async function measure(vm: string, port: number, mode: Figures['mode'], seconds: number): Promise<Figures> {
  await bringUp(vm, { protect: mode === 'protected', onProgress: () => {} })
  try {
    await waitForRedis(port, bootWithinMs)
    await sleep(settleMs)
    const { replicas, diskServerPid, lanPid } = new VmFolder(readVmConfig(vm).config.name).requireRun()
    const replicaPids = [replicas.a.pid, replicas.b.pid].filter((pid) => pid !== 0)
    const pids = [...replicaPids, diskServerPid, lanPid]
    const before = pids.map(cpuSeconds)
    await sleep(seconds * 1000)
    const idle = pids.map((pid, index) => ((cpuSeconds(pid) - before[index]!) / seconds) * 100)
    const total = (percents: readonly number[]): number => round2(percents.reduce((sum, one) => sum + one, 0))

    await typeOnConsole(vm, 'while :; do :; done & spinner=$!')
    const first = await liveReplica(vm)
    const pings = await pingFor(port, seconds)
    const last = await liveReplica(vm)
    return {
      mode,
      idle_replicas_percent: total(idle.slice(0, replicaPids.length)),
      idle_all_percent: total(idle),
      busy_frames: last.frameDelays,
      busy_mips: Math.round((last.instructions - first.instructions) / seconds / 1e6),
      busy_pings_per_second: Math.round(pings / seconds),
    }
  } finally {
    await takeDown(vm)
  }
}

/** Each client sends, waits for the answer, pauses a little. */
async function pingFor(port: number, seconds: number): Promise<number> {
  const end = performance.now() + seconds * 1000
  const client = async (): Promise<number> => {
    const connection = await RedisConnection.connect(port)
    let answers = 0
    while (performance.now() < end) {
      if ((await connection.command('PING')) === undefined) throw new Error('the connection was closed')
      answers++
      await sleep(1)
    }
    connection.close()
    return answers
  }
  const answers = await Promise.all(Array.from({ length: clients }, client))
  return answers.reduce((sum, one) => sum + one, 0)
}

function table(figures: readonly Figures[]): string {
  const lines = figures.map(
    ({ mode, busy_frames, busy_mips, busy_pings_per_second, idle_replicas_percent, idle_all_percent }) =>
      `| ${mode} | ${busy_frames.medianMs.toFixed(3)} | ${busy_frames.p99Ms.toFixed(3)} | ${busy_frames.count} ` +
      `| ${busy_mips} | ${busy_pings_per_second} | ${idle_replicas_percent.toFixed(1)} % | ${idle_all_percent.toFixed(1)} % |`,
  )
  return `| | frame to entry: median, ms | p99, ms | frames | MIPS | PING/s | idle: replicas | all processes |
|---|---:|---:|---:|---:|---:|---:|---:|
${lines.join('\n')}`
}

const folder = mkdtempSync(join(tmpdir(), 'understudy-bench-'))
process.env.XDG_STATE_HOME = join(folder, 'state')
try {
  const seconds = Number(options.seconds)
  const modes = (['unprotected', 'protected'] as const).filter((mode) => (options.only ?? mode) === mode)
  if (!(seconds >= 1) || modes.length === 0) throw new Error('--seconds takes a count, --only unprotected or protected')
  const figures: Figures[] = []
  for (const mode of modes) {
    const port = await freePort()
    const vm = await writeRedisVm(join(folder, mode), `latency-${process.pid}`, port, { guestFolder: options.guest })
    figures.push(await measure(vm, port, mode, seconds))
  }
  console.log(`${describeHost()}; ${seconds} s idle and ${seconds} s busy\n\n${table(figures)}`)
  if (options.json) console.log(JSON.stringify({ host: describeHost(), seconds, figures }))
} finally {
  rmSync(folder, { recursive: true, force: true })
}
