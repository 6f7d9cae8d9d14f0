/**
 * The states a replica can be in, and the only ways from one to another. Every change goes through `moveTo`, so a
 * transition that is not drawn here stops the replica instead of corrupting the protocol.
 *
 *   primary                                  backup
 *   starting ──► protected ◄──► alone        joining ──────────► replaying ──► asking ──► goingLive ──► live
 *      │ │           │   ▲        │             └► restoring ─►─┘ ▲  │            │
 *      │ └───────────┼───┼────────┤                               │  ▼            │
 *      └─────────► asking ◄───────┘                             rejoining ◄───────┘
 *                    │
 *                    ▼                       halted     (every state but `live` leads there)
 *                  halted          (`protected` and `alone` lead there too)
 *
 * A replica that is `asking` has stopped releasing (primary) or acknowledging (backup) for good in that generation: it
 * wins or it ends its role in it (invariant 7). A primary then halts. A backup that has siblings may be called by the one
 * that won, and follow it, in a later generation. `live` is the end of a backup: from there on it is a primary in state
 * `alone`, or `asking` if it may have heirs.
 */

import { assert } from '../base/assert.ts'

export type PrimaryState =
  /** Its generation is granted, the hart stands still: waits for its backups. */
  | 'starting'
  /** Every output waits for every backup the arbiter lists. */
  | 'protected'
  /** The set of backups is to change, or a backup is lost: the arbiter is asked for the next generation. */
  | 'asking'
  /** No backup is listed: outputs do not wait. */
  | 'alone'
  | 'halted'

export type BackupState =
  /** Said hello, has not been welcomed. */
  | 'joining'
  /** Accepted; its machine is being made of the primary's. The arbiter does not know it. */
  | 'restoring'
  /** Receives, acknowledges, replays. */
  | 'replaying'
  /** The primary seems lost: stopped acknowledging, asks the arbiter. */
  | 'asking'
  /**
   * A sibling won: this backup follows its old primary no more, acknowledges nothing, and waits to be accepted by the new
   * one.
   */
  | 'rejoining'
  /** Won: fetches what its siblings have more of the log, and replays all of it. */
  | 'goingLive'
  /** Is the machine's primary now. */
  | 'live'
  | 'halted'

type Transitions<State extends string> = Readonly<Record<State, readonly State[]>>

export const primaryTransitions: Transitions<PrimaryState> = {
  starting: ['asking', 'alone', 'halted'],
  protected: ['asking', 'halted'],
  asking: ['protected', 'alone', 'halted'],
  alone: ['asking', 'halted'],
  halted: [],
}

export const backupTransitions: Transitions<BackupState> = {
  joining: ['restoring', 'replaying', 'halted'],
  restoring: ['replaying', 'halted'],
  replaying: ['asking', 'rejoining', 'halted'],
  asking: ['goingLive', 'rejoining', 'halted'],
  rejoining: ['replaying', 'asking', 'halted'],
  goingLive: ['live', 'halted'],
  live: [],
  halted: [],
}

/** The new state, if the table allows the change. */
export function moveTo<State extends string>(table: Transitions<State>, from: State, to: State): State {
  assert(table[from].includes(to), `a replica never goes from ${from} to ${to}`)
  return to
}
