/**
 * The hart's thread: a machine behind a Recorder or a Replayer, driven as fast as it goes.
 *
 * This thread is the one place where the machine meets the host's clock and randomness (live-hart.ts): both become log
 * entries there, before the machine sees them. Nothing is awaited: the thread looks at its doorbell between slices, and sleeps on it when the
 * guest waits (WFI), when the log has nothing more to replay, and while it is paused.
 */

import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { WorldError } from '../../base/assert.ts'
import { createEngine } from '../../engine/wasm-engine.ts'
import { EpochBackup } from '../../hypervisor/epoch/epoch-backup.ts'
import { EpochPrimary } from '../../hypervisor/epoch/epoch-primary.ts'
import { openState } from '../../hypervisor/live-copy.ts'
import { Recorder } from '../../hypervisor/recorder.ts'
import { Replayer } from '../../hypervisor/replayer.ts'
import type { MarkedOutput } from '../../log/entry.ts'
import { type CreateEngine, createMachine } from '../../machine/machine.ts'
import type { Machine } from '../../machine/types.ts'
import { DelayHistogram } from '../delay-histogram.ts'
import { EpochHart } from '../epoch-hart.ts'
import { ExactHart } from '../exact-hart.ts'
import { type DiskRequest, type FromHart, type HartSettings, progressCell, type ToHart } from '../hart-messages.ts'
import type { HartMode, HartThread, LiveHart, Turn } from '../live-hart.ts'
import { Profiler } from '../profiler.ts'

const replaySliceInstructions = 500_000n

const settings = workerData as HartSettings
const port = parentPort as MessagePort
const doorbell = new Int32Array(settings.doorbell)
const resting = new Int32Array(new SharedArrayBuffer(4))
const progress = new BigInt64Array(settings.progress)
const frameDelays = new DelayHistogram(settings.frameDelays)

function post(message: FromHart, transfer: readonly ArrayBuffer[] = []): void {
  port.postMessage(message, [...transfer])
}

function showProgress(of: Machine): void {
  Atomics.store(progress, progressCell.instructions, of.count)
  Atomics.store(progress, progressCell.ticks, of.ticks)
  Atomics.store(progress, progressCell.powerButtonDriver, of.hasPowerButtonDriver ? 1n : 0n)
}

const thread: HartThread = {
  settings,
  frameDelays,
  post,
  showProgress,
  isRung: () => Atomics.load(doorbell, 0) !== rung,
  acknowledgedEnd: () => Atomics.load(progress, progressCell.acknowledgedEnd),
}

function newLiveHart(recorder: Recorder): LiveHart {
  const { discipline } = settings
  if (discipline.kind === 'exact') return new ExactHart(recorder, thread)
  return new EpochHart(new EpochPrimary(recorder, discipline), thread)
}

/** Reads the log: the machine runs exactly as far as the log reaches. */
class Replaying implements HartMode {
  #replayer: Replayer
  /** In the epoch discipline. */
  #epochs: EpochBackup | undefined
  #reported = -1n
  #mayGoLive = false
  #isFinished = false
  readonly #early: ToHart[] = []

  constructor(replayer: Replayer) {
    this.#replayer = replayer
    if (settings.discipline.kind === 'epoch') this.#epochs = new EpochBackup(replayer)
  }

  onMessage(message: ToHart): void {
    if (this.#isFinished) return
    if (message.kind === 'append') this.#replayer.append(message.batch)
    if (message.kind === 'loadPages') this.#restore(() => this.#loadPages(message.bytes))
    if (message.kind === 'loadState') this.#restore(() => this.#loadState(message.state))
    if (message.kind === 'goLive') {
      this.#mayGoLive = true
      this.#epochs?.promote()
    }
    // The world may speak before the last turn of the replay is done: its words wait.
    if (message.kind !== 'input') return
    if (this.#epochs) this.#epochs.onInterrupt(message.input)
    else this.#early.push(message)
  }

  #loadPages(bytes: Uint8Array): void {
    this.#replayer.machine.loadPages(bytes)
    post({ kind: 'pagesLoaded', bytes: bytes.length })
  }

  #loadState(state: Uint8Array): void {
    const { machine } = this.#replayer
    this.#replayer = openState(machine, state)
    if (this.#epochs) this.#epochs = new EpochBackup(this.#replayer)
    post({ kind: 'restored', inFlight: machine.inFlightDiskRequests() })
  }

  /** What comes is the primary's word: if it is wrong, this replica ends in good order. */
  #restore(load: () => void): void {
    try {
      load()
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      this.#isFinished = true
      post({ kind: 'restoreFailed', detail: error.message })
    }
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
      mode = this.#goLive()
      return 'again'
    }
    return { sleepUntilNs: undefined }
  }

  #goLive(): LiveHart {
    const { discipline } = settings
    let gone: { readonly outputs: readonly MarkedOutput[]; readonly reissue: readonly DiskRequest[] }
    let live: LiveHart
    if (this.#epochs && discipline.kind === 'epoch') {
      const failover = this.#epochs.failOver(discipline)
      live = new EpochHart(failover.primary, thread)
      gone = failover
    } else {
      const goneLive = this.#replayer.goLive()
      live = new ExactHart(goneLive.recorder, thread)
      gone = goneLive
    }
    post({ kind: 'live', reissue: gone.reissue })
    live.goOn(gone.outputs)
    for (const message of this.#early) live.onMessage(message)
    return live
  }
}

const translation = settings.engine === 'interpret' ? 'off' : {}
const profiler = settings.isProfiled ? new Profiler(translation) : undefined
const createOwnEngine: CreateEngine = ({ ramBytes, bus }) => createEngine({ ramBytes, bus, translation })
const machine = createMachine(settings.config, settings.image, profiler?.createEngine ?? createOwnEngine)
let mode: HartMode =
  settings.mode === 'live' ? newLiveHart(new Recorder(machine)) : new Replaying(new Replayer(machine))
/** The doorbell's count when the present turn began. */
let rung = 0
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
  rung = Atomics.load(doorbell, 0)
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
