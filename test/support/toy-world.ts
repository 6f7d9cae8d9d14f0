/**
 * The world around a toy pair: a switch, a disk and a console that confirm late, and in any order where that may be. It
 * believes everybody: it has no fencing, so that the protocol alone must keep its outputs right. What it received is
 * compared with the truth at the end: the survivor's log, replayed on a fresh machine. Only the contents of the disk, which
 * matter where backups read them, are fenced: a late write of an old primary changes nothing.
 */

import assert from 'node:assert/strict'
import { hash64 } from '../../src/base/digest.ts'
import type { Prng } from '../../src/base/prng.ts'
import { Replayer } from '../../src/hypervisor/replayer.ts'
import { decodeBatch } from '../../src/log/batch.ts'
import type { DiskRequest, MarkedOutput, Output } from '../../src/log/entry.ts'
import { encodeOutput } from '../../src/log/output-codec.ts'
import { obeysOutputRule } from '../../src/log/output-rule.ts'
import type { ConfirmedKind } from '../../src/replication/messages.ts'
import { ToyMachine } from './toy-machine.ts'
import type { ToyReplica } from './toy-replica.ts'

interface IssuedRequest {
  readonly from: ToyReplica
  readonly request: DiskRequest
  /** A backup reads for itself. */
  readonly isOwnRead: boolean
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
  /** What the sectors hold that were written. */
  readonly #contents = new Map<bigint, Uint8Array>()
  /** What was read, by its digest. */
  readonly #read = new Map<bigint, Uint8Array>()
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
    if (output.kind === 'disk') this.#disk.push({ from, request: output, isOwnRead: false })
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

  /** A backup's machine made this request again, and the log may leave out what it reads. */
  readFor(from: ToyReplica, request: DiskRequest): void {
    this.#disk.push({ from, request, isOwnRead: true })
  }

  /** The disk answers one request, in any order. */
  diskAnswers(): void {
    const [issued] = this.#disk.splice(this.#prng.below(this.#disk.length), 1) as [IssuedRequest]
    const { from, request, isOwnRead } = issued
    const { operation, sequence, sector, data } = request
    if (isOwnRead) {
      // Out of reach it waits for the disk.
      if (from.reach.disk) from.replayer?.provide(sequence, this.#contentsOf(sector))
      else if (!from.isGone) this.#disk.push(issued)
      return
    }
    if (!from.reach.disk) return
    if (operation === 'write' && from === this.#bound) this.#contents.set(sector, data!)
    const completion = { kind: 'diskCompletion', sequence, status: 'ok' } as const
    from.mailbox.push(operation === 'read' ? { ...completion, data: this.#contentsOf(sector) } : completion)
  }

  #contentsOf(sector: bigint): Uint8Array {
    const data = this.#contents.get(sector) ?? new Uint8Array(16)
    this.#read.set(hash64(data), data)
    return data
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
  bind(replica: ToyReplica, receivedFrameId: bigint, isCovered: boolean): void {
    assert.ok(receivedFrameId >= this.#coveredFrameId, 'a covered frame is not in the log')
    this.#bound = replica
    if (isCovered) this.#coveredFrameId = receivedFrameId
    for (const { id, bytes } of this.#inbound) {
      if (id > receivedFrameId) replica.mailbox.push({ kind: 'frame', frameId: id, bytes })
    }
  }

  // ---- the verdict ---------------------------------------------------------------------------------------------------

  /** What the machine of this log makes. */
  #truthOf({ batches }: ToyReplica): MarkedOutput[] {
    const truth = new Replayer(new ToyMachine())
    for (const batch of batches) truth.append(batch)
    const entries = batches.flatMap(({ bytes }) => decodeBatch(bytes))
    const outputs: MarkedOutput[] = []
    for (;;) {
      const ran = truth.run(1n << 40n)
      outputs.push(...ran.outputs)
      const { state } = ran
      if (state.kind === 'needsRead') {
        const { sequence } = state.need
        const read = entries.find(({ body }) => body.kind === 'diskRead' && body.sequence === sequence)
        assert.ok(read?.body.kind === 'diskRead')
        truth.provide(sequence, this.#read.get(read.body.dataDigest)!)
      } else {
        assert.equal(state.kind, 'needsEntries')
        return outputs
      }
    }
  }

  /** Checks what the world saw against the log of `last`, the one that was live at last. */
  check(last: ToyReplica): Verdict {
    const outputs = this.#truthOf(last)
    let repeated = 0
    const uncertain = new Set(
      last.batches
        .flatMap((batch) => decodeBatch(batch.bytes))
        .flatMap(({ body }) => (body.kind === 'diskCompletion' && body.status === 'uncertain' ? [body.sequence] : [])),
    )
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
      // An operation whose outcome is uncertain may never have been carried out: its driver was told to try again.
      const missing = made.findIndex(({ sequence }) => !seen.has(sequence) && !uncertain.has(sequence))
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
