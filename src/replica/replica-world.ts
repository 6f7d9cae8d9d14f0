/**
 * What a replica needs of its host, as `ReplicaCore` asks for it. In the product these are threads, sockets and files
 * (host/replica.ts), in a simulation fakes of them (sim/replica.ts). Nothing here decides anything.
 */

import type { Interrupt } from '../hypervisor/epoch/interrupts.ts'
import type { DiskAnswer as LoggedDiskAnswer, NeededRead } from '../hypervisor/replayer.ts'
import type { DiskRequest, LogEnd, MarkedOutput, Output } from '../log/entry.ts'
import type { ArbiterAnswer, BackupEffect, ChannelId, HaltReason, PrimaryEffect } from '../replication/effects.ts'
import type { Generation, Message, ReplicaName, Sibling } from '../replication/messages.ts'
import type { ToHart } from './hart-messages.ts'

export type ConsoleOutput = Extract<Output, { kind: 'console' }>

/** The hart's thread. */
export interface HartPort {
  /** Attempted instructions, as of the hart's last slice. */
  readonly instructions: bigint
  /** @param transfer buffers that are handed over instead of copied */
  send(message: ToHart, transfer?: readonly ArrayBuffer[]): void
  /** Something from the world, for a live machine: it gets its log entry between the hart's next two slices. */
  sendInput(input: Interrupt): void
  /** For a hart that waits for acknowledgements itself (epoch discipline); undefined: there is no backup to wait for. */
  acknowledged(end: LogEnd | undefined): void
}

/** Connections with the other replicas of the machine, but for the one to the primary that this one follows. */
export interface PeersPort {
  send(channel: ChannelId, message: Message): void
  /** The channel may be closed already. */
  close(channel: ChannelId): void
}

/** A backup's connection to its primary. */
export interface PrimaryPort {
  send(message: Message): void
  close(): void
}

export interface DisksPort {
  /** A live replica's machine asks for this. */
  issue(request: DiskRequest): void
  /** A backup's machine replayed these: requests that it made again, and answers that entered it. Each in log order. */
  onReplayed(outputs: readonly MarkedOutput[], answers: readonly LoggedDiskAnswer[]): void
  /** A backup's log has the answer to this read without its data: what the disk gives goes to the hart (`read`). */
  readAgain(need: NeededRead): void
  /** A backup begins in the middle: its machine has these requests under way. `done`: its own copies, if any, are equal. */
  onRestored(inFlight: readonly DiskRequest[], done: () => void): void
  /** What was answered so far will outlive a crash of its server. `failed` says why it will not. */
  flush(done: () => void, failed: (detail: string) => void): void
  /** Requests that were issued before wait for it. */
  connect(generation: Generation): void
}

/** A machine's network card, if it has one, and this host a network for it. */
export interface NetworkPort {
  /** What is sent before waits for it. */
  bind(binding: {
    readonly generation: bigint
    readonly logId: bigint
    readonly coveredFrameId: bigint
    readonly receivedFrameId: bigint
  }): void
  send(sequence: bigint, bytes: Uint8Array): void
  /** Every frame up to this one is in an acknowledged log entry. */
  covered(frameId: bigint): void
}

export interface ConsolePort {
  /** Released: everybody may see it. */
  write(output: ConsoleOutput): void
  /** A backup's machine printed what its primary's printed. */
  onRegenerated(output: ConsoleOutput): void
  /** @param unconfirmed the last outputs, which the primary may have written or not */
  goLive(runId: bigint, unconfirmed: readonly ConsoleOutput[]): void
  /** For a backup that begins in the middle. */
  readonly printed: Uint8Array
  /**
   * This is a backup that begins in the middle.
   * @param later made by then, and not released
   * @throws WorldError
   */
  beginAt(printed: Uint8Array, later: readonly ConsoleOutput[]): void
}

export interface ArbiterPort {
  /** As the holder of `generation`: opens the next one, with exactly these backups. */
  openGeneration(
    generation: Generation,
    eligible: readonly ReplicaName[],
    answered: (answer: ArbiterAnswer) => void,
  ): void
  /** As an eligible backup of `generation`: takes over. */
  testAndSet(generation: Generation, answered: (answer: ArbiterAnswer) => void): void
}

/** What is about to be done, or done, for whoever counts or tells it. */
export type ReplicaEffect = PrimaryEffect | BackupEffect

export interface ReplicaWorld {
  readonly hart: HartPort
  readonly peers: PeersPort
  readonly toPrimary: PrimaryPort
  readonly disks: DisksPort
  readonly network: NetworkPort | undefined
  readonly console: ConsolePort
  readonly arbiter: ArbiterPort
  /** The monotonic clock that all facts are dated by. */
  nowMs(): number
  /** Call `onAlarm` at this time, or earlier; infinite: there is nothing to wait for. */
  setAlarm(atMs: number): void
  /** This connection is the logging channel to the primary from here on. It may have ended. */
  adoptPeer(channel: ChannelId): void
  /** Connect to each of them, again and again for a while. */
  callSiblings(siblings: readonly Sibling[]): void
  /** The guest switched itself off; `failed`: after a panic. */
  onPowerOff(failed: boolean): void
  /** The replica stopped for good. */
  onHalt(reason: HaltReason, detail: string): void
  /** This effect is carried out next. */
  beforeEffect?(effect: ReplicaEffect): void
  afterEffect?(effect: ReplicaEffect): void
}
