/**
 * What a replica asks its arbiter, whoever that is: the one in the disk server (`arbiter-client.ts`), or a cluster of etcd
 * (`etcd/etcd-arbiter.ts`). One acceptance suite holds for all of them (`arbiter-acceptance.test-support.ts`); the rules
 * are `arbiter-record.ts`.
 *
 * An arbiter that is asked never decides for its caller: there is no retry that outlives `timeoutMs`. If no answer came by
 * then the call fails with `ArbiterError`, reason `unreachable`. The request may have been carried out or not; asking the
 * same again is safe. Each call opens a session first if there is none.
 *
 * A grant says who is live. That nothing older reaches a disk any more is said by whoever fences it: the arbiter in the
 * disk server answers only then, after any other arbiter the disk server fences when the new holder connects.
 */

import { ExitCode, WorldError } from '../base/assert.ts'
import type { FencedNotice } from './arbiter.ts'
import type { ArbiterRecordFields, HolderAnswer, StartAnswer, TestAndSetAnswer } from './arbiter-record.ts'

/**
 * `unreachable`: no answer; ask again or wait. `denied`: wrong machine, token, key or password. `storage`: the arbiter
 * cannot make its record durable, or the record is damaged. `protocol`: the other end is no arbiter of ours.
 */
export type ArbiterErrorReason = 'unreachable' | 'denied' | 'storage' | 'protocol'

export class ArbiterError extends WorldError {
  readonly reason: ArbiterErrorReason

  constructor(reason: ArbiterErrorReason, message: string) {
    super(`arbiter-${reason}`, message, reason === 'denied' ? ExitCode.permission : ExitCode.diskOrArbiterUnreachable)
    this.reason = reason
  }
}

/** Who asks, and what it wants to hear. */
export interface ArbiterAccessOptions {
  readonly machine: string
  readonly replica: string
  /** For a holder that comes back after its process was started again: the generation it holds. */
  readonly generation?: number
  /** This replica's hold is over: it must stop at once. */
  readonly onFenced?: (notice: FencedNotice) => void
  /** A session that was up broke (not by `close`). Nothing has changed at the arbiter; `connect` opens another. */
  readonly onSessionLost?: () => void
}

/** Every call throws `ArbiterError`. */
export interface ArbiterAccess {
  /** The generation this replica holds, as far as it knows. */
  readonly heldGeneration: number | undefined

  /** Opens a session if there is none. While it is open, a replica that holds the machine counts as a living holder. */
  connect(timeoutMs: number): Promise<{ readonly record: ArbiterRecordFields }>

  read(timeoutMs: number): Promise<ArbiterRecordFields>

  /**
   * Takes the next generation to start the machine.
   * @param holderHasEnded no process of a holder is left: the arbiter need not wait for one that may come back
   */
  start(timeoutMs: number, holderHasEnded?: boolean): Promise<StartAnswer>

  /** Asks to take `generation` over. */
  testAndSet(generation: number, timeoutMs: number): Promise<TestAndSetAnswer>

  /** As the holder: only these replicas may take `generation` over. */
  setEligible(generation: number, eligible: readonly string[], timeoutMs: number): Promise<HolderAnswer>

  /** As the holder: go on in `generation` + 1 with these backups. Open disk connections stay good. */
  openGeneration(generation: number, eligible: readonly string[], timeoutMs: number): Promise<HolderAnswer>

  /** As the holder, at a clean power-off: nobody holds the machine from now on. */
  release(generation: number, timeoutMs: number): Promise<HolderAnswer>

  /** Ends the session without letting go of the machine. */
  close(): void
}
