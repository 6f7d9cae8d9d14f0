/**
 * Where connections wait that have not said hello yet: a primary answers their questions for something to boot from, and
 * turns away who says nothing for too long, or may not join.
 */

import type { BootArtefacts } from '../log/boot-artefacts.ts'
import type { LogEnd } from '../log/entry.ts'
import type { MachineIdentity } from '../log/identity.ts'
import { BootOffer } from './boot-offer.ts'
import type { ChannelId } from './effects.ts'
import { type Hello, mismatchOf } from './hello.ts'
import type { Message, ReplicaName } from './messages.ts'
import type { ReplicationPolicy } from './policy.ts'

/** What a backup to be meets. */
export interface Situation {
  /** Of the primary and all that are with it. */
  readonly names: readonly ReplicaName[]
  /** How many backups it is to have. */
  readonly backups: number
  /** It has them. */
  readonly isComplete: boolean
  readonly logEnd: LogEnd
  /** Its log can be continued with ours. */
  readonly canFollow: boolean
  /** How many entries of another end of our log it has run. */
  readonly surplus: bigint
}

export class Reception {
  readonly #identity: MachineIdentity
  readonly #offer: BootOffer | undefined
  readonly #policy: ReplicationPolicy
  /** Since when. */
  readonly #strangers = new Map<ChannelId, number>()

  constructor(identity: MachineIdentity, artefacts: BootArtefacts | undefined, policy: ReplicationPolicy) {
    this.#identity = identity
    this.#offer = artefacts && new BootOffer(identity, artefacts)
    this.#policy = policy
  }

  /** When the first of them has waited too long. */
  get dueMs(): number {
    return Math.min(
      Number.POSITIVE_INFINITY,
      ...[...this.#strangers.values()].map((sinceMs) => sinceMs + this.#policy.helloTimeoutMs),
    )
  }

  has(channel: ChannelId): boolean {
    return this.#strangers.has(channel)
  }

  add(channel: ChannelId, nowMs: number): void {
    this.#strangers.set(channel, nowMs)
  }

  delete(channel: ChannelId): void {
    this.#strangers.delete(channel)
  }

  /** Those that have waited too long. */
  silent(nowMs: number): ChannelId[] {
    return [...this.#strangers]
      .filter(([, sinceMs]) => nowMs - sinceMs >= this.#policy.helloTimeoutMs)
      .map(([channel]) => channel)
  }

  /** A backup to be asks for what it is to boot from: a piece of it, or a refusal. It is heard, so its time begins anew. */
  answer(channel: ChannelId, fetch: Extract<Message, { kind: 'fetch' }>, nowMs: number): Message {
    this.#strangers.set(channel, nowMs)
    return (
      this.#offer?.answer(fetch) ?? { kind: 'refuse', reason: 'this primary has no machine to give: name a VM file' }
    )
  }

  /** Why who says this may not join; undefined if it may. */
  refusalOf(hello: Hello, situation: Situation): string | undefined {
    const { names, backups, isComplete, logEnd, canFollow, surplus } = situation
    const mismatch = mismatchOf({ identity: this.#identity, discipline: this.#policy.discipline }, hello)
    if (mismatch !== undefined) return mismatch
    if (hello.role !== 'backup') return 'another primary'
    if (names.includes(hello.replica)) return `replica "${hello.replica}" is here already`
    if (isComplete) {
      return backups > 1 ? `the machine has its ${backups} backups already` : 'the machine is protected already'
    }
    if (surplus > 0n) return `it has run ${surplus} log entries past the end of this machine's log: start it anew`
    // One that has nothing yet gets the machine's present state.
    const hasNothing = hello.hold === 0 && hello.nextIndex === 0n
    return canFollow || hasNothing
      ? undefined
      : `the log is at entry ${logEnd}, the backup at ${hello.nextIndex}: start it anew`
  }
}
