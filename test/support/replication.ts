/** Small parts for tests of the protocol: batches, outputs, effects by kind. */

import { BatchBuilder, type LogBatch } from '../../src/log/batch.ts'
import { exactDiscipline } from '../../src/log/discipline.ts'
import { type EntryBody, type LogEnd, logIndex, type MarkedOutput, type Output } from '../../src/log/entry.ts'
import type { MachineIdentity } from '../../src/log/identity.ts'
import { instructionCount } from '../../src/machine/types.ts'
import type { ReplayReport } from '../../src/replication/backup-options.ts'
import type { BackupEffect, PrimaryEffect } from '../../src/replication/effects.ts'
import type { Hello } from '../../src/replication/hello.ts'
import type { Message, Progress, Sibling } from '../../src/replication/messages.ts'
import { fullReach, type Reach } from '../../src/replication/reach.ts'

export const identity: MachineIdentity = {
  machine: 'shop',
  instructionTableHash: 1n,
  configDigest: 2n,
  imageDigest: 3n,
}

export const end = (index: number): LogEnd => logIndex(BigInt(index))

/** A backup's hello that follows nobody yet, unless told otherwise. */
export function hello(replica: string, fields: Partial<Hello> = {}): Hello {
  const log = { nextIndex: end(0), replayedEnd: end(0), runId: 0n, hold: 0 }
  const place = { generation: 0, address: '', discipline: exactDiscipline }
  return { kind: 'hello', identity, replica, role: 'backup', ...place, ...log, ...fields }
}

/** A new backup's hello: its machine lacks the log from `nextIndex` on. */
export function helloFrom(replica: string, nextIndex = 0): Message {
  return hello(replica, { nextIndex: end(nextIndex) })
}

export function ack(received: number, replayed = 0, lagMs = 0, reach: Reach = fullReach): Message {
  const progress: Progress = { receivedEnd: end(received), replayedEnd: end(replayed), replayedCount: 0n, lagMs }
  return { kind: 'ack', progress, reach }
}

/** What a replayer reports that has come so far. */
export function replayed(count: number, outputs: readonly MarkedOutput[] = []): ReplayReport {
  return { replayedEnd: end(count), count: BigInt(count), outputs }
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

/** The numbers of the outputs that leave. */
export function released(effects: readonly PrimaryEffect[]): number[] {
  return only(effects, 'release').flatMap(({ outputs }) => outputs.map(({ output }) => Number(output.sequence)))
}

/** How far the entries go that a backup acknowledges. */
export function acks(effects: readonly BackupEffect[]): number[] {
  const sent = only(effects, 'send').map(({ message }) => message)
  return sent.flatMap((message) => (message.kind === 'ack' ? [Number(message.progress.receivedEnd)] : []))
}
