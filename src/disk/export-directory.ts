/**
 * Which exports there are, and who may open them. An export that belongs to a machine stands behind that machine's fence:
 *
 * - with a replica's pass: only the holder, in a generation it holds, and only once the fence has drained;
 * - without a pass while nobody holds the machine: a tool on a stopped machine, until the machine is started;
 * - without a pass while somebody holds it: read-only. What it reads is a moving picture; `nbdinfo` is happy with that.
 */

import { assert, WorldError } from '../base/assert.ts'
import type { Arbiter } from './arbiter.ts'
import type { BlockStore } from './block-store.ts'
import type { DiskPass, Leave } from './fence.ts'
import { fencedPrefix, parseExportName, type ReplicaPass } from './names.ts'
import { ExportFlag, type ExportInfo, OptionError } from './nbd-wire.ts'

export interface StoredExport {
  readonly name: string
  readonly store: BlockStore
  readonly readOnly: boolean
  /** The machine whose fence stands before this export. */
  readonly machine?: string
}

/** An export as one connection sees it. */
export interface OpenExport {
  readonly info: ExportInfo
  readonly store: BlockStore
  /** Whether a request that arrives now has a chance. */
  permits(): boolean
  /** Lets a request touch the store, or refuses with undefined. */
  enter(): Leave | undefined
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

  constructor(exports: readonly StoredExport[], arbiter: Arbiter) {
    this.#exports = exports
    this.#arbiter = arbiter
  }

  get names(): readonly string[] {
    return this.#exports.map(({ name }) => name)
  }

  /** Opens an export by what the client sent; `ExportRefusal` says why not. The empty name is the first export. */
  async open(text: string): Promise<OpenExport> {
    const { exportName, pass } = parse(text)
    const found = exportName === '' ? this.#exports[0] : this.#exports.find(({ name }) => name === exportName)
    if (!found) throw new ExportRefusal(OptionError.unknown, `no export is called "${exportName}"`)
    if (found.machine === undefined) {
      if (pass) throw new ExportRefusal(OptionError.unknown, `export "${found.name}" belongs to no machine`)
      return this.#openUnfenced(found)
    }
    return pass ? await this.#openForReplica(found, found.machine, pass) : this.#openForTool(found, found.machine)
  }

  #openUnfenced(found: StoredExport): OpenExport {
    return { info: this.#info(found, found.readOnly), store: found.store, permits: () => true, enter: () => () => {} }
  }

  async #openForReplica(found: StoredExport, machine: string, pass: ReplicaPass): Promise<OpenExport> {
    if (pass.machine !== machine || !this.#arbiter.knows(machine, pass.token)) {
      throw new ExportRefusal(OptionError.policy, `export "${found.name}": wrong machine or token`)
    }
    const fence = this.#fence(machine)
    const diskPass: DiskPass = { kind: 'replica', replica: pass.replica, generation: pass.generation }
    // A grant that is still draining is no grant yet: nobody overtakes the requests of the older generation.
    if (fence.permits(diskPass)) await fence.drained()
    if (!fence.permits(diskPass)) {
      const { generation, holder } = this.#arbiter.record(machine)!
      throw new ExportRefusal(
        OptionError.policy,
        `${fencedPrefix}${pass.replica} does not hold ${machine} in generation ${pass.generation}; ` +
          `generation ${generation} is held by ${holder ?? 'nobody'}`,
      )
    }
    return this.#openFenced(found, machine, diskPass)
  }

  #openForTool(found: StoredExport, machine: string): OpenExport {
    const { generation, holder } = this.#arbiter.record(machine)!
    const pass: DiskPass = holder === null ? { kind: 'tool', generation } : { kind: 'reader' }
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
    return { sizeBytes: found.store.sizeBytes, flags, description: `understudy boot ${this.#arbiter.bootId}` }
  }
}

function parse(text: string) {
  try {
    return parseExportName(text)
  } catch (error) {
    throw new ExportRefusal(OptionError.unknown, (error as Error).message)
  }
}
