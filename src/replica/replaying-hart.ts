/** A hart that reads the log: the machine runs exactly as far as the log reaches, and goes live where it ends. */

import { WorldError } from '../base/assert.ts'
import { EpochBackup } from '../hypervisor/epoch/epoch-backup.ts'
import { openState } from '../hypervisor/live-copy.ts'
import type { NeededRead, Replayer } from '../hypervisor/replayer.ts'
import type { MarkedOutput, ReissuedRequest } from '../log/entry.ts'
import { EpochHart } from './epoch-hart.ts'
import { ExactHart } from './exact-hart.ts'
import type { ToHart } from './hart-messages.ts'
import type { HartMode, HartWorld, Turn } from './hart-world.ts'
import type { LiveHart } from './live-hart.ts'

export class ReplayingHart implements HartMode {
  readonly #world: HartWorld
  readonly #onLive: (live: LiveHart) => void
  #replayer: Replayer
  /** In the epoch discipline. */
  #epochs: EpochBackup | undefined
  #reported = -1n
  #reportedNeed: NeededRead | undefined
  #mayGoLive = false
  #isFinished = false
  readonly #early: ToHart[] = []

  /** @param onLive it has done all it can; the machine is this one's from now on */
  constructor(replayer: Replayer, world: HartWorld, onLive: (live: LiveHart) => void) {
    this.#replayer = replayer
    this.#world = world
    this.#onLive = onLive
    if (world.discipline.kind === 'epoch') this.#epochs = new EpochBackup(replayer)
  }

  onMessage(message: ToHart): void {
    if (this.#isFinished) return
    if (message.kind === 'append') this.#replayer.append(message.batch)
    if (message.kind === 'read') this.#replayer.provide(message.sequence, message.data)
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
    this.#world.post({ kind: 'pagesLoaded', bytes: bytes.length })
  }

  #loadState(state: Uint8Array): void {
    const { machine } = this.#replayer
    this.#replayer = openState(machine, state)
    if (this.#epochs) this.#epochs = new EpochBackup(this.#replayer)
    this.#world.post({ kind: 'restored', inFlight: machine.inFlightDiskRequests() })
  }

  /** What comes is the primary's word: if it is wrong, this replica ends in good order. */
  #restore(load: () => void): void {
    try {
      load()
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      this.#isFinished = true
      this.#world.post({ kind: 'restoreFailed', detail: error.message })
    }
  }

  turn(): Turn {
    if (this.#isFinished) return { sleepUntilNs: undefined }
    const world = this.#world
    const replayer = this.#replayer
    const { state, outputs, diskAnswers } = replayer.run(world.policy.replaySliceInstructions)
    world.showDigestsCompared(replayer.digestsCompared)
    world.showProgress(replayer.machine)
    const { replayedEnd } = replayer
    const need = state.kind === 'needsRead' ? state.need : undefined
    if (outputs.length > 0 || replayedEnd !== this.#reported || need !== this.#reportedNeed) {
      this.#reported = replayedEnd
      this.#reportedNeed = need
      world.post({ kind: 'replayed', replayedEnd, outputs, diskAnswers, need })
    }
    if (state.kind === 'diverged') {
      this.#isFinished = true
      world.post({ kind: 'diverged', divergence: state.divergence })
      return { sleepUntilNs: undefined }
    }
    if (state.kind === 'progress') return 'again'
    if (!this.#mayGoLive || need) return { sleepUntilNs: undefined }
    this.#goLive()
    return 'again'
  }

  #goLive(): void {
    const world = this.#world
    const { discipline } = world
    let gone: { readonly outputs: readonly MarkedOutput[]; readonly reissue: readonly ReissuedRequest[] }
    let live: LiveHart
    if (this.#epochs && discipline.kind === 'epoch') {
      const failover = this.#epochs.failOver(discipline, world)
      live = new EpochHart(failover.primary, world)
      gone = failover
    } else {
      const goneLive = this.#replayer.goLive(world)
      live = new ExactHart(goneLive.recorder, world)
      gone = goneLive
    }
    world.post({ kind: 'live', reissue: gone.reissue })
    live.goOn(gone.outputs)
    for (const message of this.#early) live.onMessage(message)
    this.#onLive(live)
  }
}
