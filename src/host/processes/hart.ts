/**
 * The hart's thread: a machine behind a Recorder or a Replayer, driven as fast as it goes.
 *
 * This is the one place where the machine meets the host's clock and randomness: both become log entries here, before
 * the machine sees them. Nothing is awaited: the thread looks at its doorbell between slices, and sleeps on it when the
 * guest waits (WFI), when the log has nothing more to replay, and while it is paused.
 */

import { getRandomValues } from 'node:crypto'
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { createEngine } from '../../engine/wasm-engine.ts'
import { ClockKeeper, defaultClockPolicy, type HostTime } from '../../hypervisor/clock-keeper.ts'
import { Recorder } from '../../hypervisor/recorder.ts'
import { Replayer } from '../../hypervisor/replayer.ts'
import type { MarkedOutput } from '../../log/entry.ts'
import { type CreateEngine, createMachine } from '../../machine/machine.ts'
import { type Input, instructionCount, type Machine, type StopReason } from '../../machine/types.ts'
import { DelayHistogram } from '../delay-histogram.ts'
import { type FromHart, type HartSettings, progressCell, type ToHart } from '../hart-messages.ts'
import { Profiler } from '../profiler.ts'
import { SlicePacer } from '../slice-pacer.ts'

const replaySliceInstructions = 500_000n

const settings = workerData as HartSettings
const port = parentPort as MessagePort
const doorbell = new Int32Array(settings.doorbell)
const resting = new Int32Array(new SharedArrayBuffer(4))
const progress = new BigInt64Array(settings.progress)
const frameDelays = new DelayHistogram(settings.frameDelays)

function post(message: FromHart): void {
  port.postMessage(message)
}

function showProgress(of: Machine): void {
  Atomics.store(progress, progressCell.instructions, of.count)
  Atomics.store(progress, progressCell.ticks, of.ticks)
  Atomics.store(progress, progressCell.powerButtonDriver, of.hasPowerButtonDriver ? 1n : 0n)
}

function hostTime(): HostTime {
  return { monotonicNs: process.hrtime.bigint(), wallClockNs: BigInt(Date.now()) * 1_000_000n }
}

/** What a turn asks for: another one at once, or none before this host time (ns) unless the doorbell rings. */
type Turn = 'again' | { readonly sleepUntilNs: bigint | undefined }

interface Mode {
  onMessage(message: ToHart): void
  turn(): Turn
}

/** Writes the log: the machine runs from live devices. */
class Live implements Mode {
  readonly #recorder: Recorder
  readonly #pacer = new SlicePacer()
  #keeper: ClockKeeper | undefined
  #outputs: MarkedOutput[] = []
  #stop: StopReason = { kind: 'off' }
  #nextDigestNs = 0n
  #nextResyncNs = 0n

  constructor(recorder: Recorder) {
    this.#recorder = recorder
  }

  powerOn(): void {
    this.#apply({ kind: 'boot', rngSeed: getRandomValues(new Uint8Array(64)), wallClockNs: hostTime().wallClockNs })
    this.#startClock()
  }

  /** Takes over where the log ends: the clock goes on, and what the log left unanswered is answered. */
  goOn(outputs: readonly MarkedOutput[]): void {
    if (this.#recorder.nextIndex === 0n) {
      // The log begins with the power-on, and its writer died before that had reached anybody.
      this.powerOn()
      return
    }
    this.#startClock()
    const { entropyRequests, powerRequest } = this.#recorder.obligations
    for (const request of [...entropyRequests]) this.#answerEntropy(request.lengthBytes)
    if (powerRequest) this.#onPower(powerRequest.action, powerRequest.failed)
    this.#handle(outputs.filter(({ output }) => output.kind !== 'entropyRequest' && output.kind !== 'power'))
    this.#stop = { kind: 'count' }
  }

  onMessage(message: ToHart): void {
    if (message.kind === 'powerOn') this.powerOn()
    if (message.kind !== 'input') return
    if (this.#stop.kind === 'waiting') {
      const entry = this.#keeper?.entryBeforeInput(process.hrtime.bigint(), this.#recorder.machine.ticks)
      if (entry) this.#apply(entry)
    }
    this.#apply(message.input)
    if (message.input.kind === 'frame') frameDelays.add(process.hrtime.bigint() - message.arrivedNs)
  }

  turn(): Turn {
    const { machine } = this.#recorder
    const keeper = this.#keeper
    if (!keeper || this.#stop.kind === 'off') {
      this.#flush()
      return { sleepUntilNs: undefined }
    }
    const before = process.hrtime.bigint()
    this.#keepTime(keeper, before)
    const countBefore = machine.count
    const slice =
      this.#pacer.instructions < keeper.sliceInstructions ? this.#pacer.instructions : keeper.sliceInstructions
    const { stop, outputs } = this.#recorder.run(instructionCount(countBefore + slice))
    this.#stop = stop
    const after = process.hrtime.bigint()
    if (stop.kind !== 'waiting') {
      keeper.onRan(machine.count - countBefore, after - before)
      this.#pacer.onRan(machine.count - countBefore, after - before)
    }
    this.#handle(outputs)
    this.#flush()
    showProgress(machine)
    if (stop.kind !== 'waiting') return 'again'
    return { sleepUntilNs: keeper.sleepUntilNs(after, machine.ticks, stop.deadline) }
  }

  /** The entries that host time asks for: clock, and at intervals the digest that backups compare. */
  #keepTime(keeper: ClockKeeper, nowNs: bigint): void {
    const { machine } = this.#recorder
    const entry =
      this.#stop.kind === 'waiting'
        ? keeper.entryWhileWaiting(nowNs, machine.ticks, this.#stop.deadline)
        : keeper.entryWhileRunning(nowNs, machine.ticks)
    if (entry) this.#apply(entry)
    if (nowNs >= this.#nextResyncNs) {
      this.#nextResyncNs = nowNs + 1_000_000_000n
      if (machine.clockAnchor) keeper.resync(hostTime(), machine.clockAnchor)
    }
    if (nowNs >= this.#nextDigestNs) {
      this.#nextDigestNs = nowNs + BigInt(settings.digestEveryMs) * 1_000_000n
      this.#recorder.entryDigest()
    }
  }

  #startClock(): void {
    const { machine } = this.#recorder
    const anchor = machine.clockAnchor
    if (!anchor) return
    const now = hostTime()
    this.#keeper = new ClockKeeper(anchor, machine.ticks, now, settings.clockPolicy ?? defaultClockPolicy)
    this.#nextResyncNs = now.monotonicNs + 1_000_000_000n
    this.#nextDigestNs = now.monotonicNs + BigInt(settings.digestEveryMs) * 1_000_000n
    const entry = this.#keeper.entryWhileRunning(now.monotonicNs, machine.ticks)
    if (entry) this.#apply(entry)
    this.#stop = { kind: 'count' }
  }

  #apply(input: Input): void {
    this.#handle(this.#recorder.apply(input))
  }

  #handle(outputs: readonly MarkedOutput[]): void {
    for (const marked of outputs) {
      const { output } = marked
      if (output.kind === 'entropyRequest') this.#answerEntropy(output.lengthBytes)
      else this.#outputs.push(marked)
      if (output.kind === 'power') this.#onPower(output.action, output.failed)
    }
  }

  #answerEntropy(lengthBytes: number): void {
    this.#apply({ kind: 'entropy', bytes: getRandomValues(new Uint8Array(lengthBytes)) })
  }

  #onPower(action: 'off' | 'reboot', failed: boolean): void {
    if (action === 'reboot') {
      this.powerOn()
      return
    }
    this.#stop = { kind: 'off' }
    this.#flush()
    post({ kind: 'off', failed })
  }

  /** The primary flushes at once: entries first, then the outputs that wait for them. */
  #flush(): void {
    const batches = this.#recorder.takeBatches()
    if (batches.length === 0 && this.#outputs.length === 0) return
    post({ kind: 'recorded', batches, outputs: this.#outputs, bytesByCause: { ...this.#recorder.bytesByCause } })
    this.#outputs = []
  }
}

/** Reads the log: the machine runs exactly as far as the log reaches. */
class Replaying implements Mode {
  readonly #replayer: Replayer
  #reported = -1n
  #mayGoLive = false
  #isFinished = false
  readonly #early: ToHart[] = []

  constructor(replayer: Replayer) {
    this.#replayer = replayer
  }

  onMessage(message: ToHart): void {
    if (message.kind === 'append') this.#replayer.append(message.batch)
    if (message.kind === 'goLive') this.#mayGoLive = true
    // The world may speak before the last turn of the replay is done: its words wait.
    if (message.kind === 'input') this.#early.push(message)
  }

  turn(): Turn {
    if (this.#isFinished) return { sleepUntilNs: undefined }
    const { state, outputs, diskAnswers } = this.#replayer.run(replaySliceInstructions)
    Atomics.store(progress, progressCell.digestsCompared, this.#replayer.digestsCompared)
    showProgress(this.#replayer.machine)
    if (outputs.length > 0 || this.#replayer.replayedEnd !== this.#reported) {
      this.#reported = this.#replayer.replayedEnd
      post({ kind: 'replayed', replayedEnd: this.#replayer.replayedEnd, outputs, diskAnswers })
    }
    if (state.kind === 'diverged') {
      this.#isFinished = true
      post({ kind: 'diverged', divergence: state.divergence })
      return { sleepUntilNs: undefined }
    }
    if (state.kind === 'progress') return 'again'
    if (this.#mayGoLive) {
      const { recorder, outputs: first, reissue } = this.#replayer.goLive()
      post({ kind: 'live', reissue })
      const live = new Live(recorder)
      live.goOn(first)
      for (const message of this.#early) live.onMessage(message)
      mode = live
      return 'again'
    }
    return { sleepUntilNs: undefined }
  }
}

const translation = settings.engine === 'interpret' ? 'off' : {}
const profiler = settings.isProfiled ? new Profiler(translation) : undefined
const createOwnEngine: CreateEngine = ({ ramBytes, bus }) => createEngine({ ramBytes, bus, translation })
const machine = createMachine(settings.config, settings.image, profiler?.createEngine ?? createOwnEngine)
let mode: Mode = settings.mode === 'live' ? new Live(new Recorder(machine)) : new Replaying(new Replayer(machine))
let isPaused = false
let cpuPercent = 100
let isStopped = false

function drainMessages(): void {
  for (let received = receiveMessageOnPort(port); received; received = receiveMessageOnPort(port)) {
    const message = received.message as ToHart
    if (message.kind === 'pause') isPaused = message.isPaused
    else if (message.kind === 'cpuPercent') cpuPercent = message.percent
    else if (message.kind === 'stop') isStopped = true
    else if (message.kind === 'fault') fail(message.fault)
    else mode.onMessage(message)
  }
}

/** Fault trials: what a bug of ours could do to this thread. */
function fail(fault: 'die' | 'hang'): void {
  if (fault === 'die') throw new Error('a fault was injected')
  Atomics.wait(resting, 0, 0)
}

/** Sleeps so long that the turn just done was `cpuPercent` of real time. Nothing wakes it: the log has to wait too. */
function rest(turnMs: number): void {
  Atomics.wait(resting, 0, 0, (turnMs * (100 - cpuPercent)) / cpuPercent)
}

for (;;) {
  const rung = Atomics.load(doorbell, 0)
  Atomics.add(progress, progressCell.turns, 1n)
  drainMessages()
  if (isStopped) break
  const startedNs = process.hrtime.bigint()
  const turn: Turn = isPaused ? { sleepUntilNs: undefined } : mode.turn()
  if (turn === 'again') {
    if (cpuPercent < 100) rest(Number(process.hrtime.bigint() - startedNs) / 1e6)
    continue
  }
  if (turn.sleepUntilNs === undefined) {
    Atomics.wait(doorbell, 0, rung)
  } else {
    const sleepNs = turn.sleepUntilNs - process.hrtime.bigint()
    if (sleepNs > 0n) Atomics.wait(doorbell, 0, rung, Number(sleepNs) / 1e6)
  }
}
if (profiler) post({ kind: 'profile', profile: profiler.profile })
port.close()
