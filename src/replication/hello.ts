/**
 * How two replicas introduce themselves on a logging channel: the backup speaks first, and the primary's own hello accepts
 * it. What a primary has to say against a newcomer is in `Reception`; this is what a backup says, and what it has to say
 * against who answers.
 */

import { type Discipline, disciplineMismatch } from '../log/discipline.ts'
import type { LogEnd } from '../log/entry.ts'
import { identityMismatch, type MachineIdentity } from '../log/identity.ts'
import type { Generation, Message, ReplicaName } from './messages.ts'

export type Hello = Extract<Message, { kind: 'hello' }>

/** What is the same in every hello of a replica. */
export interface Introduction {
  readonly identity: MachineIdentity
  readonly replica: ReplicaName
  /** Where it listens, for siblings that win. Empty: nowhere. */
  readonly address: string
  readonly discipline: Discipline
}

/** Why two replicas cannot run one machine; undefined if they can. */
export function mismatchOf(own: Pick<Introduction, 'identity' | 'discipline'>, hello: Hello): string | undefined {
  return identityMismatch(own.identity, hello.identity) ?? disciplineMismatch(own.discipline, hello.discipline)
}

/** Of a backup that follows `hold`'s log (0: nobody's yet), has it up to `nextIndex`, and its machine up to `replayedEnd`. */
export function helloOfBackup(own: Introduction, hold: Generation, nextIndex: LogEnd, replayedEnd: LogEnd): Hello {
  return { kind: 'hello', ...own, role: 'backup', generation: 0, nextIndex, replayedEnd, runId: 0n, hold }
}

/** Of a primary, to a backup that it is going to send the log from `nextIndex` on. */
export function helloOfPrimary(
  own: Introduction,
  terms: Omit<Hello, 'kind' | 'role' | 'replayedEnd' | keyof Introduction>,
): Hello {
  return { kind: 'hello', ...own, role: 'primary', replayedEnd: terms.nextIndex, ...terms }
}

/** The log that a backup which follows another primary from now on must be able to continue. */
export interface LogToContinue {
  readonly generation: Generation
  readonly runId: bigint
  readonly nextIndex: LogEnd
}

/** The primary does not want this backup, or the other way round; or who answers breaks the protocol. */
export type Objection =
  | { readonly kind: 'refused'; readonly detail: string }
  | { readonly kind: 'violation'; readonly detail: string }

/**
 * @param log of a machine that the backup has already, in the middle of its run
 * @returns the primary's hello, or why this backup cannot follow whoever answers with `message`
 */
export function judgeAnswer(message: Message, own: Introduction, log: LogToContinue | undefined): Hello | Objection {
  if (message.kind === 'refuse') return { kind: 'refused', detail: message.reason }
  if (message.kind !== 'hello' || message.role !== 'primary') {
    return { kind: 'violation', detail: `unexpected ${message.kind}` }
  }
  const mismatch = mismatchOf(own, message)
  if (mismatch !== undefined) return { kind: 'refused', detail: mismatch }
  if (log === undefined) return message
  if (message.generation <= log.generation || message.runId !== log.runId) {
    return { kind: 'violation', detail: 'the hello of another run of the machine' }
  }
  if (message.nextIndex !== log.nextIndex) {
    return { kind: 'violation', detail: `its log goes on at entry ${message.nextIndex}, not ${log.nextIndex}` }
  }
  return message
}
