/**
 * The arbiter without its socket: sessions, records and fences of all machines. An operation decides by the rules
 * (`arbiter-record.ts`), makes the record durable, raises the fence and tells the replicas whose hold is over, all in one
 * turn of the event loop; a grant is then answered only after the fence has drained (invariant 9).
 *
 * When the primary's session is lost nothing happens by itself: only start and test-and-set move the record.
 *
 * A holder that lost its session (its connection broke, or this arbiter was started again) is awaited for a moment: a start
 * that came first would be safe, for it fences, but it would cost a machine that runs. Only starts wait, a backup's
 * test-and-set never does; no promise hangs on this clock.
 */

import { randomUUID } from 'node:crypto'
import { WorldError } from '../base/assert.ts'
import type {
  ArbiterRecord,
  ArbiterRecordFields,
  HolderAnswer,
  Ruling,
  StartAnswer,
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

export class Arbiter {
  /** New at every start of the disk server: what was unflushed in an older one may be lost. */
  readonly bootId = randomUUID()
  readonly #machines: ReadonlyMap<string, ArbitratedMachine>
  readonly #storage: RecordStorage
  readonly #nowMs: () => number

  /**
   * @param tokens the secret of each machine, by its name
   * @param nowMs a clock that never goes back
   */
  constructor(
    storage: RecordStorage,
    tokens: Readonly<Record<string, string>>,
    nowMs: () => number = () => performance.now(),
  ) {
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

  /** Opens a session. A replica that comes back as the holder says so with `held`; if that is over, it is told. */
  join(session: ArbiterSession): void {
    const machine = this.#machine(session)
    machine.sessions.add(session)
    this.#tellFenced(machine)
  }

  leave(session: ArbiterSession): void {
    const machine = this.#machine(session)
    if (isHolderConnected(machine)) machine.awaitHolderUntilMs = this.#nowMs() + awaitHolderMs
    machine.sessions.delete(session)
  }

  read(session: ArbiterSession): ArbiterRecordFields {
    return this.#machine(session).record.fields
  }

  /** @param holderHasEnded who asks has seen that no process of the holder is left: it is not awaited */
  async start(session: ArbiterSession, holderHasEnded = false): Promise<StartAnswer> {
    const machine = this.#machine(session)
    const obstacle = isHolderConnected(machine)
      ? 'holder-connected'
      : holderHasEnded || this.#nowMs() >= machine.awaitHolderUntilMs
        ? undefined
        : 'holder-awaited'
    const answer = this.#decide(machine, machine.record.start(session.replica, obstacle), (ruled) => {
      if (ruled.granted) session.held = ruled.generation
    })
    if (answer.granted) await machine.fence.drained()
    return answer
  }

  async testAndSet(session: ArbiterSession, generation: number): Promise<TestAndSetAnswer> {
    const machine = this.#machine(session)
    const answer = this.#decide(machine, machine.record.testAndSet(session.replica, generation), (ruled) => {
      if (ruled.won) session.held = ruled.generation
    })
    if (answer.won) await machine.fence.drained()
    return answer
  }

  setEligible(session: ArbiterSession, generation: number, eligible: readonly string[]): HolderAnswer {
    const machine = this.#machine(session)
    return this.#decide(machine, machine.record.setEligible(session.replica, generation, eligible), (ruled) => {
      if (ruled.accepted) session.held = ruled.generation
    })
  }

  openGeneration(session: ArbiterSession, generation: number, eligible: readonly string[]): HolderAnswer {
    const machine = this.#machine(session)
    return this.#decide(machine, machine.record.openGeneration(session.replica, generation, eligible), (ruled) => {
      if (ruled.accepted) session.held = ruled.generation
    })
  }

  /** Answered after the last request of the old hold: tools may use the disks then. */
  async release(session: ArbiterSession, generation: number): Promise<HolderAnswer> {
    const machine = this.#machine(session)
    const answer = this.#decide(machine, machine.record.release(session.replica, generation), (ruled) => {
      if (ruled.accepted) session.held = undefined
    })
    if (answer.accepted) await machine.fence.drained()
    return answer
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
