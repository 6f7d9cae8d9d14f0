/**
 * A hart's turns: a machine behind a Recorder or a Replayer, driven as fast as it goes. Who has the thread calls `onMessage`
 * for whatever has come, then `turn`, and sleeps as that asks for. Nothing waits in here.
 */

import { Obligations } from '../hypervisor/obligations.ts'
import { Recorder } from '../hypervisor/recorder.ts'
import { Replayer } from '../hypervisor/replayer.ts'
import { logIndex } from '../log/entry.ts'
import type { Machine } from '../machine/types.ts'
import type { ToHart } from './hart-messages.ts'
import type { HartMode, HartWorld, Turn } from './hart-world.ts'
import { LiveHart } from './live-hart.ts'
import { newLiveHart } from './new-live-hart.ts'
import { ReplayingHart } from './replaying-hart.ts'

/** … or another turn after so long, whoever rings meanwhile: the log has to wait too. */
export type PacedTurn = Turn | { readonly restNs: bigint }

export class HartDriver {
  readonly #world: HartWorld
  #mode: HartMode
  #isPaused = false
  #cpuPercent = 100

  /** @param mode live: writes the log from the start; replaying: reads it */
  constructor(machine: Machine, mode: 'live' | 'replaying', world: HartWorld) {
    this.#world = world
    this.#mode =
      mode === 'live'
        ? newLiveHart(new Recorder(machine, logIndex(0n), new Obligations(), world), world)
        : new ReplayingHart(new Replayer(machine), world, (live) => {
            this.#mode = live
          })
  }

  /** Who writes the log; undefined while it is read. */
  get recorder(): Recorder | undefined {
    return this.#mode instanceof LiveHart ? this.#mode.recorder : undefined
  }

  onMessage(message: ToHart): void {
    if (message.kind === 'pause') this.#isPaused = message.isPaused
    else if (message.kind === 'cpuPercent') this.#cpuPercent = message.percent
    else this.#mode.onMessage(message)
  }

  turn(): PacedTurn {
    if (this.#isPaused) return { sleepUntilNs: undefined }
    if (this.#cpuPercent === 100) return this.#mode.turn()
    const startedNs = this.#world.nowNs()
    const turn = this.#mode.turn()
    if (turn !== 'again') return turn
    // So long that the turn was this share of real time.
    const tookNs = this.#world.nowNs() - startedNs
    return { restNs: (tookNs * BigInt(100 - this.#cpuPercent)) / BigInt(this.#cpuPercent) }
  }
}
