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

import type { ChannelId } from './effects.ts'
import type { Hello } from './hello.ts'
import type { ReplicaName, Sibling } from './messages.ts'

/** A sibling that wants to follow the winner. */
export interface Joiner {
  readonly channel: ChannelId
  readonly hello: Hello
}

export class TailFetch {
  /** Nobody is waited for any longer. */
  readonly deadlineMs: number
  /** Who has not said all it has. */
  readonly #awaited: Set<ReplicaName>
  readonly #channels = new Map<ChannelId, ReplicaName>()
  readonly #hellos = new Map<ChannelId, Hello>()

  constructor(siblings: readonly Sibling[], deadlineMs: number) {
    this.#awaited = new Set(siblings.map(({ replica }) => replica))
    this.deadlineMs = deadlineMs
  }

  get joiners(): readonly Joiner[] {
    return [...this.#hellos].map(([channel, hello]) => ({ channel, hello }))
  }

  /** Connections on which no hello came. */
  get silent(): readonly ChannelId[] {
    return [...this.#channels.keys()].filter((channel) => !this.#hellos.has(channel))
  }

  onOpen(channel: ChannelId, replica: ReplicaName): void {
    this.#channels.set(channel, replica)
  }

  has(channel: ChannelId): boolean {
    return this.#channels.has(channel)
  }

  /** The end of this sibling's tail. */
  onHello(channel: ChannelId, hello: Hello): void {
    this.#hellos.set(channel, hello)
    this.#awaited.delete(hello.replica)
  }

  /** Nothing more comes on this channel. */
  onClosed(channel: ChannelId): void {
    const replica = this.#channels.get(channel)
    if (replica !== undefined) this.#awaited.delete(replica)
    this.#channels.delete(channel)
    this.#hellos.delete(channel)
  }

  onUnreachable(replica: ReplicaName): void {
    this.#awaited.delete(replica)
  }

  isOver(nowMs: number): boolean {
    return this.#awaited.size === 0 || nowMs >= this.deadlineMs
  }
}
