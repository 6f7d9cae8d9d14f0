/**
 * The world around a toy pair: a switch, a disk and a console that confirm late, and in any order where that may be. It
 * believes everybody: it has no fencing, so that the protocol alone must keep its outputs right. What it received is
 * compared with the truth at the end: the survivor's log, replayed on a fresh machine.
 */

import assert from 'node:assert/strict'
import type { Prng } from '../../src/base/prng.ts'
import { Replayer } from '../../src/hypervisor/replayer.ts'
import { decodeBatch } from '../../src/log/batch.ts'
import type { Output } from '../../src/log/entry.ts'
import { encodeOutput } from '../../src/log/output-codec.ts'
import { obeysOutputRule } from '../../src/log/output-rule.ts'
import type { ConfirmedKind } from '../../src/replication/messages.ts'
import { ToyMachine } from './toy-machine.ts'
import type { ToyReplica } from './toy-replica.ts'

type DiskRequest = Extract<Output, { kind: 'disk' }>

interface IssuedRequest {
  readonly from: ToyReplica
  readonly request: DiskRequest
}

/** What the world has received and not yet told the replica that sent it. */
interface Confirmation {
  readonly to: ToyReplica
  readonly kind: ConfirmedKind
  readonly sequence: bigint
}

export interface Verdict {
  /** How many the truth has. */
  readonly outputs: number
  /** How many of them came twice. */
  readonly repeated: number
}

export class ToyWorld {
  readonly #prng: Prng
  /** To whom the switch delivers frames. */
  #bound: ToyReplica
  /** What it received, by kind, in order of arrival. */
  readonly #received: Output[] = []
  readonly #confirmations: Confirmation[] = []
  readonly #disk: IssuedRequest[] = []
  readonly #inbound: { id: bigint; bytes: Uint8Array }[] = []
  #nextFrameId = 1n
  /** Frames up to it may be forgotten by the switch. */
  #coveredFrameId = 0n

  constructor(prng: Prng, bound: ToyReplica) {
    this.#prng = prng
    this.#bound = bound
  }

  receive(from: ToyReplica, output: Output): void {
    assert.equal(from.halted, undefined, 'a halted replica released an output')
    if (output.kind === 'entropyRequest') return
    // It goes into a connection that nothing comes out of: neither seen nor confirmed.
    if (output.kind === 'disk' && !from.reach.disk) return
    if (output.kind === 'frame' && !from.reach.lan) return
    // A read tells the world nothing: one of a dead primary may be of a machine that never was.
    if (obeysOutputRule(output)) this.#received.push(output)
    if (output.kind === 'disk') this.#disk.push({ from, request: output })
    else if (output.kind !== 'power')
      this.#confirmations.push({ to: from, kind: output.kind, sequence: output.sequence })
  }

  get hasConfirmations(): boolean {
    return this.#confirmations.length > 0
  }

  /** The oldest confirmation, if it reaches who waits for it. */
  confirm(): Confirmation | undefined {
    const confirmation = this.#confirmations.shift()!
    const { to, kind } = confirmation
    return to.isGone || (kind === 'frame' && !to.reach.lan) ? undefined : confirmation
  }

  get hasDiskRequests(): boolean {
    return this.#disk.length > 0
  }

  /** The disk answers one request, in any order. */
  diskAnswers(): void {
    const [{ from, request }] = this.#disk.splice(this.#prng.below(this.#disk.length), 1) as [IssuedRequest]
    if (!from.reach.disk) return
    const completion = { kind: 'diskCompletion', sequence: request.sequence, status: 'ok' } as const
    from.mailbox.push(request.operation === 'read' ? { ...completion, data: this.#prng.bytes(16) } : completion)
  }

  frameArrives(): void {
    const frame = { id: this.#nextFrameId++, bytes: this.#prng.bytes(6) }
    this.#inbound.push(frame)
    // It goes to whoever is bound: the last one that went live.
    if (this.#bound.reach.lan) this.#bound.mailbox.push({ kind: 'frame', frameId: frame.id, bytes: frame.bytes })
  }

  /** Log entries hold the frames up to `frameId`. */
  cover(frameId: bigint): void {
    if (frameId > this.#coveredFrameId) this.#coveredFrameId = frameId
  }

  /** Frames go to `replica` from now on, and those that its log lacks go to it again. */
  bind(replica: ToyReplica, coveredFrameId: bigint): void {
    assert.ok(coveredFrameId >= this.#coveredFrameId, 'a covered frame is not in the log')
    this.#bound = replica
    this.#coveredFrameId = coveredFrameId
    for (const { id, bytes } of this.#inbound) {
      if (id > coveredFrameId) replica.mailbox.push({ kind: 'frame', frameId: id, bytes })
    }
  }

  // ---- the verdict ---------------------------------------------------------------------------------------------------

  /** Checks what the world saw against the log of `last`, the one that was live at last. */
  check(last: ToyReplica): Verdict {
    const truth = new Replayer(new ToyMachine())
    for (const batch of last.batches) truth.append(batch)
    const { state, outputs } = truth.run(1n << 40n)
    assert.equal(state.kind, 'needsEntries')
    let repeated = 0
    for (const kind of ['frame', 'console', 'disk'] as const) {
      const made = outputs
        .map(({ output }) => output)
        .filter((output) => output.kind === kind && obeysOutputRule(output))
      const seen = new Map<bigint, Output>()
      let newest = -1n
      for (const output of this.#received) {
        if (output.kind !== kind) continue
        const before = seen.get(output.sequence)
        if (before !== undefined) repeated++
        else if (kind !== 'disk') {
          // In the machine's order; gaps show below. (After a failover, disk requests start again in theirs.)
          assert.ok(output.sequence > newest, `${kind} ${output.sequence} came after ${newest}`)
          newest = output.sequence
        }
        seen.set(output.sequence, output)
        const same = made.find(({ sequence }) => sequence === output.sequence)
        assert.ok(same, `${kind} ${output.sequence} was released, but the surviving machine never made it`)
        assert.deepEqual(encodeOutput(output), encodeOutput(same), 'the world saw another output than the machine made')
      }
      // A survivor sends everything. Of a dead machine the world may lack the newest outputs, never one in between.
      const missing = made.findIndex(({ sequence }) => !seen.has(sequence))
      const isLost = missing >= 0 && (!last.isDead || (kind !== 'disk' && missing < seen.size))
      assert.ok(!isLost, `${kind} ${made[missing]?.sequence} was lost`)
    }
    const frameIds = last.batches
      .flatMap((batch) => decodeBatch(batch.bytes))
      .flatMap(({ body }) => (body.kind === 'frame' ? [body.frameId] : []))
    frameIds.forEach((id, position) => {
      assert.equal(id, BigInt(position + 1), 'an inbound frame was lost or delivered twice')
    })
    if (!last.isDead) assert.equal(frameIds.length, this.#inbound.length)
    assert.ok(BigInt(frameIds.length) >= this.#coveredFrameId, 'the switch forgot a frame that is not in the log')
    return { outputs: outputs.length, repeated }
  }
}
