/**
 * Replay mode: drives a machine from a log, and checks at every marker and digest that it does what the log says (VMware
 * FT, deterministic replay; ARCHITECTURE, invariants 2, 7 and 11). The backup's hart runs behind it; so do kept logs.
 *
 *   log batch ──► append ──► run: machine.run to exactly the next entry's count
 *                                  input   ──► machine.apply
 *                                  marker  ──► equals the output just made?   ──► handed on, kept until confirmed
 *                                  digest  ──► equals machine.digest()?
 *
 * It never runs past the count of the last entry it has (invariant 7): with no entries left it stands still, however
 * long. A difference is returned as data; after one, the replayer is finished for good.
 *
 * A disk read whose data is not in the log (`diskRead`) waits for `provide`: this replica reads the disk itself (VMware FT,
 * "Disk reads on the backup"). The entry's digest tells whether it has read the same; something else is no answer, and when it
 * becomes a divergence is not decided here.
 *
 * `goLive` turns it into a Recorder at the end of the log. Which replica may do that is not decided here.
 */

import { assert, WorldError } from '../base/assert.ts'
import { formatDigest, hash64 } from '../base/digest.ts'
import { decodeBatch, type LogBatch } from '../log/batch.ts'
import type { Divergence, DivergenceKind } from '../log/divergence.ts'
import {
  type DiskRead,
  type LogEnd,
  type LogEntry,
  type LogIndex,
  logIndex,
  type MarkedOutput,
  type Marker,
  type ReissuedRequest,
} from '../log/entry.ts'

import { outputChecksum } from '../log/output-codec.ts'
import {
  type DiskStatus,
  type InstructionCount,
  instructionCount,
  type Machine,
  type Output,
} from '../machine/types.ts'
import { Obligations } from './obligations.ts'
import { Recorder, type RecorderOptions } from './recorder.ts'

export interface ReplayedRun {
  readonly state:
    | { readonly kind: 'progress' }
    /** Everything appended is replayed. */
    | { readonly kind: 'needsEntries' }
    /** The next entry waits for what a disk request reads: `provide` it. */
    | { readonly kind: 'needsRead'; readonly need: NeededRead }
    | { readonly kind: 'diverged'; readonly divergence: Divergence }
  /** Regenerated outputs that agreed with their markers, in order. */
  readonly outputs: readonly MarkedOutput[]
  /** Answers of the disk that entered the machine, in order: who keeps what a disk may lose needs to know. */
  readonly diskAnswers: readonly DiskAnswer[]
}

/** A new one for each entry that waits, and for each read that was not what the primary has read. */
export interface NeededRead {
  /** Of the disk request. */
  readonly sequence: bigint
  /** The last read gave something else. */
  readonly difference?: Divergence
}

/** A completion in the log. What was read is left out: it is in the machine. */
export interface DiskAnswer {
  readonly index: LogIndex
  readonly sequence: bigint
  readonly status: DiskStatus
  /** Its data was not in the log: this replica has read it. */
  readonly isOwnRead: boolean
}

/** What a replica starts its live life with. */
export interface GoneLive {
  readonly recorder: Recorder
  /**
   * Made by the last instruction replayed, but their markers never arrived, so nobody can have released them: they are
   * this replica's own first outputs, disk requests among them.
   */
  readonly outputs: readonly MarkedOutput[]
  /** Disk requests with a start and no completion in the log: to issue again, in order. None of `outputs` is here. */
  readonly reissue: readonly ReissuedRequest[]
}

export class Replayer {
  readonly machine: Machine
  readonly #obligations: Obligations
  #queue: LogEntry[] = []
  /** Entries of `#queue` before this position are done. */
  #head = 0
  #replayedEnd: LogEnd
  #appendedEnd: LogEnd
  #lastCount: InstructionCount
  #agreedEnd: LogEnd
  /** Outputs of the instruction at `machine.count` whose markers were not reached yet. */
  #unmarked: Output[] = []
  /** What was read for requests whose answers the log has without data, or is going to have. */
  readonly #reads = new Map<bigint, Uint8Array>()
  #need: NeededRead | undefined
  #divergence: Divergence | undefined
  #isLive = false
  #digestsCompared = 0n

  /**
   * @param nextIndex index of the first entry to come: 0 for a new machine, the snapshot's position otherwise
   * @param obligations what the log before that left unanswered
   */
  constructor(machine: Machine, nextIndex: LogIndex = logIndex(0n), obligations: Obligations = new Obligations()) {
    this.machine = machine
    this.#obligations = obligations
    this.#replayedEnd = nextIndex
    this.#appendedEnd = nextIndex
    this.#agreedEnd = nextIndex
    this.#lastCount = machine.count
  }

  /** Digest entries that agreed with this machine. */
  get digestsCompared(): bigint {
    return this.#digestsCompared
  }

  /** Every entry below this index is replayed. */
  get replayedEnd(): LogEnd {
    return this.#replayedEnd
  }

  /** Every entry below this index was appended. */
  get appendedEnd(): LogEnd {
    return this.#appendedEnd
  }

  /** Takes the next batch. A gap, or a count that goes back, is the world's fault. */
  append(batch: LogBatch): void {
    assert(!this.#isLive, 'a live machine takes no log')
    const entries = decodeBatch(batch.bytes)
    for (const entry of entries) {
      if (entry.index !== this.#appendedEnd) {
        throw new WorldError('log-gap', `log entry ${entry.index} came where ${this.#appendedEnd} is due`)
      }
      if (entry.count < this.#lastCount) {
        throw new WorldError('log-order', `log entry ${entry.index} at ${entry.count} lies before ${this.#lastCount}`)
      }
      this.#appendedEnd = logIndex(entry.index + 1n)
      this.#lastCount = entry.count
    }
    this.#queue = this.#head === this.#queue.length ? entries : this.#queue.slice(this.#head).concat(entries)
    this.#head = 0
  }

  /** What this replica's disk gave for the read of this number. One that the log has answered by now is of no use. */
  provide(sequence: bigint, data: Uint8Array): void {
    if (this.#obligations.reads.isOpen(sequence)) this.#reads.set(sequence, data)
  }

  /** Replays what was appended, for at most `maxInstructions`. */
  run(maxInstructions: bigint): ReplayedRun {
    assert(!this.#isLive, 'a live machine replays nothing')
    const until = instructionCount(this.machine.count + maxInstructions)
    const outputs: MarkedOutput[] = []
    const diskAnswers: DiskAnswer[] = []
    while (this.#divergence === undefined) {
      const entry = this.#queue[this.#head]
      if (entry === undefined) return { state: { kind: 'needsEntries' }, outputs, diskAnswers }
      if (this.machine.count < entry.count) {
        if (this.machine.count >= until) return { state: { kind: 'progress' }, outputs, diskAnswers }
        this.#runTowards(entry, until)
      } else {
        const { index, body } = entry
        if (body.kind === 'diskRead') {
          this.#need = this.#needOf(body, entry)
          if (this.#need) return { state: { kind: 'needsRead', need: this.#need }, outputs, diskAnswers }
        }
        this.#replay(entry, outputs)
        if (body.kind === 'diskCompletion' || body.kind === 'diskRead') {
          const status = body.kind === 'diskRead' ? 'ok' : body.status
          diskAnswers.push({ index, sequence: body.sequence, status, isOwnRead: body.kind === 'diskRead' })
        }
      }
    }
    return { state: { kind: 'diverged', divergence: this.#divergence }, outputs, diskAnswers }
  }

  /**
   * Stops replaying and starts recording. Only when everything appended is replayed, and nothing diverged; who may go
   * live is the replication protocol's decision.
   */
  goLive(options?: RecorderOptions): GoneLive {
    assert(this.#divergence === undefined, 'a diverged replica must not go live')
    assert(this.#replayedEnd === this.#appendedEnd, 'everything acknowledged is replayed before going live')
    assert(!this.#isLive, 'goes live once')
    this.#isLive = true
    const recorder = new Recorder(this.machine, this.#replayedEnd, this.#obligations, options)
    const outputs = recorder.mark(this.#unmarked.splice(0))
    const ownFirst = new Set(outputs.map(({ output }) => output.sequence))
    const reissue = this.machine
      .inFlightDiskRequests()
      .filter((request) => !ownFirst.has(request.sequence))
      .map((output) => ({ output, ...this.#obligations.orderOf(output) }))
    return { recorder, outputs, reissue }
  }

  /** Runs to the entry's count, or to `until` if that comes first, or to outputs. */
  #runTowards(entry: LogEntry, until: InstructionCount): void {
    const { machine } = this
    if (this.#unmarked.length > 0) {
      this.#diverge('unexpectedOutput', entry, describeEntry(entry), describeOutputs(this.#unmarked))
      return
    }
    const target = entry.count < until ? entry.count : until
    const stop = machine.run(target)
    assert(machine.count <= target, 'a backup never runs past its log')
    this.#unmarked = machine.takeOutputs()
    if (this.#unmarked.length > 0 || machine.count === target) return
    if (stop.kind === 'outputs' || stop.kind === 'count') {
      throw new Error(`machine stopped with "${stop.kind}" at ${machine.count}, but without a reason`)
    }
    this.#diverge('stopped', entry, describeEntry(entry), `the hart is ${stop.kind}`)
  }

  /** The machine stands exactly at the entry's position. */
  #replay(entry: LogEntry, outputs: MarkedOutput[]): void {
    const { body } = entry
    if (body.kind === 'marker') {
      const output = this.#unmarked.shift()
      if (output === undefined || !isMarkedBy(output, body)) {
        const found = output === undefined ? 'no output' : describeOutput(output)
        this.#diverge(output === undefined ? 'missingOutput' : 'differentOutput', entry, describeEntry(entry), found)
        return
      }
      this.#obligations.onOutput(output)
      outputs.push({ output, markerIndex: entry.index })
      this.#agreedEnd = logIndex(entry.index + 1n)
    } else if (this.#unmarked.length > 0) {
      this.#diverge('unexpectedOutput', entry, describeEntry(entry), describeOutputs(this.#unmarked))
      return
    } else if (body.kind === 'digest') {
      const digest = this.machine.digest()
      if (digest !== body.digest) {
        this.#diverge('differentDigest', entry, formatDigest(body.digest), formatDigest(digest))
        return
      }
      this.#digestsCompared++
      this.#agreedEnd = logIndex(entry.index + 1n)
    } else if (body.kind === 'diskRead') {
      this.machine.apply({ kind: 'diskCompletion', sequence: body.sequence, status: 'ok', data: this.#takeRead(body) })
      this.#unmarked = this.machine.takeOutputs()
    } else if (body.kind !== 'epochEnd') {
      this.machine.apply(body)
      this.#obligations.onInput(body)
      // A read that failed for the primary has failed, whatever this replica's disk says.
      if (body.kind === 'diskCompletion') this.#reads.delete(body.sequence)
      this.#unmarked = this.machine.takeOutputs()
    }
    this.#obligations.onEntry(entry)
    this.#head++
    this.#replayedEnd = logIndex(entry.index + 1n)
  }

  /** Undefined: what the primary has read is here. */
  #needOf({ sequence, dataDigest }: DiskRead, entry: LogEntry): NeededRead | undefined {
    const data = this.#reads.get(sequence)
    if (data === undefined) return this.#need?.sequence === sequence ? this.#need : { sequence }
    const found = hash64(data)
    if (found === dataDigest) return undefined
    this.#reads.delete(sequence)
    const expected = `${formatDigest(dataDigest)} for disk read ${sequence}`
    return { sequence, difference: this.#divergenceAt('differentRead', entry, expected, formatDigest(found)) }
  }

  #takeRead({ sequence }: DiskRead): Uint8Array {
    const data = this.#reads.get(sequence)!
    this.#reads.delete(sequence)
    return data
  }

  #divergenceAt(kind: DivergenceKind, entry: LogEntry, expected: string, found: string): Divergence {
    return { kind, agreedEnd: this.#agreedEnd, index: entry.index, count: this.machine.count, expected, found }
  }

  #diverge(kind: DivergenceKind, entry: LogEntry, expected: string, found: string): void {
    this.#divergence = this.#divergenceAt(kind, entry, expected, found)
  }
}

function isMarkedBy(output: Output, marker: Marker): boolean {
  return (
    output.kind === marker.outputKind &&
    output.sequence === marker.sequence &&
    outputChecksum(output) === marker.checksum
  )
}

function describeMarker(marker: Marker): string {
  return `${marker.outputKind} output ${marker.sequence} with checksum ${formatDigest(marker.checksum)}`
}

function describeOutput(output: Output): string {
  return `${output.kind} output ${output.sequence} with checksum ${formatDigest(outputChecksum(output))}`
}

function describeOutputs(outputs: readonly Output[]): string {
  return outputs.length === 1
    ? describeOutput(outputs[0]!)
    : `${outputs.length} outputs, first ${describeOutput(outputs[0]!)}`
}

function describeEntry(entry: LogEntry): string {
  const { body, count } = entry
  return `${body.kind === 'marker' ? describeMarker(body) : `${body.kind} entry`} at instruction ${count}`
}
