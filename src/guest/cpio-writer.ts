/**
 * Writing a cpio archive in the "newc" form that Linux unpacks as its initial RAM file system.
 *
 * The idea: an archive is a plain row of entries, so the same entries in the same order with fixed times are the same
 * bytes on every machine. Every entry belongs to root and has its own inode number; nothing is compressed, because the
 * guest would pay for unpacking with its own instructions.
 *
 * It does not write hard links or large files (sizes are 32-bit). Layout: Linux, Documentation/driver-api/early-userspace
 * /buffer-format.rst.
 *
 *   "070701" then 13 numbers of 8 hexadecimal digits: inode mode uid gid links mtime size devmajor devminor
 *   rdevmajor rdevminor namesize check; the name with a NUL, padded to 4 bytes; the content, padded to 4 bytes.
 */

import { assert } from '../base/assert.ts'
import { concatBytes } from '../base/bytes.ts'

export type CpioEntry =
  | { readonly kind: 'folder'; readonly path: string; readonly mode?: number }
  | { readonly kind: 'file'; readonly path: string; readonly content: Uint8Array; readonly mode?: number }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string }
  | { readonly kind: 'character-device'; readonly path: string; readonly major: number; readonly minor: number }

const typeBits = { folder: 0o040000, file: 0o100000, symlink: 0o120000, 'character-device': 0o020000 } as const
const defaultMode = { folder: 0o755, file: 0o644, symlink: 0o777, 'character-device': 0o600 } as const

function hex(value: number): string {
  assert(Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff, `cpio field ${value} has 32 bits`)
  return value.toString(16).padStart(8, '0')
}

function padded(bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array(Math.ceil(bytes.length / 4) * 4)
  whole.set(bytes)
  return whole
}

function encodeEntry(
  inode: number,
  path: string,
  mode: number,
  content: Uint8Array,
  device: [number, number],
): Uint8Array {
  const name = new TextEncoder().encode(`${path}\0`)
  const links = (mode & 0o170000) === typeBits.folder ? 2 : 1
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, ...device, name.length, 0]
  const header = new TextEncoder().encode(`070701${fields.map(hex).join('')}`)
  return concatBytes([padded(concatBytes([header, name])), padded(content)])
}

function contentOf(entry: CpioEntry): Uint8Array {
  if (entry.kind === 'file') return entry.content
  return new TextEncoder().encode(entry.kind === 'symlink' ? entry.target : '')
}

/** The archive of `entries`, in their order: a folder must come before what is in it. */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const seen = new Set<string>()
  const parts = entries.map((entry, index) => {
    const parent = entry.path.includes('/') ? entry.path.slice(0, entry.path.lastIndexOf('/')) : ''
    assert(!entry.path.startsWith('/') && entry.path !== '', `cpio path "${entry.path}" is relative`)
    assert(parent === '' || seen.has(parent), `cpio folder "${parent}" comes before "${entry.path}"`)
    assert(!seen.has(entry.path), `cpio path "${entry.path}" occurs once`)
    seen.add(entry.path)
    const permissions = ('mode' in entry ? entry.mode : undefined) ?? defaultMode[entry.kind]
    const device: [number, number] = entry.kind === 'character-device' ? [entry.major, entry.minor] : [0, 0]
    return encodeEntry(index + 1, entry.path, typeBits[entry.kind] | permissions, contentOf(entry), device)
  })
  return concatBytes([...parts, encodeEntry(0, 'TRAILER!!!', 0, new Uint8Array(0), [0, 0])])
}
