/**
 * Fake time: what is going to happen, and when. Nothing in a simulation happens but from here, one thing at a time, in the
 * order of time and, at equal times, in the order of asking. So a run is a function of its seed alone.
 */

import { assert } from '../base/assert.ts'

interface Happening {
  readonly atUs: number
  readonly order: number
  readonly run: () => void
}

export class Timeline {
  /** A binary heap, the next one first. */
  readonly #heap: Happening[] = []
  #nextOrder = 0
  #nowUs = 0

  /** Microseconds since the simulation began. */
  get nowUs(): number {
    return this.#nowUs
  }

  /** Milliseconds since the simulation began. */
  get nowMs(): number {
    return this.#nowUs / 1000
  }

  at(atUs: number, run: () => void): void {
    assert(atUs >= this.#nowUs, 'nothing happens in the past')
    const heap = this.#heap
    const happening: Happening = { atUs, order: this.#nextOrder++, run }
    let index = heap.length
    heap.push(happening)
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!isBefore(happening, heap[parent]!)) break
      heap[index] = heap[parent]!
      index = parent
    }
    heap[index] = happening
  }

  after(delayUs: number, run: () => void): void {
    this.at(this.#nowUs + delayUs, run)
  }

  /** Lets everything happen up to this time, or until `isOver`. */
  runUntil(endUs: number, isOver: () => boolean = () => false): void {
    while (this.#heap.length > 0 && this.#heap[0]!.atUs <= endUs) {
      const next = this.#take()
      this.#nowUs = next.atUs
      next.run()
      if (isOver()) return
    }
    this.#nowUs = endUs
  }

  #take(): Happening {
    const heap = this.#heap
    const first = heap[0]!
    const last = heap.pop()!
    const length = heap.length
    if (length === 0) return first
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= length) break
      if (child + 1 < length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[index] = heap[child]!
      index = child
    }
    heap[index] = last
    return first
  }
}

function isBefore(a: Happening, b: Happening): boolean {
  return a.atUs < b.atUs || (a.atUs === b.atUs && a.order < b.order)
}
