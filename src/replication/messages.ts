/**
 * What replicas say to each other on the logging channel: a reliable, ordered byte stream between a primary and one
 * backup (docs/PROTOCOL.md has the conversation). The channel's privacy is the host's business.
 *
 *   message    from      meaning
 *   fetch      backup    I have nothing to boot from: send the machine, from this byte on; before hello
 *   artefacts  primary   a piece of it, and whose it is
 *   hello      both      who I am; the backup speaks first, the primary's hello accepts it
 *   refuse     primary   no, and why; the channel is closed behind it
 *   pages      primary   memory of a machine that runs already; for a backup that was accepted and lacks its log
 *   taken      backup    so much of it is in my machine; also the backup's heartbeat meanwhile
 *   state      primary   everything else of that machine, in pieces: entries follow from here on
 *   welcome    primary   you are on the arbiter's list of this generation, and so are these
 *   entries    primary   the next log entries
 *   ack        backup    I have received every entry below `receivedEnd`; also the backup's heartbeat
 *   heartbeat  primary   I am here, this is how far my hart has come, and this is what I reach
 *   confirmed  primary   the receivers have these outputs: forget them
 *   diverged   backup    my machine does something else than your log says
 *   takeOver   primary   I have ended, on purpose: the machine is yours, as soon as the arbiter says so
 *   goodbye    both      I end in good order: no failover
 *   call       winner    I hold the machine now: send me what I lack of the log, and follow me
 *
 * All `…End` fields are exclusive bounds (`LogEnd`).
 */

import type { LogBatch } from '../log/batch.ts'
import type { Discipline } from '../log/discipline.ts'
import type { Divergence } from '../log/divergence.ts'
import type { LogEnd } from '../log/entry.ts'
import type { MachineIdentity } from '../log/identity.ts'
import type { Reach } from './reach.ts'

/** Grows with every change of a message. Both sides refuse another version. */
export const protocolVersion = 5

/** A piece of the boot artefacts: large enough that the questions cost nothing, small enough to wait in a socket. */
export const artefactsPieceBytes = 2 ** 20

/** A piece of a machine's memory or state. */
export const maxStatePieceBytes = 2 ** 20

/** A replica's name, unique within its machine. */
export type ReplicaName = string

/** The arbiter's generation number of a machine. */
export type Generation = number

/** Another replica of the same machine, and where it listens. */
export interface Sibling {
  readonly replica: ReplicaName
  /** As `formatAddress` writes it; empty: it listens nowhere. */
  readonly address: string
}

/** Outputs that a receiver outside confirms. A disk's confirmation is its completion, which is a log entry itself. */
export type ConfirmedKind = 'frame' | 'console'

export const confirmedKinds: readonly ConfirmedKind[] = ['frame', 'console']

/** How far a backup has come. */
export interface Progress {
  readonly receivedEnd: LogEnd
  readonly replayedEnd: LogEnd
  /** Attempted instructions of the backup's machine. */
  readonly replayedCount: bigint
  /** Execution lag: how long the oldest received and not replayed entry has been waiting. */
  readonly lagMs: number
}

/**
 * Outputs the receivers have, as exclusive bounds of output sequences per kind: every frame below `frame`, every console
 * output below `console`. Two bounds, because switch and console confirm independently, each in its own order.
 */
export type ConfirmedEnds = Readonly<Record<ConfirmedKind, bigint>>

export type Message =
  | {
      readonly kind: 'fetch'
      readonly machine: string
      readonly instructionTableHash: bigint
      /** Bytes that are here already. */
      readonly offset: number
    }
  | {
      readonly kind: 'artefacts'
      readonly identity: MachineIdentity
      /** Of the whole. */
      readonly lengthBytes: number
      readonly offset: number
      /** At most `artefactsPieceBytes`. */
      readonly bytes: Uint8Array
    }
  | {
      readonly kind: 'hello'
      readonly identity: MachineIdentity
      readonly replica: ReplicaName
      readonly role: 'primary' | 'backup'
      /** Primary: the generation in which the backup is going to be eligible. Backup: 0. */
      readonly generation: Generation
      /**
       * The first entry that the backup lacks. In the primary's answer: the first one that it sends. If they differ, the backup
       * has nothing of the machine, and gets its state first.
       */
      readonly nextIndex: LogEnd
      /** Every entry below it is replayed; so a backup has done the disk reads that it does itself. */
      readonly replayedEnd: LogEnd
      /**
       * Primary: the generation in which it went live, or started. Backup: that of the primary whose log it followed last, 0
       * if it followed none. Logs of different holds may differ.
       */
      readonly hold: Generation
      /** Where this replica listens, as `formatAddress` writes it; may be empty. */
      readonly address: string
      /** Primary: names this run of the machine, in which outputs and inbound frames are numbered. Backup: 0. */
      readonly runId: bigint
      /** How its hart lets the world in, or will. Both must say the same. */
      readonly discipline: Discipline
    }
  | { readonly kind: 'refuse'; readonly reason: string }
  | {
      readonly kind: 'pages'
      /** At most `maxStatePieceBytes`. */
      readonly bytes: Uint8Array
    }
  | { readonly kind: 'taken'; readonly totalBytes: number }
  | {
      readonly kind: 'state'
      /** Of the whole. */
      readonly lengthBytes: number
      readonly offset: number
      /** At most `maxStatePieceBytes`. */
      readonly bytes: Uint8Array
    }
  | {
      readonly kind: 'welcome'
      readonly generation: Generation
      /** Every backup that the arbiter lists, the receiver included. */
      readonly backups: readonly Sibling[]
    }
  | {
      readonly kind: 'entries'
      readonly batch: LogBatch
      /** Every backup has acknowledged the entries below it: nobody needs them from anybody any more. */
      readonly commonEnd: LogEnd
    }
  | { readonly kind: 'ack'; readonly progress: Progress; readonly reach: Reach }
  | {
      readonly kind: 'heartbeat'
      /** How far the hart has come: one that runs writes an entry every second at least. */
      readonly logEnd: LogEnd
      /** The hart is not paused, so log entries are to be expected. */
      readonly isRunning: boolean
      readonly reach: Reach
    }
  | { readonly kind: 'confirmed'; readonly ends: ConfirmedEnds }
  | { readonly kind: 'diverged'; readonly divergence: Divergence }
  | { readonly kind: 'takeOver'; readonly reason: string }
  | { readonly kind: 'goodbye'; readonly reason: string }
  | {
      readonly kind: 'call'
      /** The generation that the caller holds. */
      readonly generation: Generation
      readonly replica: ReplicaName
      /** The caller lacks the entries from here on; undefined: it is live, and takes none. */
      readonly tailFrom: LogEnd | undefined
    }

export type MessageKind = Message['kind']

const toFollower = ['entries', 'heartbeat', 'confirmed', 'welcome', 'takeOver', 'goodbye'] as const
const fromFollower = ['ack', 'taken', 'diverged', 'goodbye'] as const

/** What a primary says to a backup that follows its log. Anything else breaks the protocol. */
export function isToFollower(message: Message): message is Extract<Message, { kind: (typeof toFollower)[number] }> {
  return toFollower.some((kind) => kind === message.kind)
}

/** What such a backup says to its primary. */
export function isFromFollower(message: Message): message is Extract<Message, { kind: (typeof fromFollower)[number] }> {
  return fromFollower.some((kind) => kind === message.kind)
}
