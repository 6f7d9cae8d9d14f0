/** Small parts for tests of the protocol: batches, outputs, effects by kind. */

import { BatchBuilder, type LogBatch } from '../../src/log/batch.ts'
import { exactDiscipline } from '../../src/log/discipline.ts'
import { type EntryBody, type LogEnd, logIndex, type MarkedOutput, type Output } from '../../src/log/entry.ts'
import type { MachineIdentity } from '../../src/log/identity.ts'
import { instructionCount } from '../../src/machine/types.ts'
import type { Hello } from '../../src/replication/hello.ts'
import type { Message, Sibling } from '../../src/replication/messages.ts'

export const identity: MachineIdentity = {
  machine: 'shop',
  instructionTableHash: 1n,
  configDigest: 2n,
  imageDigest: 3n,
}

export const end = (index: number): LogEnd => logIndex(BigInt(index))

/** A backup's hello that follows nobody yet, unless told otherwise. */
export function hello(replica: string, fields: Partial<Hello> = {}): Hello {
  const place = { generation: 0, nextIndex: end(0), runId: 0n, hold: 0, address: '', discipline: exactDiscipline }
  return { kind: 'hello', identity, replica, role: 'backup', ...place, ...fields }
}

export function entries(batch: LogBatch, commonEnd = 0): Message {
  return { kind: 'entries', batch, commonEnd: end(commonEnd) }
}

export function welcome(generation: number, backups: readonly Sibling[] = []): Message {
  return { kind: 'welcome', generation, backups }
}

/** A batch of `length` entries; with `frameId`, its last entry is that inbound frame. */
export function batchAt(first: number, length = 1, frameId?: bigint, payloadBytes = 1): LogBatch {
  const builder = new BatchBuilder(logIndex(BigInt(first)))
  for (let position = 0; position < length; position++) {
    const bytes = new Uint8Array(payloadBytes)
    const isFrame = frameId !== undefined && position === length - 1
    const body: EntryBody = isFrame ? { kind: 'frame', frameId, bytes } : { kind: 'consoleInput', bytes }
    builder.append(instructionCount(BigInt(first + position)), body)
  }
  return builder.take()!.batch
}

export function markedFrame(sequence: number, markerIndex: number, lengthBytes = 4): MarkedOutput {
  return marked({ kind: 'frame', sequence: BigInt(sequence), bytes: new Uint8Array(lengthBytes) }, markerIndex)
}

export function marked(output: Output, markerIndex: number): MarkedOutput {
  return { output, markerIndex: logIndex(BigInt(markerIndex)) }
}

/** The effects of one kind, in order. */
export function only<E extends { kind: string }, K extends E['kind']>(
  effects: readonly E[],
  kind: K,
): Extract<E, { kind: K }>[] {
  return effects.filter((effect): effect is Extract<E, { kind: K }> => effect.kind === kind)
}

export function kindsOf(effects: readonly { kind: string }[]): string[] {
  return effects.map(({ kind }) => kind)
}
