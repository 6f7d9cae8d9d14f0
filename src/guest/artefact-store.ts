/**
 * Built guests kept in the cache folder, so that the second build of the same inputs takes no time and no network.
 *
 * The idea: a guest's folder is named by the SHA-256 of its inputs and appears by one rename, whole or not at all.
 * Artefacts are kept compressed (zstd), since most of a disk image is zeros; the SHA-256 of the compressed bytes is
 * checked each time that an artefact is taken out, on the way, and a mismatch says "damaged" before anyone sees the file.
 *
 * It does not limit the cache's size: the user may delete the cache folder at any time.
 */

import { createHash, type Hash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createZstdCompress, createZstdDecompress } from 'node:zlib'
import { WorldError } from '../base/assert.ts'
import {
  type Artefact,
  type ArtefactName,
  artefactFiles,
  artefactNames,
  decodeManifest,
  encodeManifest,
  type GuestInputs,
  type GuestManifest,
} from './guest-manifest.ts'
import type { OnGuestProgress } from './guest-progress.ts'
import { readIfPresent } from './private-apt.ts'
import { writeSparse } from './sparse-file.ts'

const chunkBytes = 1 << 20
function passing(onChunk: (chunk: Uint8Array) => void): Transform {
  return new Transform({
    highWaterMark: chunkBytes,
    transform(chunk: Uint8Array, _encoding, done) {
      onChunk(chunk)
      done(null, chunk)
    },
  })
}

function hashing(hash: Hash): Transform {
  return passing((chunk) => hash.update(chunk))
}

export class ArtefactStore {
  readonly #folder: string

  constructor(cacheFolder: string) {
    this.#folder = join(cacheFolder, 'guests')
  }

  #place(inputs: GuestInputs): string {
    return join(this.#folder, createHash('sha256').update(JSON.stringify(inputs)).digest('hex').slice(0, 32))
  }

  /** The manifest of a guest with these inputs, or undefined; its artefacts are checked when they are taken out. */
  async find(inputs: GuestInputs): Promise<GuestManifest | undefined> {
    const text = await readIfPresent(join(this.#place(inputs), 'manifest.json'))
    if (text === undefined) return undefined
    try {
      const manifest = decodeManifest(text)
      return JSON.stringify(manifest.inputs) === JSON.stringify(inputs) ? manifest : undefined
    } catch (error) {
      if (error instanceof WorldError) return undefined
      throw error
    }
  }

  async forget(inputs: GuestInputs): Promise<void> {
    await rm(this.#place(inputs), { recursive: true, force: true })
  }

  /**
   * Takes the raw artefacts from `buildFolder` and keeps them under their inputs.
   * @param finish makes the manifest once the artefacts' digests are known
   */
  async keep(
    inputs: GuestInputs,
    buildFolder: string,
    finish: (artefacts: Record<ArtefactName, Artefact>) => GuestManifest,
    onProgress: OnGuestProgress,
    signal?: AbortSignal,
  ): Promise<GuestManifest> {
    const stored = join(buildFolder, 'stored')
    await mkdir(stored)
    const artefacts = {} as Record<ArtefactName, Artefact>
    for (const name of artefactNames) {
      onProgress({ phase: 'store', detail: artefactFiles[name] })
      artefacts[name] = await this.#compress(artefactFiles[name], buildFolder, stored, signal)
    }
    const manifest = finish(artefacts)
    await writeFile(join(stored, 'manifest.json'), encodeManifest(manifest))
    const place = this.#place(inputs)
    await mkdir(this.#folder, { recursive: true })
    await rm(place, { recursive: true, force: true })
    await rename(stored, place)
    return manifest
  }

  async #compress(fileName: string, from: string, to: string, signal?: AbortSignal): Promise<Artefact> {
    const raw = createHash('sha256')
    const compressed = createHash('sha256')
    const source = join(from, fileName)
    await pipeline(
      createReadStream(source, { highWaterMark: chunkBytes }),
      hashing(raw),
      createZstdCompress({ chunkSize: chunkBytes }),
      hashing(compressed),
      createWriteStream(join(to, `${fileName}.zst`)),
      signal ? { signal } : {},
    )
    const { size: sizeBytes } = await stat(source)
    return { fileName, sizeBytes, sha256: raw.digest('hex'), compressedSha256: compressed.digest('hex') }
  }

  /**
   * Writes an artefact to `path` (a new file). Throws `cache-damaged` when the kept bytes are not what was kept; the
   * file is removed then.
   */
  async takeOut(
    inputs: GuestInputs,
    artefact: Artefact,
    path: string,
    onProgress: OnGuestProgress,
    signal?: AbortSignal,
  ): Promise<void> {
    const damaged = new WorldError('cache-damaged', `${artefact.fileName} in the cache is damaged`)
    const compressed = createHash('sha256')
    const file = await open(path, 'wx')
    let offset = 0
    let isWhole = false
    try {
      const source = createReadStream(join(this.#place(inputs), `${artefact.fileName}.zst`), {
        highWaterMark: chunkBytes,
      })
      const decompress = createZstdDecompress({ chunkSize: chunkBytes })
      const sink = async (chunks: AsyncIterable<Uint8Array>) => {
        for await (const chunk of chunks) {
          offset = await writeSparse(file, chunk, offset)
          if (offset > artefact.sizeBytes) throw damaged
          onProgress({ phase: 'copy', detail: artefact.fileName, doneBytes: offset, totalBytes: artefact.sizeBytes })
        }
      }
      await pipeline(source, hashing(compressed), decompress, sink, signal ? { signal } : {}).catch((error) => {
        const code = (error as NodeJS.ErrnoException).code ?? ''
        // Only what the kept bytes themselves cause is damage; a full disk, for example, is not.
        if (/^(ZSTD_|Z_|ERR_ZLIB|ENOENT|EIO)/.test(code)) throw damaged
        throw error
      })
      if (offset !== artefact.sizeBytes || compressed.digest('hex') !== artefact.compressedSha256) throw damaged
      await file.truncate(artefact.sizeBytes)
      isWhole = true
    } finally {
      await file.close()
      if (!isWhole) await rm(path, { force: true })
    }
  }
}
