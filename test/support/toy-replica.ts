/**
 * One replica of a toy pair, as `toy-pair.ts` drives it: the machine with its Recorder or Replayer, the role object, what is
 * in transit between the two, and its ends of the channels to the others. It decides nothing.
 */

import type { EpochPrimary } from '../../src/hypervisor/epoch/epoch-primary.ts'
import type { Recorder } from '../../src/hypervisor/recorder.ts'
import type { Replayer } from '../../src/hypervisor/replayer.ts'
import { batchEnd, type LogBatch } from '../../src/log/batch.ts'
import type { MarkedOutput } from '../../src/log/entry.ts'
import type { DiskBus, Input } from '../../src/machine/types.ts'
import type { Backup } from '../../src/replication/backup.ts'
import type { ArbiterAnswer, ChannelId } from '../../src/replication/effects.ts'
import type { MessageDecoder } from '../../src/replication/message-codec.ts'
import type { Primary } from '../../src/replication/primary.ts'
import { fullReach, type Reach } from '../../src/replication/reach.ts'
import { ToyMachine, toyConfig, toyHabits } from './toy-machine.ts'

/** One replica's end of a connection. */
export interface End {
  readonly id: ChannelId
  readonly owner: ToyReplica
  readonly decoder: MessageDecoder
  /** Bytes on their way to this end. */
  readonly wire: Uint8Array[]
  other: End | undefined
  isOpen: boolean
}

/** A new primary looks for its siblings. */
export interface Call {
  readonly replica: string
  readonly untilMs: number
  end: End | undefined
}

export class ToyReplica {
  readonly name: string
  readonly machine: ToyMachine
  readonly batches: LogBatch[] = []
  readonly ends = new Map<ChannelId, End>()
  /** A backup's connection to its primary. */
  following: End | undefined
  readonly calls: Call[] = []
  /** Inputs its hart has not applied yet. */
  readonly mailbox: Input[] = []
  /** From the hart's thread to the main thread, in transit. */
  readonly fromHart: (() => void)[] = []
  primary: Primary | undefined
  backup: Backup | undefined
  recorder: Recorder | undefined
  replayer: Replayer | undefined
  /** Of a live one in the epoch discipline: drives the recorder. */
  epochs: EpochPrimary | undefined
  /** The epoch in which its primary failed. */
  failoverEpoch: bigint | undefined
  arbiterQuestion: (() => ArbiterAnswer) | undefined
  /** What it regenerated, and nobody has confirmed, until it is sent again. */
  inherited: MarkedOutput[] = []
  isPaused = true
  isDead = false
  /** What it really reaches. */
  reach: Reach = fullReach
  /** What its host has told its role. */
  knownReach: Reach = fullReach
  halted: string | undefined

  constructor(name: string, bus: DiskBus = 'blk') {
    this.name = name
    this.machine = new ToyMachine(toyHabits, { ...toyConfig, disks: toyConfig.disks.map((disk) => ({ ...disk, bus })) })
  }

  get isGone(): boolean {
    return this.isDead || this.halted !== undefined
  }

  /** How far its log goes. */
  get logEnd(): bigint {
    return this.batches.length === 0 ? 0n : batchEnd(this.batches.at(-1)!)
  }

  /** In the epoch discipline: something waits for the end of the epoch. */
  get owesEpochEnd(): boolean {
    const { epochs } = this
    return epochs !== undefined && (epochs.bufferedInterrupts > 0 || epochs.epoch === this.failoverEpoch)
  }

  /** Whether it drives the machine for the world. */
  get isLive(): boolean {
    return !this.isDead && this.halted === undefined && this.recorder !== undefined
  }
}
