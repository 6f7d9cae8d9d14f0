/**
 * Reading a tar archive as it streams in: the content of a Debian package, entry by entry.
 *
 * The idea: a state machine over 512-byte records that holds one entry at a time. POSIX ustar headers, GNU long names
 * (types L and K) and pax headers (`path`, `linkpath`, `size`) are understood: dpkg-deb writes the GNU form, other
 * packers the pax form.
 *
 * It does not touch the file system: names are data here, so no entry can escape from a folder. Sparse files and
 * multi-volume archives do not occur in packages and are refused. Layout: pax(1), "ustar interchange format"
 * (POSIX.1-2017); GNU tar manual, "Basic Tar Format".
 */

import { WorldError } from '../base/assert.ts'

export type TarKind = 'file' | 'folder' | 'symlink' | 'hardlink' | 'device'

export interface TarEntry {
  /** Without `./` in front and `/` behind; `''` is the root folder. */
  readonly path: string
  readonly kind: TarKind
  /** Permission bits with set-user-id, set-group-id and sticky. */
  readonly mode: number
  readonly userId: number
  readonly groupId: number
  /** Seconds since 1970. */
  readonly modifiedAtS: number
  /** Where a symlink points, or the path of the entry that a hard link shares; else `''`. */
  readonly target: string
  readonly content: Uint8Array
}

const recordBytes = 512

// A ustar header:  0 name  100 mode  108 uid  116 gid  124 size  136 mtime  148 checksum  156 type  157 linkname
//                  257 "ustar"  345 name prefix
const kindOfType: Readonly<Record<string, TarKind>> = {
  '\0': 'file',
  '0': 'file',
  '7': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'device',
  '4': 'device',
  '6': 'device',
  '5': 'folder',
}

function damaged(reason: string): WorldError {
  return new WorldError('package-damaged', `the package's archive is damaged: ${reason}`)
}

function text(header: Uint8Array, offset: number, length: number): string {
  const field = header.subarray(offset, offset + length)
  const end = field.indexOf(0)
  return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end))
}

/** Octal digits, or GNU's base-256 form (top bit set) for what does not fit. */
function number(header: Uint8Array, offset: number, length: number): number {
  if ((header[offset]! & 0x80) !== 0) {
    let value = header[offset]! & 0x7f
    for (let index = 1; index < length; index++) value = value * 256 + header[offset + index]!
    return value
  }
  const digits = text(header, offset, length).trim()
  if (!/^[0-7]*$/.test(digits)) throw damaged(`"${digits}" is not a number`)
  return digits === '' ? 0 : Number.parseInt(digits, 8)
}

/** The checksum counts its own eight bytes as spaces. */
function hasRightChecksum(header: Uint8Array): boolean {
  let sum = 8 * 0x20
  for (let index = 0; index < recordBytes; index++) if (index < 148 || index >= 156) sum += header[index]!
  return sum === number(header, 148, 8)
}

/** Records of a pax header: `<length> <key>=<value>\n`, the length counting the whole record. */
function paxRecords(content: Uint8Array): Map<string, string> {
  const records = new Map<string, string>()
  for (let offset = 0; offset < content.length; ) {
    const space = content.indexOf(0x20, offset)
    const length = Number(new TextDecoder().decode(content.subarray(offset, space)))
    if (space < 0 || !Number.isInteger(length) || length <= 0 || offset + length > content.length) {
      throw damaged('a pax record has a wrong length')
    }
    const record = new TextDecoder().decode(content.subarray(space + 1, offset + length - 1))
    const equals = record.indexOf('=')
    records.set(record.slice(0, equals), record.slice(equals + 1))
    offset += length
  }
  return records
}

function cleanPath(path: string): string {
  return path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/')
}

/** Takes exactly as many bytes as asked for from chunks of any size. */
class ChunkReader {
  readonly #chunks: AsyncIterator<Uint8Array>
  #current: Uint8Array = new Uint8Array(0)

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]()
  }

  /** undefined when the stream ended before the first byte. */
  async take(count: number): Promise<Uint8Array | undefined> {
    if (this.#current.length >= count) {
      const bytes = this.#current.subarray(0, count)
      this.#current = this.#current.subarray(count)
      return bytes
    }
    const whole = new Uint8Array(count)
    let filled = 0
    for (;;) {
      const part = this.#current.subarray(0, count - filled)
      whole.set(part, filled)
      filled += part.length
      this.#current = this.#current.subarray(part.length)
      if (filled === count) return whole
      const next = await this.#chunks.next()
      if (next.done) {
        if (filled === 0) return undefined
        throw damaged('it ends early')
      }
      // Not a Buffer: its `slice` would not copy.
      this.#current = new Uint8Array(next.value.buffer, next.value.byteOffset, next.value.byteLength)
    }
  }

  /** Reads to the end, so that the program that writes the stream ends by itself. */
  async drain(): Promise<void> {
    while (!(await this.#chunks.next()).done);
  }
}

/** Every entry of the archive, in its order. */
export async function* readTar(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const reader = new ChunkReader(chunks)
  let longName: string | undefined
  let longTarget: string | undefined
  let longSize: number | undefined
  for (;;) {
    const header = await reader.take(recordBytes)
    if (header === undefined) throw damaged('its end marker is missing')
    if (header.every((byte) => byte === 0)) break
    if (!hasRightChecksum(header)) throw damaged('a header has a wrong checksum')
    const type = String.fromCharCode(header[156]!)
    const size = longSize ?? number(header, 124, 12)
    const kind = kindOfType[type]
    const hasContent = kind === 'file' || kind === undefined
    const paddedBytes = hasContent ? Math.ceil(size / recordBytes) * recordBytes : 0
    const padded = paddedBytes === 0 ? new Uint8Array(0) : await reader.take(paddedBytes)
    if (padded === undefined) throw damaged('it ends early')
    const content = padded.subarray(0, hasContent ? size : 0)
    if (kind === undefined) {
      if (type === 'L') longName = text(content, 0, content.length)
      else if (type === 'K') longTarget = text(content, 0, content.length)
      else if (type === 'x') {
        const records = paxRecords(content)
        longName = records.get('path') ?? longName
        longTarget = records.get('linkpath') ?? longTarget
        if (records.has('size')) longSize = Number(records.get('size'))
      } else if (type !== 'g') throw damaged(`an entry has the unknown type "${type}"`)
      continue
    }
    const prefix = text(header, 257, 6) === 'ustar' ? text(header, 345, 155) : ''
    const shortName = text(header, 0, 100)
    const target = longTarget ?? text(header, 157, 100)
    yield {
      path: cleanPath(longName ?? (prefix === '' ? shortName : `${prefix}/${shortName}`)),
      kind,
      mode: number(header, 100, 8) & 0o7777,
      userId: number(header, 108, 8),
      groupId: number(header, 116, 8),
      modifiedAtS: number(header, 136, 12),
      target: kind === 'hardlink' ? cleanPath(target) : kind === 'symlink' ? target : '',
      content,
    }
    longName = longTarget = longSize = undefined
  }
  await reader.drain()
}
