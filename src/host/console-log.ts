/**
 * The file `console.log` of a VM: what the guest printed, released. Whichever replica is live appends.
 *
 * What the guest prints in one run of the machine is a stream of bytes, the same on every replica; a backup regenerates
 * it. So a place in the file *is* a position in that stream, and a replica that goes live needs no list of what its
 * primary had written: it writes what the file lacks, to the byte, also when the primary died in the middle of an output.
 * `console.position` beside the file says where the stream stands in it; it changes only when a run or a file begins.
 *
 *   console.log   … earlier runs │ this run ──────────►│ end
 *                                ▲ offset of position 0
 *
 * On two hosts each replica has a file of its own. One that has nothing of this run gets the part of the stream that its
 * replica remembers: `rememberedBytes` at least.
 *
 * The file is bounded: one that has reached its limit becomes `console.log.1`, in place of an older one, and a new one
 * begins. So the last `limitBytes` at least are kept, twice that at most. A reader that follows notices a new file by its
 * inode (trace-reader.ts).
 */

import { closeSync, fstatSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { concatBytes } from '../base/bytes.ts'
import { MiB } from '../base/units.ts'

export const consoleLogName = 'console.log'
export const consolePositionName = 'console.position'
const defaultLimitBytes = 8 * MiB
const rememberedBytes = 64 * 1024

const placeSchema = z.object({ runId: z.string(), inode: z.string(), offsetBytes: z.number().int() })

/** Where one run's stream stands in the file with this inode. */
type Place = z.infer<typeof placeSchema>

export class ConsoleLog {
  readonly #path: string
  readonly #placePath: string
  readonly #limitBytes: number
  #runId: string | undefined
  #descriptor: number | undefined
  /** As far as we know: who else writes to the file is the machine's next holder. */
  #sizeBytes = 0
  /** How much of this run's stream was printed, and regenerated here. */
  #position = 0
  /** The newest of what was regenerated, up to `#position`. */
  #remembered: Uint8Array[] = []
  #rememberedBytes = 0

  constructor(folderPath: string, limitBytes = defaultLimitBytes) {
    this.#path = join(folderPath, consoleLogName)
    this.#placePath = join(folderPath, consolePositionName)
    this.#limitBytes = limitBytes
  }

  /** The machine is about to be switched on, by us: its stream begins at the end of the file. */
  begin(runId: bigint): void {
    this.#runId = String(runId)
    this.#open()
    this.#notePlace()
  }

  /** Bytes that this run of the machine has printed, as far as it is known here. */
  get position(): number {
    return this.#position
  }

  /** A backup begins in the middle: so much was printed before what it is going to regenerate. */
  beginAt(position: number): void {
    this.#position = position
  }

  /** A backup's machine printed what its primary's printed, and wrote once it was released. */
  onRegenerated(bytes: Uint8Array): void {
    this.#position += bytes.length
    this.#remembered.push(bytes)
    this.#rememberedBytes += bytes.length
    while (this.#rememberedBytes - this.#remembered[0]!.length >= rememberedBytes) {
      this.#rememberedBytes -= this.#remembered.shift()!.length
    }
  }

  /**
   * A backup holds the machine now: the file gets all it lacks of what was regenerated.
   * @param unconfirmed the last outputs, which the primary may have written or not
   * @returns how many of them it had written: repeats, which are left out
   */
  goLive(runId: bigint, unconfirmed: readonly { readonly bytes: Uint8Array }[]): number {
    this.#runId = String(runId)
    this.#open()
    const rememberedFrom = this.#position - this.#rememberedBytes
    const written = this.#writtenPosition() ?? rememberedFrom
    const missing = concatBytes(this.#remembered).subarray(Math.max(0, written - rememberedFrom))
    this.#remembered = []
    const newest = this.#position
    this.#position -= missing.length
    this.#notePlace()
    this.append(missing)
    let end = newest - unconfirmed.reduce((sum, { bytes }) => sum + bytes.length, 0)
    let repeats = 0
    for (const { bytes } of unconfirmed) {
      end += bytes.length
      if (end <= written) repeats++
    }
    return repeats
  }

  append(bytes: Uint8Array): void {
    if (bytes.length === 0 || this.#descriptor === undefined) return
    const { size } = fstatSync(this.#descriptor)
    if (size > this.#sizeBytes) {
      // It grew without us: another replica holds the machine, and we have not heard of it yet.
      this.close()
      return
    }
    if (size < this.#sizeBytes) {
      // Somebody emptied it.
      this.#sizeBytes = size
      this.#notePlace()
    }
    if (this.#sizeBytes > 0 && this.#sizeBytes + bytes.length > this.#limitBytes) this.#startAnew()
    for (let written = 0; written < bytes.length; ) written += writeSync(this.#descriptor, bytes.subarray(written))
    this.#sizeBytes += bytes.length
    this.#position += bytes.length
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor)
    this.#descriptor = undefined
  }

  /** How much of this run's stream the file has; undefined if that cannot be known, or is nothing. */
  #writtenPosition(): number | undefined {
    const place = this.#readPlace()
    if (place?.runId !== this.#runId || place?.inode !== this.#inode()) return undefined
    const position = this.#sizeBytes - place.offsetBytes
    return position >= 0 && position <= this.#position ? position : undefined
  }

  #readPlace(): Place | undefined {
    try {
      return placeSchema.safeParse(JSON.parse(readFileSync(this.#placePath, 'utf8'))).data
    } catch {
      return undefined
    }
  }

  #notePlace(): void {
    const place: Place = {
      runId: this.#runId!,
      inode: this.#inode(),
      offsetBytes: this.#sizeBytes - this.#position,
    }
    writeFileSync(`${this.#placePath}.new`, JSON.stringify(place), { mode: 0o600 })
    renameSync(`${this.#placePath}.new`, this.#placePath)
  }

  #inode(): string {
    return String(fstatSync(this.#descriptor!, { bigint: true }).ino)
  }

  #open(): void {
    this.#descriptor = openSync(this.#path, 'a', 0o600)
    this.#sizeBytes = fstatSync(this.#descriptor).size
  }

  #startAnew(): void {
    this.close()
    renameSync(this.#path, `${this.#path}.1`)
    this.#open()
    this.#notePlace()
  }
}
