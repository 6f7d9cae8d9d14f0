/**
 * The stamp of a replica's own copies of disks, in the state folder of its host: what became of them (replica/copy-state.ts). It is
 * on stable storage when `write` returns.
 */

import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { ExitCode, WorldError } from '../base/assert.ts'
import type { ArbiterRecordFields } from '../disk/arbiter-record.ts'
import { type CopyState, copyStanding } from '../replica/copy-state.ts'
import type { ReplicaName } from './vm-folder.ts'

const stampSchema = z.discriminatedUnion('state', [
  z.strictObject({ version: z.literal(1), state: z.literal('live'), generation: z.int().nonnegative() }),
  z.strictObject({ version: z.literal(1), state: z.literal('follows') }),
])

type Stamped = z.infer<typeof stampSchema>

export class CopyStamp {
  readonly #path: string

  constructor(path: string) {
    this.#path = path
  }

  static of(folderPath: string, replica: ReplicaName): CopyStamp {
    return new CopyStamp(join(folderPath, `${replica}.copies`))
  }

  /** Undefined: the copies are new. @throws WorldError `copy-stamp-damaged` */
  read(): CopyState | undefined {
    let text: string
    try {
      text = readFileSync(this.#path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw this.#unusable(`cannot be read: ${(error as Error).message}`)
    }
    try {
      return stampSchema.parse(JSON.parse(text))
    } catch {
      throw this.#unusable('is damaged')
    }
  }

  write(state: CopyState): void {
    const draft = `${this.#path}.new`
    const stamped: Stamped = { version: 1, ...state }
    withFile(draft, 'w', (file) => {
      writeSync(file, `${JSON.stringify(stamped)}\n`)
      fsyncSync(file)
    })
    renameSync(draft, this.#path)
    withFile(dirname(this.#path), 'r', fsyncSync)
  }

  /**
   * Before a machine is started from these copies, which are `replica`'s.
   * @throws WorldError `copy-outdated`: others were live later; `copy-incomplete`: nobody's are known to be the newest
   */
  requireNewest(record: ArbiterRecordFields, replica: ReplicaName): void {
    const { machine, generation, heldSince } = record
    const standing = copyStanding(this.read(), record, replica)
    if (standing === 'newest') return
    if (standing === 'incomplete') {
      throw new WorldError(
        'copy-incomplete',
        `replica ${replica} took ${machine} over in generation ${heldSince}, and was lost before its copies were known to have all that it had followed. Start the machine where it was live before, after removing that replica's file NAME.copies there: its disks are as a power cut left them`,
        ExitCode.wrongState,
      )
    }
    throw new WorldError(
      'copy-outdated',
      `the copies of ${machine}'s disks here are not its newest: another replica was live later (generation ${generation}). Start the machine there; or, if those are lost for good, remove ${this.#path} to start from these`,
      ExitCode.wrongState,
    )
  }

  #unusable(why: string): WorldError {
    return new WorldError(
      'copy-stamp-damaged',
      `${this.#path} ${why}: it says whether the copies of the machine's disks here are its newest; remove it if they are`,
      ExitCode.badConfiguration,
    )
  }
}

function withFile(path: string, flags: string, use: (file: number) => void): void {
  const file = openSync(path, flags)
  try {
    use(file)
  } finally {
    closeSync(file)
  }
}
