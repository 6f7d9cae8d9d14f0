/**
 * The arbiter without its socket, and without a promise: sessions, records and fences of all machines. An operation decides by the rules
 * (`arbiter-record.ts`), makes the record durable, raises the fence and tells the replicas whose hold is over, all in one
 * turn of the event loop; a grant is then answered only after the fence has drained (invariant 9).
 *
 * When the primary's session is lost nothing happens by itself: only start and test-and-set move the record.
 *
 * A holder that lost its session (its connection broke, or this arbiter was started again) is awaited for a moment: a start
 * that came first would be safe, for it fences, but it would cost a machine that runs. Only starts wait, a backup's
 * test-and-set never does; no promise hangs on this clock.
 *
 * Where another arbiter decides (etcd), this one grants nothing. It *adopts* what a replica that knows the machine's token was
 * granted there: the record and the fence follow, durable and drained as after a grant of its own.
 */

import { randomUUID } from 'node:crypto'
import { assert, unreachable, WorldError } from '../base/assert.ts'
import type {
  ArbiterRecord,
  ArbiterRecordFields,
  HolderAnswer,
  Ruling,
  StartAnswer,
  StartObstacle,
  TestAndSetAnswer,
} from './arbiter-record.ts'
import { Fence } from './fence.ts'
import { equalSecrets } from './names.ts'
import type { RecordStorage } from './record-storage.ts'

/** Told to a holder whose generation is over. */
export interface FencedNotice {
  readonly generation: number
  readonly holder: string | null
}

/** A replica that has shown its token. */
export interface ArbiterSession {
  readonly machine: string
  readonly replica: string
  /** The generation this session holds the machine in, as it took it or said at hello. */
  held: number | undefined
  readonly onFenced: (notice: FencedNotice) => void
}

/** A replica connects again after 200 ms; its attempt before may have taken 2 s to fail. */
const awaitHolderMs = 3_000

interface ArbitratedMachine {
  record: ArbiterRecord
  readonly fence: Fence
  readonly token: string
  readonly sessions: Set<ArbiterSession>
  /** Until then the holder may be about to come back. */
  awaitHolderUntilMs: number
}

/** What a session may ask. */
export type ArbiterQuestion =
  | { readonly op: 'read' }
  /** `holderHasEnded`: who asks has seen that no process of the holder is left: it is not awaited. */
  | { readonly op: 'start'; readonly holderHasEnded?: boolean | undefined }
  | { readonly op: 'testAndSet' | 'release' | 'adopt'; readonly generation: number }
  | {
      readonly op: 'setEligible' | 'openGeneration'
      readonly generation: number
      readonly eligible: readonly string[]
    }

interface AnswersByQuestion {
  readonly read: ArbiterRecordFields
  readonly start: StartAnswer
  readonly testAndSet: TestAndSetAnswer
  readonly setEligible: HolderAnswer
  readonly openGeneration: HolderAnswer
  readonly release: HolderAnswer
  readonly adopt: HolderAnswer
}

export type ArbiterAnswerOf<Op extends ArbiterQuestion['op'] = ArbiterQuestion['op']> = AnswersByQuestion[Op]

export class Arbiter {
  /** New at every start of the disk server: what was unflushed in an older one may be lost. */
  readonly bootId: string
  readonly isDecidedElsewhere: boolean
  readonly #machines: ReadonlyMap<string, ArbitratedMachine>
  readonly #storage: RecordStorage
  readonly #nowMs: () => number

  /**
   * @param tokens the secret of each machine, by its name
   * @param nowMs a clock that never goes back
   * @param isDecidedElsewhere another arbiter decides about the machines
   */
  constructor(
    storage: RecordStorage,
    tokens: Readonly<Record<string, string>>,
    nowMs: () => number = () => performance.now(),
    bootId: string = randomUUID(),
    isDecidedElsewhere = false,
  ) {
    this.bootId = bootId
    this.isDecidedElsewhere = isDecidedElsewhere
    this.#storage = storage
    this.#nowMs = nowMs
    const awaitHolderUntilMs = nowMs() + awaitHolderMs
    this.#machines = new Map(
      Object.entries(tokens).map(([machine, token]) => {
        const record = storage.load(machine)
        return [machine, { record, fence: new Fence(record), token, sessions: new Set(), awaitHolderUntilMs }]
      }),
    )
  }

  /** The fence before a machine's exports; undefined for a machine that isn't ours. */
  fence(machine: string): Fence | undefined {
    return this.#machines.get(machine)?.fence
  }

  record(machine: string): ArbiterRecordFields | undefined {
    return this.#machines.get(machine)?.record.fields
  }

  /** Whether `token` is the secret of `machine`. */
  knows(machine: string, token: string): boolean {
    const known = this.#machines.get(machine)
    return known !== undefined && equalSecrets(known.token, token)
  }

  /**
   * Where another arbiter decides: this replica, which has shown the token, was granted the machine there. Older requests
   * are refused from now on, and `fence(machine)` tells when the last of them has finished.
   * @throws WorldError `arbiter-storage`: nothing has changed
   */
  adopt(machineName: string, replica: string, generation: number): HolderAnswer {
    const machine = this.#machines.get(machineName)
    assert(machine && this.isDecidedElsewhere, 'a grant of another arbiter is adopted where another arbiter decides')
    return this.#decide(machine, machine.record.adopt(replica, generation), () => {})
  }

  /** Opens a session. A replica that comes back as the holder says so with `held`; if that is over, it is told. */
  join(session: ArbiterSession): void {
    const machine = this.#machine(session)
    machine.sessions.add(session)
    if (this.isDecidedElsewhere && session.held !== undefined) {
      this.adopt(session.machine, session.replica, session.held)
    }
    this.#tellFenced(machine)
  }

  leave(session: ArbiterSession): void {
    const machine = this.#machine(session)
    if (isHolderConnected(machine)) machine.awaitHolderUntilMs = this.#nowMs() + awaitHolderMs
    machine.sessions.delete(session)
  }

  /**
   * Decides now, and calls `answer`: at once, but a grant only after the fence has drained (invariant 9).
   * @throws WorldError, before anything was decided
   */
  handle(session: ArbiterSession, question: ArbiterQuestion, answer: (answer: ArbiterAnswerOf) => void): void {
    const machine = this.#machine(session)
    const { record } = machine
    this.#requireCompetence(question)
    switch (question.op) {
      case 'read':
        answer(record.fields)
        return
      case 'start': {
        const obstacle = this.#obstacleTo(machine, question.holderHasEnded ?? false)
        const ruled = this.#decide(machine, record.start(session.replica, obstacle), (start) => {
          if (start.granted) session.held = start.generation
        })
        if (ruled.granted) machine.fence.whenDrained(() => answer(ruled))
        else answer(ruled)
        return
      }
      case 'testAndSet': {
        const ruled = this.#decide(machine, record.testAndSet(session.replica, question.generation), (testAndSet) => {
          if (testAndSet.won) session.held = testAndSet.generation
        })
        if (ruled.won) machine.fence.whenDrained(() => answer(ruled))
        else answer(ruled)
        return
      }
      case 'setEligible':
        answer(this.#hold(session, record.setEligible(session.replica, question.generation, question.eligible)))
        return
      case 'openGeneration':
        answer(this.#hold(session, record.openGeneration(session.replica, question.generation, question.eligible)))
        return
      case 'release': {
        // Answered after the last request of the old hold: tools may use the disks then.
        const ruled = this.#decide(machine, record.release(session.replica, question.generation), ({ accepted }) => {
          if (accepted) session.held = undefined
        })
        if (ruled.accepted) machine.fence.whenDrained(() => answer(ruled))
        else answer(ruled)
        return
      }
      case 'adopt': {
        const ruled = this.#decide(machine, record.adopt(session.replica, question.generation), ({ accepted }) => {
          if (accepted) session.held = question.generation
        })
        if (ruled.accepted) machine.fence.whenDrained(() => answer(ruled))
        else answer(ruled)
        return
      }
      default:
        unreachable(question)
    }
  }

  /** Two arbiters that both grant would make two primaries. */
  #requireCompetence({ op }: ArbiterQuestion): void {
    if (op === 'read' || op === 'release' || (op === 'adopt') === this.isDecidedElsewhere) return
    throw new WorldError(
      'arbiter-competence',
      this.isDecidedElsewhere
        ? 'this disk server grants nothing: its VM file names another arbiter, give the same one to the replica'
        : 'this disk server is the arbiter itself, and the replica has another one: give both the same VM file',
    )
  }

  /** `handle` as a promise. */
  ask<Question extends ArbiterQuestion>(
    session: ArbiterSession,
    question: Question,
  ): Promise<ArbiterAnswerOf<Question['op']>> {
    return new Promise((resolve) => {
      this.handle(session, question, (answer) => resolve(answer as ArbiterAnswerOf<Question['op']>))
    })
  }

  #obstacleTo(machine: ArbitratedMachine, holderHasEnded: boolean): StartObstacle | undefined {
    if (isHolderConnected(machine)) return 'holder-connected'
    return holderHasEnded || this.#nowMs() >= machine.awaitHolderUntilMs ? undefined : 'holder-awaited'
  }

  #hold(session: ArbiterSession, ruling: Ruling<HolderAnswer>): HolderAnswer {
    return this.#decide(this.#machine(session), ruling, ({ accepted, generation }) => {
      if (accepted) session.held = generation
    })
  }

  /** Durable first, then visible: to the fence, to this session, to the replicas whose hold is over. */
  #decide<Answer>(machine: ArbitratedMachine, ruling: Ruling<Answer>, onRuled: (answer: Answer) => void): Answer {
    if (ruling.next !== machine.record) {
      try {
        this.#storage.save(ruling.next)
      } catch (error) {
        throw new WorldError('arbiter-storage', `the arbiter cannot store its record: ${(error as Error).message}`)
      }
      machine.record = ruling.next
      machine.fence.raise(ruling.next)
    }
    onRuled(ruling.answer)
    this.#tellFenced(machine)
    return ruling.answer
  }

  #tellFenced(machine: ArbitratedMachine): void {
    for (const session of machine.sessions) {
      if (session.held === undefined || machine.record.isHeldBy(session.replica, session.held)) continue
      session.held = undefined
      session.onFenced({ generation: machine.record.fields.generation, holder: machine.record.fields.holder })
    }
  }

  #machine(session: ArbiterSession): ArbitratedMachine {
    const machine = this.#machines.get(session.machine)
    if (!machine) throw new WorldError('arbiter-unknown-machine', `no machine is called ${session.machine} here`)
    return machine
  }
}

function isHolderConnected(machine: ArbitratedMachine): boolean {
  for (const { replica, held } of machine.sessions) {
    if (held !== undefined && machine.record.isHeldBy(replica, held)) return true
  }
  return false
}
