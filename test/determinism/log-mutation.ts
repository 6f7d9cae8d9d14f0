/**
 * Logs that are wrong in one entry: what proves that a replay's verdict is worth something.
 *
 * A dropped input must always show. An input that is one instruction late must show unless it makes no difference: a
 * frame that arrives while the guest has its interrupts off leaves the same machine behind the next instruction, either
 * way. Whether it does is found out by trying both ways from the same position, and comparing digests.
 */

import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import { Prng } from '../../src/base/prng.ts'
import type { EntryBody, LogEntry } from '../../src/log/entry.ts'
import { type Input, type InputKind, instructionCount, type Machine } from '../../src/machine/types.ts'
import { assertReplays, replay } from './replay.ts'

/** Another log, or undefined if it cannot be made at this place. */
type LogMutation = (entries: readonly LogEntry[], position: number) => LogEntry[] | undefined

const dropEntry: LogMutation = (entries, position) => entries.toSpliced(position, 1)

/** One instruction later, if no other entry stands in between. */
const delayEntry: LogMutation = (entries, position) => {
  const entry = entries[position]!
  const next = entries[position + 1]
  if (next === undefined || next.count <= entry.count) return undefined
  return entries.with(position, { ...entry, count: instructionCount(entry.count + 1n) })
}

/** Runs a machine through the entries before `position`, and to that entry's count. */
function machineBefore(entries: readonly LogEntry[], position: number, newMachine: () => Machine): Machine {
  const machine = newMachine()
  if (position > 0) assertReplays(entries.slice(0, position), machine, { nextSlice: () => 1_000_000_000n })
  machine.run(entries[position]!.count)
  return machine
}

function isInput(body: EntryBody): body is Input {
  return body.kind !== 'marker' && body.kind !== 'digest' && body.kind !== 'epochEnd'
}

/** Whether the machine one instruction behind an input is the same if the input comes behind that instruction. */
function isSameLate(entries: readonly LogEntry[], position: number, newMachine: () => Machine): boolean {
  const { body, count } = entries[position]!
  assert.ok(isInput(body), 'only inputs are delayed')
  const next = instructionCount(count + 1n)
  const onTime = machineBefore(entries, position, newMachine)
  onTime.apply(body)
  onTime.run(next)
  const expected = { count: onTime.count, outputs: onTime.takeOutputs(), digest: onTime.digest() }
  const late = machineBefore(entries, position, newMachine)
  late.run(next)
  // An output of that instruction would stand in front of the late input.
  if (late.takeOutputs().length > 0) return false
  late.apply(body)
  return isDeepStrictEqual({ count: late.count, outputs: late.takeOutputs(), digest: late.digest() }, expected)
}

interface Noticed {
  /** Mutations that must be noticed. */
  readonly tried: number
  /** How many of them were: the replay diverged at or behind the mutated entry. */
  readonly noticed: number
}

/** Picks entries of one kind that `isTried` wants, mutates each alone, and replays from before the first entry. */
function tryMutations(
  entries: readonly LogEntry[],
  newMachine: () => Machine,
  kind: InputKind,
  wanted: number,
  mutate: LogMutation,
  isTried: (position: number) => boolean,
): Noticed {
  const prng = new Prng(99)
  const places = entries.flatMap(({ body }, position) => (body.kind === kind ? [position] : []))
  let [tried, noticed] = [0, 0]
  for (let attempt = 0; tried < wanted && attempt < 50 * wanted; attempt++) {
    const position = prng.pick(places)
    const mutated = mutate(entries, position)
    if (mutated === undefined || !isTried(position)) continue
    tried++
    const { divergence } = replay(mutated, newMachine(), { nextSlice: () => 1_000_000n })
    if (divergence && divergence.index >= entries[position]!.index) noticed++
  }
  return { tried, noticed }
}

type TryEntries = (entries: readonly LogEntry[], newMachine: () => Machine, kind: InputKind, wanted: number) => Noticed

export const tryDroppedEntries: TryEntries = (entries, newMachine, kind, wanted) =>
  tryMutations(entries, newMachine, kind, wanted, dropEntry, () => true)

/** Only entries that make a difference when they are late. */
export const tryDelayedEntries: TryEntries = (entries, newMachine, kind, wanted) =>
  tryMutations(entries, newMachine, kind, wanted, delayEntry, (position) => !isSameLate(entries, position, newMachine))
