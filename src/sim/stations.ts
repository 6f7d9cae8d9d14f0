/**
 * Stations on the LAN: the workload, and a checker of its own. Each asks the guest to count, waits for the answer, asks again
 * if none comes, and looks whether the guest's count says what it must: nothing that was answered is lost, nothing is counted
 * twice.
 */

import type { Chance } from './chance.ts'
import type { Timeline } from './timeline.ts'
import { encodeRequest, readRequest } from './workload.ts'

interface Station {
  readonly mac: Uint8Array
  /** The request without an answer; the last one answered is one below. */
  id: number
  lastAnsweredMs: number
}

export interface StationsOptions {
  readonly timeline: Timeline
  readonly chance: Chance
  readonly machineMac: Uint8Array
  readonly thinkMs: number
  readonly send: (frame: Uint8Array) => void
  readonly onViolation: (what: string) => void
}

const askAgainMs = 120

export class Stations {
  readonly #options: StationsOptions
  readonly #stations = new Map<number, Station>()
  #isOver = false
  answers = 0

  /** @param first number of the first station: those of another run of the machine are others */
  constructor(options: StationsOptions, first: number, count: number) {
    this.#options = options
    for (let number = first; number < first + count; number++) {
      this.#stations.set(number, { mac: Uint8Array.of(6, 0, 0, 0, 1, number), id: 1, lastAnsweredMs: 0 })
      this.#later(() => this.#ask(number, 1))
    }
  }

  /** Whether every station was answered since. */
  haveBeenAnsweredSince(ms: number): boolean {
    for (const { lastAnsweredMs } of this.#stations.values()) if (lastAnsweredMs < ms) return false
    return true
  }

  stop(): void {
    this.#isOver = true
  }

  onFrame(frame: Uint8Array): void {
    const reply = readRequest(frame)
    const station = reply && this.#stations.get(reply.station)
    if (!reply || !station || reply.id !== station.id) return
    if (reply.count !== reply.id) {
      const lost = reply.count < reply.id
      this.#options.onViolation(
        `station ${reply.station}: the guest counts ${reply.count} of ${reply.id} requests: ` +
          (lost ? 'something acknowledged is lost' : 'something was done twice'),
      )
    }
    this.answers++
    station.id++
    station.lastAnsweredMs = this.#options.timeline.nowMs
    const { id } = station
    this.#later(() => this.#ask(reply.station, id))
  }

  #later(run: () => void): void {
    const { timeline, chance, thinkMs } = this.#options
    timeline.after(chance.below(2 * thinkMs * 1000), run)
  }

  #ask(number: number, id: number): void {
    const station = this.#stations.get(number)!
    if (this.#isOver || station.id !== id) return
    const { timeline, chance, machineMac, send } = this.#options
    timeline.after(20 + chance.below(200), () => send(encodeRequest(machineMac, station.mac, number, id)))
    timeline.after(askAgainMs * 1000, () => this.#ask(number, id))
  }
}
