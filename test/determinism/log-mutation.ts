/**
 * Logs that are wrong in one entry: what proves that a replay's verdict is worth something.
 *
 * A dropped input must always show. An input that is one instruction late shows unless it cannot be told: a frame that
 * arrives while the guest has its interrupts off is seen when it turns them on, either way.
 */

import { Prng } from '../../src/base/prng.ts'
import type { LogEntry } from '../../src/log/entry.ts'
import { type InputKind, instructionCount, type Machine } from '../../src/machine/types.ts'
import { replay } from './replay.ts'

/** Another log, or undefined if it cannot be made at this place. */
export type LogMutation = (entries: readonly LogEntry[], position: number) => LogEntry[] | undefined

export const dropEntry: LogMutation = (entries, position) => entries.toSpliced(position, 1)

/** One instruction later, if no other entry stands in between. */
export const delayEntry: LogMutation = (entries, position) => {
  const entry = entries[position]!
  const next = entries[position + 1]
  if (next === undefined || next.count <= entry.count) return undefined
  return entries.with(position, { ...entry, count: instructionCount(entry.count + 1n) })
}

/**
 * Mutates entries of one kind, each alone, and replays from a machine that `newMachine` puts before the first entry.
 * `noticed` counts the divergences, all of which came at or behind the mutated entry.
 */
export function tryMutations(
  entries: readonly LogEntry[],
  newMachine: () => Machine,
  kind: InputKind,
  wanted: number,
  mutate: LogMutation,
): { readonly tried: number; readonly noticed: number } {
  const prng = new Prng(99)
  const places = entries.flatMap(({ body }, position) => (body.kind === kind ? [position] : []))
  let [tried, noticed] = [0, 0]
  for (let attempt = 0; tried < wanted && attempt < 50 * wanted; attempt++) {
    const position = prng.pick(places)
    const mutated = mutate(entries, position)
    if (mutated === undefined) continue
    tried++
    const { divergence } = replay(mutated, newMachine(), { nextSlice: () => 1_000_000n })
    if (divergence && divergence.index >= entries[position]!.index) noticed++
  }
  return { tried, noticed }
}
