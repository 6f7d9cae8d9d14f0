/**
 * A store over an ordinary raw image file.
 *
 * Durability: `flush` is fdatasync. Flushes that arrive while one runs share the next one. After a failed fdatasync the
 * kernel forgets which pages it lost, so a later success would mean nothing: from then on the store answers every write
 * and flush with an error until the server is started again.
 *
 * Trim does nothing. It is advice, Node has no fallocate, and a helper process that punches holes could outlive a killed
 * server and act after the next generation began. Writing zeroes leaves holes as they are, so that a sparse image stays
 * sparse under mkfs and nbdcopy.
 */

import { type FileHandle, open } from 'node:fs/promises'
import { ExitCode, WorldError } from '../base/assert.ts'
import { MiB, sectorBytes } from '../base/units.ts'
import type { BlockStore } from './block-store.ts'

const zeroes = Buffer.alloc(MiB)

function badImage(code: string, message: string): WorldError {
  return new WorldError(code, message, ExitCode.badConfiguration)
}

export class FileStore implements BlockStore {
  readonly sizeBytes: number
  /** Device and inode: what makes two paths the same image. */
  readonly identity: string
  readonly #file: FileHandle
  #failure: Error | undefined
  #runningFlush: Promise<void> | undefined
  #nextFlush: Promise<void> | undefined

  private constructor(file: FileHandle, sizeBytes: number, identity: string) {
    this.#file = file
    this.sizeBytes = sizeBytes
    this.identity = identity
  }

  /** Opens an image. A missing, unreadable or odd-sized one is a `WorldError`. */
  static async open(path: string, readOnly: boolean): Promise<FileStore> {
    const file = await openImage(path, readOnly)
    try {
      const status = await file.stat({ bigint: true })
      if (!status.isFile()) throw badImage('image-not-a-file', `disk image ${path} is not an ordinary file`)
      const sizeBytes = Number(status.size)
      if (sizeBytes === 0) throw badImage('image-empty', `disk image ${path} is empty: build or copy it again`)
      if (sizeBytes % sectorBytes !== 0) {
        throw badImage(
          'image-truncated',
          `disk image ${path} has ${sizeBytes} bytes, not a multiple of ${sectorBytes}: it is cut short or no raw image`,
        )
      }
      return new FileStore(file, sizeBytes, `${status.dev}-${status.ino}`)
    } catch (error) {
      await file.close()
      throw error
    }
  }

  async read(offset: number, lengthBytes: number): Promise<Buffer> {
    const data = Buffer.allocUnsafe(lengthBytes)
    let done = 0
    while (done < lengthBytes) {
      const { bytesRead } = await this.#file.read(data, done, lengthBytes - done, offset + done)
      if (bytesRead === 0) throw new WorldError('image-truncated', 'the disk image became shorter while it was in use')
      done += bytesRead
    }
    return data
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    this.#checkHealthy()
    let done = 0
    while (done < data.length) {
      const { bytesWritten } = await this.#file.write(data, done, data.length - done, offset + done)
      done += bytesWritten
    }
  }

  flush(): Promise<void> {
    if (!this.#runningFlush) return this.#startFlush()
    this.#nextFlush ??= this.#runningFlush.then(
      () => this.#startFlush(),
      () => this.#startFlush(),
    )
    return this.#nextFlush
  }

  #startFlush(): Promise<void> {
    this.#nextFlush = undefined
    const run = this.#sync().finally(() => {
      if (this.#runningFlush === run) this.#runningFlush = undefined
    })
    this.#runningFlush = run
    return run
  }

  async #sync(): Promise<void> {
    this.#checkHealthy()
    try {
      await this.#file.datasync()
    } catch (error) {
      this.#failure = error instanceof Error ? error : new Error(String(error))
      throw error
    }
  }

  async trim(): Promise<void> {
    this.#checkHealthy()
  }

  async writeZeroes(offset: number, lengthBytes: number, mayStayHole: boolean): Promise<void> {
    this.#checkHealthy()
    for (let done = 0; done < lengthBytes; ) {
      const part = zeroes.subarray(0, Math.min(zeroes.length, lengthBytes - done))
      const isZero = mayStayHole && (await this.read(offset + done, part.length)).equals(part)
      if (!isZero) await this.write(offset + done, part)
      done += part.length
    }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  #checkHealthy(): void {
    if (this.#failure) {
      throw new WorldError('image-failed', `the disk image lost data in an earlier flush: ${this.#failure.message}`)
    }
  }
}

async function openImage(path: string, readOnly: boolean): Promise<FileHandle> {
  try {
    return await open(path, readOnly ? 'r' : 'r+')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT') throw badImage('image-missing', `disk image ${path} does not exist: build it first`)
    if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
      const wanted = readOnly ? 'read' : 'written'
      throw new WorldError('image-permission', `disk image ${path} cannot be ${wanted}: ${code}`, ExitCode.permission)
    }
    if (code === 'EISDIR') throw badImage('image-not-a-file', `disk image ${path} is a directory`)
    throw badImage('image-unusable', `disk image ${path} cannot be opened: ${(error as Error).message}`)
  }
}
