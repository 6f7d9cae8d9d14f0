/**
 * The machine's network card as a replica's host sees it: released frames go out, frames from outside come in as inputs.
 * There are two: our own switch (LanBackend), which keeps and numbers frames in both directions, and a TAP of the
 * replica's own host (TapBackend), which is a real network.
 *
 *   connect ──► bind (this replica is live, in a generation) ──► send, onFrame, covered … ──► close
 *
 * A backup connects early and binds when it goes live. What is sent before the bind has ended waits for it, in order.
 */

import type { LanBinding } from '../lan/lan-client.ts'
import { LanBackend } from './lan-backend.ts'
import type { ReplicaSettings } from './replica-settings.ts'
import { TapBackend } from './tap-backend.ts'

/** Where a replica is live. */
export type NetworkBinding = Required<LanBinding>

export interface NetworkBackend {
  /**
   * Finds out, as early as possible, whether the network can be had.
   * @throws WorldError when it cannot
   */
  connect(): Promise<void>
  /**
   * This replica is live now: the machine's frames come here. Those up to `receivedFrameId` are in the log already.
   * `logId` names this run of the machine, in which outputs and frames are numbered.
   * @throws WorldError `bind-refused`: another replica is live
   */
  bind(binding: NetworkBinding): Promise<void>
  /** An output frame, released. Sequences grow. */
  send(sequence: bigint, bytes: Uint8Array): void
  /** Every frame up to this one is in an acknowledged log entry. */
  covered(frameId: bigint): void
  /** Call at every tick, of a primary and of a backup. @returns whether the network is in reach */
  onTick(): boolean
  /** Nothing is called back any more. */
  close(): void
}

export interface NetworkEvents {
  /**
   * A frame from outside. Numbers grow.
   * @returns false: the machine takes no frames now, and this one will never be covered
   */
  readonly onFrame: (frameId: bigint, bytes: Uint8Array) => boolean
  /** The network has, or will never have, every frame up to this output. */
  readonly onConfirmed: (sequence: bigint) => void
  /** A later generation is bound: this replica must stop. */
  readonly onFenced: () => void
  readonly trace: (line: string) => void
}

/** The backend that the replica's settings ask for; undefined when this host has no network for the machine. */
export function createNetworkBackend(
  settings: ReplicaSettings,
  mac: string,
  events: NetworkEvents,
): NetworkBackend | undefined {
  const { machine, lan, tap, replica, token, role } = settings
  if (tap !== undefined) return new TapBackend({ interfaceName: tap, mac, isBackup: role === 'backup', ...events })
  return lan && new LanBackend({ endpoint: lan, machine, mac, replica, token, ...events })
}
