/**
 * The switch's side of one protected machine: which replica speaks for it, what it has sent, what it may still need.
 *
 * A machine has one place on the LAN although two replicas run it. The place belongs to the replica that bound it with
 * the highest generation (ARCHITECTURE, invariant 9); whatever another replica sends is dropped, so a primary that was
 * paused and wakes up after the backup went live reaches nobody. Outputs carry sequence numbers that both replicas
 * count alike, because both execute the same instructions: what was forwarded once is recognised when the backup sends
 * it again at go-live (invariant 6).
 *
 * Sequence numbers and frame numbers count within one log. A machine that is booted anew has another log id, and starts
 * them again.
 */

import { assert } from '../base/assert.ts'
import type { Mac } from './frame.ts'
import { KeptFrames, type KeptLimits } from './kept-frames.ts'

export interface BindRequest {
  /** From the arbiter: who runs the machine. The highest that was ever bound wins. */
  readonly generation: bigint
  /** Names the log (one boot of the machine) in which sequence and frame numbers count. */
  readonly logId: bigint
  readonly mac: Mac
  /** Every frame up to this one is in an acknowledged log entry; 0 for none. */
  readonly coveredFrameId: bigint
  /**
   * The last frame that reached the replica, at least the covered one: on another connection, of the same generation. What it
   * has is not delivered again, and kept until it is covered, for whoever takes over.
   */
  readonly receivedFrameId: bigint
}

/** Why a replica may not speak for the machine. `fenced` comes unasked, when another replica has taken over. */
export type Refusal = 'stale-generation' | 'other-replica' | 'wrong-mac' | 'bad-frame-id' | 'fenced' | 'unauthenticated'

export interface MachineStatistics {
  readonly name: string
  /** Decimal, because generations and sequences may pass 2^53 and statistics are printed as JSON. */
  readonly generation: string
  readonly boundReplica: string | undefined
  readonly connected: boolean
  readonly forwardedSequence: string
  readonly lastFrameId: string
  readonly outputsForwarded: number
  /** Outputs with a sequence that had been forwarded before: dropped. */
  readonly repeatsDropped: number
  /** Outputs of a replica that is not bound (any more): dropped. */
  readonly fencedDropped: number
  /** Outputs whose source was not the machine's MAC: dropped. */
  readonly forgedDropped: number
  readonly framesKept: number
  readonly bytesKept: number
  readonly framesDelivered: number
  readonly framesRedelivered: number
  /** Inbound frames dropped because the kept ones filled the store. */
  readonly fullDropped: number
  /** Inbound frames dropped because no replica had ever bound the machine: as with an unplugged cable. */
  readonly unboundDropped: number
}

/** Frame numbers above this leave room to count on for ever. */
const highestFrameId = 2n ** 63n

export class MachinePort {
  readonly name: string
  readonly mac: Mac
  readonly kept: KeptFrames
  #binding: { readonly generation: bigint; readonly replica: string; readonly logId: bigint } | undefined
  #port: number | undefined
  #forwardedSequence = 0n
  readonly counts = {
    outputsForwarded: 0,
    repeatsDropped: 0,
    fencedDropped: 0,
    forgedDropped: 0,
    framesDelivered: 0,
    framesRedelivered: 0,
    fullDropped: 0,
    unboundDropped: 0,
  }

  constructor(name: string, mac: Mac, limits: KeptLimits) {
    this.name = name
    this.mac = mac
    this.kept = new KeptFrames(limits)
  }

  get isBound(): boolean {
    return this.#binding !== undefined
  }

  get generation(): bigint {
    return this.#binding?.generation ?? 0n
  }

  /** The port of the bound replica, undefined while it is not connected. */
  get port(): number | undefined {
    return this.#port
  }

  get forwardedSequence(): bigint {
    return this.#forwardedSequence
  }

  /** Why `replica` may not bind; undefined when it may. */
  refusalOf(replica: string, request: BindRequest): Refusal | undefined {
    if (request.mac !== this.mac) return 'wrong-mac'
    const { coveredFrameId, receivedFrameId } = request
    if (receivedFrameId > highestFrameId || coveredFrameId > receivedFrameId) return 'bad-frame-id'
    const binding = this.#binding
    if (!binding || request.generation > binding.generation) return undefined
    if (request.generation < binding.generation) return 'stale-generation'
    // One generation has one holder: the same replica may come back after its connection broke, nobody else.
    return replica === binding.replica ? undefined : 'other-replica'
  }

  /** Binds the machine to `port`. The caller has asked `refusalOf`. Returns the port that is fenced off by it. */
  bind(port: number, replica: string, request: BindRequest): number | undefined {
    assert(this.refusalOf(replica, request) === undefined, 'a refused bind is not carried out')
    if (this.#binding && this.#binding.logId !== request.logId) {
      this.kept.restart()
      this.#forwardedSequence = 0n
    }
    this.#binding = { generation: request.generation, replica, logId: request.logId }
    const { coveredFrameId, receivedFrameId } = request
    // A switch that was started again goes on numbering after what the replica has; what it keeps, it numbered itself.
    const hasNumberedThem = receivedFrameId <= this.kept.lastFrameId
    this.kept.cover(hasNumberedThem ? coveredFrameId : receivedFrameId)
    this.kept.skipTo(receivedFrameId)
    const fenced = this.#port === port ? undefined : this.#port
    this.#port = port
    return fenced
  }

  /** Notes that the bound replica's connection is gone. The binding stays: frames are kept for whoever comes next. */
  disconnect(port: number): void {
    if (this.#port === port) this.#port = undefined
  }

  /** True when an output with this sequence is new; it counts as forwarded from now on. */
  accept(sequence: bigint): boolean {
    if (sequence <= this.#forwardedSequence) return false
    this.#forwardedSequence = sequence
    return true
  }

  statistics(): MachineStatistics {
    return {
      name: this.name,
      generation: this.generation.toString(),
      boundReplica: this.#binding?.replica,
      connected: this.#port !== undefined,
      forwardedSequence: this.#forwardedSequence.toString(),
      lastFrameId: this.kept.lastFrameId.toString(),
      framesKept: this.kept.count,
      bytesKept: this.kept.bytes,
      ...this.counts,
    }
  }
}
