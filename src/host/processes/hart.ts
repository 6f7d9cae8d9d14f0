/**
 * The hart's thread: a machine that a `HartDriver` drives as fast as it goes.
 *
 * This thread is the one place where the machine meets the host's clock and randomness: both become log entries (replica/live-hart.ts)
 * before the machine sees them. Nothing is awaited: the thread looks at its doorbell between slices, and sleeps on it when the
 * guest waits (WFI), when the log has nothing more to replay, and while it is paused.
 */

import { getRandomValues } from 'node:crypto'
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { createEngine } from '../../engine/wasm-engine.ts'
import { logIndex } from '../../log/entry.ts'
import { type CreateEngine, createMachine } from '../../machine/machine.ts'
import { HartDriver } from '../../replica/hart-driver.ts'
import { defaultHartPolicy, type HartWorld } from '../../replica/hart-world.ts'
import { DelayHistogram } from '../delay-histogram.ts'
import {
  type FromHartThread,
  type HartSettings,
  nobodyAcknowledges,
  progressCell,
  type ToHartThread,
} from '../hart-messages.ts'
import { Profiler } from '../profiler.ts'

const settings = workerData as HartSettings
const port = parentPort as MessagePort
const doorbell = new Int32Array(settings.doorbell)
const resting = new Int32Array(new SharedArrayBuffer(4))
const progress = new BigInt64Array(settings.progress)
const frameDelays = new DelayHistogram(settings.frameDelays)

function post(message: FromHartThread, transfer: readonly ArrayBuffer[] = []): void {
  port.postMessage(message, [...transfer])
}

const { discipline, digestEveryMs } = settings
const world: HartWorld = {
  policy: defaultHartPolicy,
  discipline,
  digestEveryMs,
  nowNs: () => process.hrtime.bigint(),
  wallClockNs: () => BigInt(Date.now()) * 1_000_000n,
  randomBytes: (lengthBytes) => getRandomValues(new Uint8Array(lengthBytes)),
  post,
  showProgress(of) {
    Atomics.store(progress, progressCell.instructions, of.count)
    Atomics.store(progress, progressCell.ticks, of.ticks)
    Atomics.store(progress, progressCell.powerButtonDriver, of.hasPowerButtonDriver ? 1n : 0n)
  },
  showDigestsCompared: (digests) => void Atomics.store(progress, progressCell.digestsCompared, digests),
  onFrameEntered: (delayNs) => frameDelays.add(delayNs),
  isRung: () => Atomics.load(doorbell, 0) !== rung,
  acknowledgedEnd() {
    const end = Atomics.load(progress, progressCell.acknowledgedEnd)
    return end === nobodyAcknowledges ? undefined : logIndex(end)
  },
}

const translation = settings.engine === 'interpret' ? 'off' : {}
const profiler = settings.isProfiled ? new Profiler(translation) : undefined
const createOwnEngine: CreateEngine = ({ ramBytes, bus }) => createEngine({ ramBytes, bus, translation })
const machine = createMachine(settings.config, settings.image, profiler?.createEngine ?? createOwnEngine)
const driver = new HartDriver(machine, settings.mode, world)
/** The doorbell's count when the present turn began. */
let rung = 0
let isStopped = false

function drainMessages(): void {
  for (let received = receiveMessageOnPort(port); received; received = receiveMessageOnPort(port)) {
    const message = received.message as ToHartThread
    if (message.kind === 'stop') isStopped = true
    else if (message.kind === 'fault') fail(message.fault)
    else driver.onMessage(message)
  }
}

/** Fault trials: what a bug of ours could do to this thread. */
function fail(fault: 'die' | 'hang'): void {
  if (fault === 'die') throw new Error('a fault was injected')
  Atomics.wait(resting, 0, 0)
}

for (;;) {
  rung = Atomics.load(doorbell, 0)
  Atomics.add(progress, progressCell.turns, 1n)
  drainMessages()
  if (isStopped) break
  const turn = driver.turn()
  if (turn === 'again') continue
  if ('restNs' in turn) {
    Atomics.wait(resting, 0, 0, Number(turn.restNs) / 1e6)
  } else if (turn.sleepUntilNs === undefined) {
    Atomics.wait(doorbell, 0, rung)
  } else {
    const sleepNs = turn.sleepUntilNs - process.hrtime.bigint()
    if (sleepNs > 0n) Atomics.wait(doorbell, 0, rung, Number(sleepNs) / 1e6)
  }
}
if (profiler) post({ kind: 'profile', profile: profiler.profile })
port.close()
