/**
 * What a backup that won does before it goes live, when there are several: it calls its siblings, the other backups of the
 * generation it took over, and takes from each the log entries that it lacks itself. All of them had to acknowledge what
 * was released, so the winner lacks nothing the world has seen; but a sibling may have received, and executed, more. With
 * the longest tail the winner goes on where the furthest of them stands, and nobody has run past it.
 *
 *   winner                         sibling
 *     │ call g + 1, from my end ─────►│ follows its old primary no more
 *     │◄──────────────── entries …    │
 *     │◄─────────────────── hello     │ wants to be the winner's backup, from its own end on
 *
 * A sibling that cannot be reached is not waited for long: correctness does not depend on it.
 */

import type { LogBatch } from '../log/batch.ts'
import type { ChannelId } from './effects.ts'
import type { Hello } from './hello.ts'
import type { Generation, Message, ReplicaName, Sibling } from './messages.ts'
import type { PeerLines } from './peer-lines.ts'
import type { ReceivedLog } from './received-log.ts'

/** A sibling that wants to follow the winner. */
export interface Joiner {
  readonly channel: ChannelId
  readonly hello: Hello
}

/** Who calls, in the generation that it has won, and the log that it has until then. */
export interface Caller {
  readonly replica: ReplicaName
  readonly generation: Generation
  readonly log: ReceivedLog
  /** Of the primary whose log that is. */
  readonly hold: Generation
}

export class TailFetch {
  readonly #caller: Caller
  readonly #peers: PeerLines
  /** Nobody is waited for any longer. */
  readonly deadlineMs: number
  /** Who has not said all it has. */
  readonly #awaited: Set<ReplicaName>
  readonly #channels = new Map<ChannelId, ReplicaName>()
  readonly #hellos = new Map<ChannelId, Hello>()
  /** What came before a hello said whose log it is. */
  readonly #tails = new Map<ChannelId, LogBatch[]>()

  constructor(caller: Caller, siblings: readonly Sibling[], deadlineMs: number, peers: PeerLines) {
    this.#caller = caller
    this.#peers = peers
    this.#awaited = new Set(siblings.map(({ replica }) => replica))
    this.deadlineMs = deadlineMs
  }

  get joiners(): readonly Joiner[] {
    return [...this.#hellos].map(([channel, hello]) => ({ channel, hello }))
  }

  /** Connected to a sibling. */
  onOpen(channel: ChannelId, replica: ReplicaName): void {
    this.#channels.set(channel, replica)
    const { replica: caller, generation, log } = this.#caller
    this.#peers.send(channel, { kind: 'call', replica: caller, generation, tailFrom: log.end })
  }

  has(channel: ChannelId): boolean {
    return this.#channels.has(channel)
  }

  /** @returns at a sibling's hello, which ends its tail: what it has of our log from our call on. Several may send the same. */
  onMessage(channel: ChannelId, message: Message): readonly LogBatch[] {
    if (message.kind === 'entries') {
      const tail = this.#tails.get(channel)
      if (tail) tail.push(message.batch)
      else this.#tails.set(channel, [message.batch])
    } else if (message.kind === 'hello') {
      const tail = this.#tails.get(channel) ?? []
      this.#tails.delete(channel)
      this.#hellos.set(channel, message)
      this.#awaited.delete(message.replica)
      // One that followed another winner, lost since, has another history; or this one has.
      return message.hold === this.#caller.hold ? tail : []
    } else {
      this.#peers.close(channel, `unexpected ${message.kind}`)
      this.onClosed(channel)
    }
    return []
  }

  /** Nothing more comes on this channel. */
  onClosed(channel: ChannelId): void {
    const replica = this.#channels.get(channel)
    if (replica !== undefined) this.#awaited.delete(replica)
    this.#channels.delete(channel)
    this.#hellos.delete(channel)
    this.#tails.delete(channel)
  }

  onUnreachable(replica: ReplicaName): void {
    this.#awaited.delete(replica)
  }

  isOver(nowMs: number): boolean {
    return this.#awaited.size === 0 || nowMs >= this.deadlineMs
  }

  /** It goes live. Who has not said hello is called again: now it would only speak to nobody. */
  closeSilent(): void {
    for (const channel of this.#channels.keys())
      if (!this.#hellos.has(channel)) this.#peers.close(channel, 'it came too late')
  }
}
