/**
 * Where the arbiter's records stand: one small JSON file per machine. A record is written to a second file, forced to
 * the disk, renamed over the first, and the folder is forced too: after `save` returns, a power cut changes nothing, and
 * before that the old record is whole.
 *
 * It is synchronous on purpose. Rule, durability and fence then happen in one turn of the event loop with nothing in
 * between, and a grant never queues behind slow disk requests in the thread pool. Records change a few times per failover.
 */

import * as nodeFiles from 'node:fs'
import { join } from 'node:path'
import { ExitCode, WorldError } from '../base/assert.ts'
import { ArbiterRecord } from './arbiter-record.ts'
import { formatRecord, parseRecord } from './record-text.ts'

/** The calls that durability stands on; a test watches their order. */
export type RecordFiles = Pick<
  typeof nodeFiles,
  'closeSync' | 'fsyncSync' | 'mkdirSync' | 'openSync' | 'readFileSync' | 'renameSync' | 'writeSync'
>

export interface RecordStorage {
  /** The machine's record, a fresh one if it has none. */
  load(machine: string): ArbiterRecord
  /** Durable when it returns; on an exception the old record counts. */
  save(record: ArbiterRecord): void
}

export class FileRecordStorage implements RecordStorage {
  readonly #folder: string
  readonly #files: RecordFiles

  /** Creates the folder if need be. */
  constructor(folder: string, files: RecordFiles = nodeFiles) {
    this.#folder = folder
    this.#files = files
    try {
      files.mkdirSync(folder, { recursive: true })
    } catch (error) {
      throw new WorldError(
        'arbiter-folder',
        `the arbiter's folder ${folder} cannot be created: ${(error as Error).message}`,
        ExitCode.badConfiguration,
      )
    }
  }

  load(machine: string): ArbiterRecord {
    const path = this.#path(machine)
    let text: string
    try {
      text = this.#files.readFileSync(path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ArbiterRecord.fresh(machine)
      throw new WorldError('arbiter-record-unreadable', `arbiter record ${path}: ${(error as Error).message}`)
    }
    return parseRecord(text, machine, path)
  }

  save(record: ArbiterRecord): void {
    const path = this.#path(record.fields.machine)
    const draft = `${path}.new`
    this.#withFile(draft, 'w', (file) => {
      this.#files.writeSync(file, formatRecord(record))
      this.#files.fsyncSync(file)
    })
    this.#files.renameSync(draft, path)
    this.#withFile(this.#folder, 'r', (folder) => this.#files.fsyncSync(folder))
  }

  #withFile(path: string, flags: string, use: (file: number) => void): void {
    const file = this.#files.openSync(path, flags)
    try {
      use(file)
    } finally {
      this.#files.closeSync(file)
    }
  }

  #path(machine: string): string {
    return join(this.#folder, `${machine}.json`)
  }
}
