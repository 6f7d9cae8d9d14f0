/**
 * How long an arriving frame waits for its log entry while the guest works, and what an idle machine costs:
 * `npm run bench:latency -- --help`.
 *
 * A shell in the guest spins, so the hart never waits; beside it clients send PING to Redis, a thousand or so a second.
 * The replica itself measures each frame: from the moment its main thread has it to its entry in the log (`frameDelays` of
 * `status`). Not in it is the way from the client to the replica. Idle is CPU time of all processes of the machine
 * while the guest has nothing to do: replicas, disk server, LAN and its gateway, and a monitor if there is one, some time
 * after the boot.
 */

import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Option } from 'commander'
import { numberFrom } from '../src/cli/count-argument.ts'
import type { DelaySummary } from '../src/host/delay-histogram.ts'
import { bringUp, takeDown } from '../src/host/local-pair.ts'
import { waitForRedis } from '../src/host/redis-load.ts'
import { freePort, writeRedisVm } from '../src/host/redis-vm.ts'
import { readVmConfig } from '../src/host/vm-config.ts'
import { replicaPids, VmFolder } from '../src/host/vm-folder.ts'
import { launcher } from '../test/support/launcher.ts'
import { ConsoleProcess } from '../test/system/console-process.ts'
import { liveReplica, typeOnConsole } from '../test/system/guest-console.ts'
import { type BenchOptions, benchCommand, benchOptions, type Measured, runBench } from './support/bench-command.ts'
import { cpuSeconds } from './support/cpu-time.ts'
import { round2 } from './support/figures.ts'
import { runPacedClients } from './support/paced-clients.ts'

const modes = ['unprotected', 'protected'] as const

interface Options extends BenchOptions {
  readonly seconds: number
  readonly settle: number
}

const name = 'bench:latency'
const command = benchCommand(
  name,
  'What an arriving frame waits for while the guest works, and what an idle machine costs.',
  [
    new Option('--seconds <N>', 'how long to look at the idle machine, and again at the busy one')
      .argParser(numberFrom(1))
      .default(30),
    new Option('--settle <N>', 'seconds between boot and idle: until what an idle guest runs is translated')
      .argParser(numberFrom(0))
      .default(60),
    benchOptions.only('only this VM', modes),
    benchOptions.guest(),
    benchOptions.write(),
    benchOptions.json(
      '"seconds","settle","figures":[{"mode","idle_seconds_after_boot","idle_replicas_percent","idle_all_percent",' +
        '"busy_frames":{"count","medianMs","p99Ms"},"busy_mips","busy_pings_per_second"},…]',
      'percent of one core; all: replicas, disk server, LAN, gateway and monitor',
    ),
  ],
)

const bootWithinMs = 300_000
const clients = 4

interface Figures {
  readonly mode: (typeof modes)[number]
  /** From the guest's first answer to the begin of the idle time. */
  readonly idle_seconds_after_boot: number
  /** Share of one core, in percent: the replicas, and with them disk server, LAN, gateway and monitor. */
  readonly idle_replicas_percent: number
  readonly idle_all_percent: number
  readonly busy_frames: DelaySummary
  readonly busy_mips: number
  /** Client's view of the same time. */
  readonly busy_pings_per_second: number
}

async function measureVm(
  vm: string,
  port: number,
  mode: Figures['mode'],
  times: { readonly seconds: number; readonly settle: number },
): Promise<Figures> {
  const { seconds, settle } = times
  await bringUp(vm, { protect: mode === 'protected', onProgress: () => {} })
  try {
    // Not by asking the port: passt spins for minutes on a connection that its client gave up before the guest was there.
    await consoleShows(vm, /GUEST-READY/)
    await waitForRedis(port, bootWithinMs)
    const bootedMs = performance.now()
    await sleep(settle * 1000)
    const run = new VmFolder(readVmConfig(vm).config.name).requireRun()
    const ofReplicas = replicaPids(run)
    const pids = [...ofReplicas, run.diskServerPid, run.lanPid, run.monitorPid].filter((pid) => pid > 0)
    const afterBoot = (performance.now() - bootedMs) / 1000
    const before = pids.map((pid) => cpuSeconds(pid))
    await sleep(seconds * 1000)
    const idle = pids.map((pid, index) => ((cpuSeconds(pid) - before[index]!) / seconds) * 100)
    const total = (percents: readonly number[]): number => round2(percents.reduce((sum, one) => sum + one, 0))

    await typeOnConsole(vm, 'while :; do :; done & spinner=$!')
    const first = await liveReplica(vm)
    const pings = await runPacedClients(port, clients, seconds, 'PING')
    const last = await liveReplica(vm)
    return {
      mode,
      idle_seconds_after_boot: round2(afterBoot),
      idle_replicas_percent: total(idle.slice(0, ofReplicas.length)),
      idle_all_percent: total(idle),
      busy_frames: last.frameDelays,
      busy_mips: Math.round((last.instructions - first.instructions) / seconds / 1e6),
      busy_pings_per_second: Math.round(pings / seconds),
    }
  } finally {
    await takeDown(vm)
  }
}

async function consoleShows(vm: string, pattern: RegExp): Promise<void> {
  const console = new ConsoleProcess(launcher, ['console', '--watch', vm])
  try {
    await console.shows(pattern)
  } finally {
    console.process.kill('SIGTERM')
  }
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

async function measure({ seconds, settle, only, guest }: Options, folder: string): Promise<Measured> {
  const figures: Figures[] = []
  for (const mode of modes.filter((one) => only?.includes(one) ?? true)) {
    const port = await freePort()
    const vm = await writeRedisVm(join(folder, mode), `latency-${process.pid}`, port, { guestFolder: guest })
    figures.push(await measureVm(vm, port, mode, { seconds, settle }))
  }
  return {
    details: `${seconds} s idle, ${settle} s after the boot, and ${seconds} s busy`,
    text: table(figures),
    figures: { seconds, settle, figures },
  }
}

await runBench<Options>(name, command, measure)
