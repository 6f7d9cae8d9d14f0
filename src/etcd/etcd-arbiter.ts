/**
 * A cluster of etcd as the arbiter: the rules of `disk/arbiter-record.ts`, carried out by whoever asks, as transactions.
 *
 *   PREFIXmachines/NAME/record   the machine's record, as the disk server keeps it in a file
 *   PREFIXmachines/NAME/holder   who lives: the holder and its generation, under a lease that it keeps
 *
 * A question reads both keys in one moment, lets the rules decide, and writes the next record on condition that neither key
 * has changed since (their revisions of last change). If one has, it looks again. So two who ask at the same moment are
 * put in an order by etcd, and the second one sees what the first one did. A transaction whose answer was lost may have
 * been carried out; asking again meets its result, and every rule answers a repeated question the same.
 *
 * A `start` is refused while the holder's lease lasts. A lease that is seen to be renewed belongs to a holder that lives;
 * one that is not may be of a holder that died a moment ago, or that is about to come back: it is awaited until the lease
 * ends. A takeover asks for no lease: a backup's test-and-set never waits.
 *
 * This arbiter fences nothing. The disk server does, when the new holder connects (`disk/export-directory.ts`).
 */

import { z } from 'zod'
import { assert, WorldError } from '../base/assert.ts'
import {
  type ArbiterAccess,
  type ArbiterAccessOptions,
  ArbiterError,
  type ArbiterErrorReason,
} from '../disk/arbiter-access.ts'
import {
  ArbiterRecord,
  type ArbiterRecordFields,
  type HolderAnswer,
  type Ruling,
  type StartAnswer,
  type StartObstacle,
  type TestAndSetAnswer,
} from '../disk/arbiter-record.ts'
import { formatRecord, parseRecord } from '../disk/record-text.ts'
import {
  absentRevision,
  EtcdClient,
  type EtcdEntry,
  EtcdError,
  type EtcdErrorReason,
  type EtcdOperation,
} from './etcd-client.ts'
import type { EtcdSettings } from './etcd-settings.ts'

/** A holder that dies is missed for so long before a start may replace it. etcd counts leases in whole seconds. */
const leaseSeconds = 5
const keepIntervalMs = 1000
const keepTimeoutMs = 2000

const holderSchema = z.object({ replica: z.string(), generation: z.number() })

/** Both keys, of one moment. */
interface Situation {
  readonly record: ArbiterRecord
  readonly recordRevision: string
  readonly holder: EtcdEntry | undefined
}

/** What a question comes to: an answer, the next record, and whether the asker is the holder in it. */
interface Verdict<Answer> extends Ruling<Answer> {
  /** The generation the asker holds now; null: none; undefined: as before. */
  readonly held: number | null | undefined
}

export class EtcdArbiter implements ArbiterAccess {
  readonly #options: ArbiterAccessOptions
  readonly #client: EtcdClient
  readonly #recordKey: string
  readonly #holderKey: string
  #held: number | undefined
  /** Of this session. */
  #lease: string | undefined
  #keeper: NodeJS.Timeout | undefined
  #opening: Promise<void> | undefined
  /** What another one's lease had left when it was first seen. */
  #seenLease: { readonly id: string; readonly seconds: number; readonly atMs: number } | undefined

  /** @throws WorldError `bad-configuration` */
  constructor(settings: EtcdSettings, options: ArbiterAccessOptions) {
    this.#options = options
    this.#client = new EtcdClient(settings)
    this.#held = options.generation
    this.#recordKey = `${settings.prefix}machines/${options.machine}/record`
    this.#holderKey = `${settings.prefix}machines/${options.machine}/holder`
  }

  get heldGeneration(): number | undefined {
    return this.#held
  }

  async connect(timeoutMs: number): Promise<{ readonly record: ArbiterRecordFields }> {
    const deadlineMs = performance.now() + timeoutMs
    return await translated(async () => {
      await this.#ensureSession(deadlineMs)
      return { record: (await this.#look(deadlineMs)).record.fields }
    })
  }

  async read(timeoutMs: number): Promise<ArbiterRecordFields> {
    const deadlineMs = performance.now() + timeoutMs
    return await translated(async () => (await this.#look(deadlineMs)).record.fields)
  }

  async start(timeoutMs: number, _holderHasEnded = false): Promise<StartAnswer> {
    const { replica } = this.#options
    return await this.#decide<StartAnswer>(timeoutMs, async (situation, deadlineMs) => {
      const { record, holder } = situation
      // Our own hold, of a start whose answer was lost.
      if (holder && holder.lease === this.#lease && record.fields.holder === replica) {
        const { generation } = record.fields
        return { answer: { granted: true, generation }, next: record, held: generation }
      }
      const ruling = record.start(replica, await this.#obstacleTo(situation, deadlineMs))
      return { ...ruling, held: ruling.answer.granted ? ruling.answer.generation : undefined }
    })
  }

  async testAndSet(generation: number, timeoutMs: number): Promise<TestAndSetAnswer> {
    return await this.#decide<TestAndSetAnswer>(timeoutMs, async ({ record }) => {
      const ruling = record.testAndSet(this.#options.replica, generation)
      return { ...ruling, held: ruling.answer.won ? ruling.answer.generation : undefined }
    })
  }

  async setEligible(generation: number, eligible: readonly string[], timeoutMs: number): Promise<HolderAnswer> {
    return await this.#hold(timeoutMs, (record) => record.setEligible(this.#options.replica, generation, eligible))
  }

  async openGeneration(generation: number, eligible: readonly string[], timeoutMs: number): Promise<HolderAnswer> {
    return await this.#hold(timeoutMs, (record) => record.openGeneration(this.#options.replica, generation, eligible))
  }

  async release(generation: number, timeoutMs: number): Promise<HolderAnswer> {
    return await this.#decide<HolderAnswer>(timeoutMs, async ({ record }) => {
      const ruling = record.release(this.#options.replica, generation)
      return { ...ruling, held: ruling.answer.accepted ? null : undefined }
    })
  }

  /** The lease ends with the session, if the cluster can be told; else by itself. */
  close(): void {
    const lease = this.#lease
    this.#endSession()
    const revoked = lease === undefined ? Promise.resolve() : this.#client.revokeLease(lease, keepTimeoutMs)
    void revoked.catch(() => {}).finally(() => this.#client.close())
  }

  async #hold(timeoutMs: number, rule: (record: ArbiterRecord) => Ruling<HolderAnswer>): Promise<HolderAnswer> {
    return await this.#decide<HolderAnswer>(timeoutMs, async ({ record }) => {
      const ruling = rule(record)
      return { ...ruling, held: ruling.answer.accepted ? ruling.answer.generation : undefined }
    })
  }

  /** Looks, decides, writes; again if somebody wrote in between. */
  async #decide<Answer>(
    timeoutMs: number,
    rule: (situation: Situation, deadlineMs: number) => Promise<Verdict<Answer>>,
  ): Promise<Answer> {
    const deadlineMs = performance.now() + timeoutMs
    return await translated(async () => {
      for (;;) {
        await this.#ensureSession(deadlineMs)
        const situation = await this.#look(deadlineMs)
        const verdict = await rule(situation, deadlineMs)
        if (!(await this.#carryOut(situation, verdict, deadlineMs))) continue
        if (verdict.held !== undefined) this.#held = verdict.held ?? undefined
        return verdict.answer
      }
    })
  }

  /** @returns false: the record or the holder has changed in between, or our lease has ended */
  async #carryOut(situation: Situation, { next, held }: Verdict<unknown>, deadlineMs: number): Promise<boolean> {
    const { record, recordRevision, holder } = situation
    const operations: EtcdOperation[] = []
    if (next !== record) operations.push({ put: this.#recordKey, value: formatRecord(next) })
    if (held === null) operations.push({ delete: this.#holderKey })
    else if (held !== undefined && holder?.lease !== this.#lease) operations.push(this.#holderEntry(held))
    if (operations.length === 0) return true
    const comparisons = [
      { key: this.#recordKey, modRevision: recordRevision },
      { key: this.#holderKey, modRevision: holder?.modRevision ?? absentRevision },
    ]
    try {
      return await this.#client.transact(comparisons, operations, leftMs(deadlineMs))
    } catch (error) {
      if (!isLeaseGone(error)) throw error
      this.#loseSession()
      return false
    }
  }

  #holderEntry(generation: number): EtcdOperation {
    assert(this.#lease !== undefined, 'a holder has a session')
    const value = JSON.stringify({ replica: this.#options.replica, generation })
    return { put: this.#holderKey, value, lease: this.#lease }
  }

  /** Both keys as they stand now; a holder whose hold is over learns it here. */
  async #look(deadlineMs: number): Promise<Situation> {
    const { machine, replica } = this.#options
    // As of now: what is opened while the answer is on its way is later than what it says.
    const held = this.#held
    const [entry, holder] = await this.#client.read([this.#recordKey, this.#holderKey], leftMs(deadlineMs))
    const record = entry
      ? parseRecord(entry.value, machine, `${this.#recordKey} in etcd`)
      : ArbiterRecord.fresh(machine)
    if (held !== undefined && this.#held !== undefined && !record.isHeldBy(replica, held)) {
      this.#held = undefined
      this.#options.onFenced?.({ generation: record.fields.generation, holder: record.fields.holder })
    }
    return { record, recordRevision: entry?.modRevision ?? absentRevision, holder }
  }

  async #obstacleTo({ record, holder }: Situation, deadlineMs: number): Promise<StartObstacle | undefined> {
    const named = holder && holderSchema.safeParse(parseJson(holder.value)).data
    if (!holder || !named || !record.isHeldBy(named.replica, named.generation)) return undefined
    const askedAtMs = performance.now()
    const seconds = await this.#client.leaseSeconds(holder.lease, leftMs(deadlineMs))
    const seen = this.#seenLease
    if (seen?.id !== holder.lease) {
      this.#seenLease = { id: holder.lease, seconds, atMs: performance.now() }
      return 'holder-awaited'
    }
    // Seconds are rounded down: a lease that nobody keeps has less than one more left than they and the clock say.
    const isKept = seconds >= seen.seconds + 1 - (askedAtMs - seen.atMs) / 1000
    return isKept ? 'holder-connected' : 'holder-awaited'
  }

  // ---- the session: a lease, and somebody who keeps it ---------------------------------------------------------------

  /** One session at a time, however many calls find none. */
  async #ensureSession(deadlineMs: number): Promise<void> {
    if (this.#lease !== undefined && this.#opening === undefined) return
    this.#opening ??= this.#openSession(deadlineMs).finally(() => {
      this.#opening = undefined
    })
    await this.#opening
  }

  async #openSession(deadlineMs: number): Promise<void> {
    const lease = await this.#client.grantLease(leaseSeconds, leftMs(deadlineMs))
    this.#lease = lease
    this.#keeper = setInterval(() => void this.#keepSession(lease), keepIntervalMs)
    this.#keeper.unref()
    try {
      for (;;) {
        const situation = await this.#look(deadlineMs)
        if (this.#held === undefined) return
        // A holder that comes back says that it lives, under its new lease.
        const verdict = { answer: undefined, next: situation.record, held: this.#held }
        if (await this.#carryOut(situation, verdict, deadlineMs)) return
      }
    } catch (error) {
      this.#endSession()
      throw error
    }
  }

  async #keepSession(lease: string): Promise<void> {
    try {
      await this.#client.keepLease(lease, keepTimeoutMs)
      if (this.#held !== undefined) await this.#look(performance.now() + keepTimeoutMs)
    } catch (error) {
      // A cluster out of reach is asked again; only it knows when the lease is over.
      if (isLeaseGone(error) && this.#lease === lease) this.#loseSession()
    }
  }

  #loseSession(): void {
    this.#endSession()
    this.#options.onSessionLost?.()
  }

  #endSession(): void {
    clearInterval(this.#keeper)
    this.#lease = undefined
  }
}

function isLeaseGone(error: unknown): boolean {
  return error instanceof EtcdError && error.reason === 'lease-gone'
}

function leftMs(deadlineMs: number): number {
  return deadlineMs - performance.now()
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const arbiterReasons: Readonly<Record<EtcdErrorReason, ArbiterErrorReason>> = {
  unreachable: 'unreachable',
  denied: 'denied',
  full: 'storage',
  // The next call opens another session.
  'lease-gone': 'unreachable',
  protocol: 'protocol',
}

/** In the words of `ArbiterAccess`. */
async function translated<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof EtcdError) throw new ArbiterError(arbiterReasons[error.reason], error.message)
    if (error instanceof WorldError && error.code === 'arbiter-record-damaged') {
      throw new ArbiterError('storage', error.message)
    }
    throw error
  }
}
