/**
 * Which exports there are, and who may open them. An export that belongs to a machine stands behind that machine's fence:
 *
 * - with a replica's pass: only the holder, in a generation it holds, on its newest connection, and only once the fence
 *   and the seat have drained;
 * - without a pass while nobody holds the machine: a tool on a stopped machine, until the machine is started;
 * - where another arbiter decides (etcd), a pass with a later generation than any before is believed, for it has the
 *   machine's token: from that moment older ones are refused, and it is opened when they have drained;
 * - a replica's own copy (`owner`) with that replica's pass, whoever holds the machine: on its newest connection. Nobody else
 *   writes to it, so there is nothing to fence;
 * - without a pass while somebody holds it: read-only. What it reads is a moving picture; `nbdinfo` is happy with that.
 */

import { assert, WorldError } from '../base/assert.ts'
import type { Arbiter } from './arbiter.ts'
import type { BlockStore } from './block-store.ts'
import type { DiskPass, Leave } from './fence.ts'
import { fencedPrefix, formatBootId, parseExportName, type ReplicaPass } from './names.ts'
import { ExportFlag, type ExportInfo, OptionError } from './nbd-wire.ts'
import { Seat, type SeatHold } from './seat.ts'

export interface StoredExport {
  readonly name: string
  readonly store: BlockStore
  readonly readOnly: boolean
  /** The machine whose fence stands before this export. */
  readonly machine?: string
  /** The replica whose own copy of a disk this is: it alone writes to it, as primary and as backup. */
  readonly owner?: string
}

/** An export as one connection sees it. */
export interface OpenExport {
  readonly info: ExportInfo
  readonly store: BlockStore
  /** Whether a request that arrives now has a chance. */
  permits(): boolean
  /** Lets a request touch the store, or refuses with undefined. */
  enter(): Leave | undefined
  /** Fires when a newer connection of the same replica has come: nothing of this one may be carried out any more. */
  readonly superseded?: AbortSignal
}

/** An open that was refused, as NBD says it. */
export class ExportRefusal extends WorldError {
  readonly optionError: number

  constructor(optionError: number, message: string) {
    super('nbd-export-refused', message)
    this.optionError = optionError
  }
}

export class ExportDirectory {
  readonly #exports: readonly StoredExport[]
  readonly #arbiter: Arbiter
  /** By export and replica. */
  readonly #seats = new Map<string, Seat>()

  constructor(exports: readonly StoredExport[], arbiter: Arbiter) {
    this.#exports = exports
    this.#arbiter = arbiter
  }

  get names(): readonly string[] {
    return this.#exports.map(({ name }) => name)
  }

  /**
   * Opens an export by what the client sent. `answer` is called at once, but a replica's open only when the fence and its
   * seat have drained. The empty name is the first export.
   * @param connection who opens it, to know it again
   */
  open(text: string, connection: object, answer: (answer: OpenExport | ExportRefusal) => void): void {
    try {
      const { exportName, pass } = parse(text)
      const found = exportName === '' ? this.#exports[0] : this.#exports.find(({ name }) => name === exportName)
      if (!found) throw new ExportRefusal(OptionError.unknown, `no export is called "${exportName}"`)
      if (found.machine === undefined) {
        if (pass) throw new ExportRefusal(OptionError.unknown, `export "${found.name}" belongs to no machine`)
        answer(this.#openUnfenced(found))
      } else if (pass) this.#openForReplica(found, found.machine, pass, connection, answer)
      else answer(this.#openForTool(found, found.machine))
    } catch (error) {
      if (!(error instanceof ExportRefusal)) throw error
      answer(error)
    }
  }

  #openUnfenced(found: StoredExport): OpenExport {
    return { info: this.#info(found, found.readOnly), store: found.store, permits: () => true, enter: () => () => {} }
  }

  #openForReplica(
    found: StoredExport,
    machine: string,
    pass: ReplicaPass,
    connection: object,
    answer: (answer: OpenExport | ExportRefusal) => void,
  ): void {
    if (pass.machine !== machine || !this.#arbiter.knows(machine, pass.token)) {
      throw new ExportRefusal(OptionError.policy, `export "${found.name}": wrong machine or token`)
    }
    if (found.owner !== undefined) {
      this.#openForOwner(found, machine, pass, connection, answer)
      return
    }
    if (this.#arbiter.isDecidedElsewhere) this.#adopt(machine, pass)
    const fence = this.#fence(machine)
    const diskPass: DiskPass = { kind: 'replica', replica: pass.replica, generation: pass.generation }
    const refusal = (): ExportRefusal => {
      const { generation, holder } = this.#arbiter.record(machine)!
      return new ExportRefusal(
        OptionError.policy,
        `${fencedPrefix}${pass.replica} does not hold ${machine} in generation ${pass.generation}; ` +
          `generation ${generation} is held by ${holder ?? 'nobody'}`,
      )
    }
    if (!fence.permits(diskPass)) throw refusal()
    const seat = this.#seat(found, pass)
    const hold = seat.take(connection)
    const opened = (): void => {
      if (fence.permits(diskPass)) answer(this.#openSeated(this.#openFenced(found, machine, diskPass), seat, hold))
      else answer(refusal())
    }
    // A grant that is still draining is no grant yet: nobody overtakes the requests of the older generation.
    fence.whenDrained(() => seat.whenDrained(opened))
  }

  #openForOwner(
    found: StoredExport,
    machine: string,
    pass: ReplicaPass,
    connection: object,
    answer: (answer: OpenExport) => void,
  ): void {
    if (pass.replica !== found.owner) {
      throw new ExportRefusal(
        OptionError.policy,
        `export "${found.name}" is the own copy of replica ${found.owner}, and ${pass.replica} is another one`,
      )
    }
    const seat = this.#seat(found, pass)
    const hold = seat.take(connection)
    const pickedUp = {
      ...this.#openFenced(found, machine, { kind: 'reader' }),
      info: this.#info(found, found.readOnly),
    }
    seat.whenDrained(() => answer(this.#openSeated(pickedUp, seat, hold)))
  }

  #seat(found: StoredExport, { replica }: ReplicaPass): Seat {
    const name = `${found.name}/${replica}`
    const seat = this.#seats.get(name) ?? new Seat()
    this.#seats.set(name, seat)
    return seat
  }

  #adopt(machine: string, { replica, generation }: ReplicaPass): void {
    try {
      this.#arbiter.adopt(machine, replica, generation)
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      // Not a fence: the replica comes back and shows it again.
      throw new ExportRefusal(OptionError.shutdown, error.message)
    }
  }

  #openSeated(opened: OpenExport, seat: Seat, hold: SeatHold): OpenExport {
    return {
      ...opened,
      // A client that uses several connections at once would take the seat from itself.
      info: { ...opened.info, flags: opened.info.flags & ~ExportFlag.canMultiConn },
      enter: () => {
        const leaveSeat = seat.enter(hold)
        const leaveFence = leaveSeat && opened.enter()
        if (!leaveFence) {
          leaveSeat?.()
          return undefined
        }
        return () => {
          leaveFence()
          leaveSeat()
        }
      },
      superseded: hold.lost,
    }
  }

  #openForTool(found: StoredExport, machine: string): OpenExport {
    const { generation, holder } = this.#arbiter.record(machine)!
    const isStopped = holder === null && found.owner === undefined
    const pass: DiskPass = isStopped ? { kind: 'tool', generation } : { kind: 'reader' }
    return this.#openFenced(found, machine, pass)
  }

  #openFenced(found: StoredExport, machine: string, pass: DiskPass): OpenExport {
    const fence = this.#fence(machine)
    return {
      info: this.#info(found, found.readOnly || pass.kind === 'reader'),
      store: found.store,
      permits: () => fence.permits(pass),
      enter: () => fence.enter(pass),
    }
  }

  #fence(machine: string) {
    const fence = this.#arbiter.fence(machine)
    assert(fence, `an export belongs to ${machine}, which the arbiter does not know`)
    return fence
  }

  /** One image behind all connections: a flush on one covers what any other was answered, hence CAN_MULTI_CONN. */
  #info(found: StoredExport, readOnly: boolean): ExportInfo {
    const flags =
      ExportFlag.hasFlags |
      ExportFlag.sendFlush |
      ExportFlag.sendDf |
      ExportFlag.canMultiConn |
      (readOnly ? ExportFlag.readOnly : ExportFlag.sendFua | ExportFlag.sendTrim | ExportFlag.sendWriteZeroes)
    return { sizeBytes: found.store.sizeBytes, flags, description: formatBootId(this.#arbiter.bootId) }
  }
}

function parse(text: string) {
  try {
    return parseExportName(text)
  } catch (error) {
    throw new ExportRefusal(OptionError.unknown, (error as Error).message)
  }
}
