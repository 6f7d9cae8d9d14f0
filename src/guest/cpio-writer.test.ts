import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { findProgram } from './command.ts'
import { type CpioEntry, writeCpio } from './cpio-writer.ts'

const cpio = findProgram('cpio')
const needsCpio = cpio ? {} : { skip: 'cpio is not installed' }
const text = (value: string) => new TextEncoder().encode(value)

const entries: readonly CpioEntry[] = [
  { kind: 'folder', path: 'bin' },
  { kind: 'file', path: 'bin/tool', content: text('abc'), mode: 0o755 },
  { kind: 'symlink', path: 'bin/sh', target: 'tool' },
  { kind: 'folder', path: 'dev' },
  { kind: 'character-device', path: 'dev/console', major: 5, minor: 1 },
  { kind: 'file', path: 'empty', content: new Uint8Array(0) },
]

test('GNU cpio lists every entry with its kind, mode and owner', needsCpio, () => {
  const listing = execFileSync(cpio!, ['-itvn', '--quiet'], { input: writeCpio(entries), encoding: 'utf8' })
  const lines = listing
    .trimEnd()
    .split('\n')
    .map((line) => line.replace(/ +/g, ' '))
  assert.equal(lines.length, entries.length)
  assert.match(lines[0]!, /^drwxr-xr-x 2 0 0 0 .* bin$/)
  assert.match(lines[1]!, /^-rwxr-xr-x 1 0 0 3 .* bin\/tool$/)
  assert.match(lines[2]!, /^lrwxrwxrwx 1 0 0 4 .* bin\/sh -> tool$/)
  assert.match(lines[4]!, /^crw------- 1 0 0 5, 1 .* dev\/console$/)
  assert.match(lines[5]!, /^-rw-r--r-- 1 0 0 0 .* empty$/)
})

test('any name and content comes back from GNU cpio', needsCpio, () => {
  const name = fc.stringMatching(/^[a-z0-9_.-]{1,30}$/).filter((value) => !/^\.*$/.test(value))
  const files = fc.uniqueArray(fc.tuple(name, fc.uint8Array({ maxLength: 50 })), {
    selector: ([path]) => path,
    maxLength: 6,
  })
  fc.assert(
    fc.property(files, (list) => {
      const archive = writeCpio(list.map(([path, content]) => ({ kind: 'file', path, content })))
      const listing = execFileSync(cpio!, ['-it', '--quiet'], { input: archive, encoding: 'utf8' })
      assert.deepEqual(
        listing.split('\n').slice(0, -1),
        list.map(([path]) => path),
      )
      const content = execFileSync(cpio!, ['-i', '--quiet', '--to-stdout'], { input: archive })
      assert.deepEqual(content, Buffer.concat(list.map(([, bytes]) => bytes)))
    }),
    { numRuns: 15 },
  )
})

test('the archive is byte for byte what GNU cpio writes of the same files', needsCpio, () => {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-cpio-'))
  try {
    mkdirSync(join(folder, 'd'), { mode: 0o755 })
    writeFileSync(join(folder, 'd/file'), 'content', { mode: 0o644 })
    execFileSync('touch', ['-d', '@0', join(folder, 'd/file'), join(folder, 'd')])
    const options = ['-o', '-H', 'newc', '-R', '0:0', '--reproducible', '--quiet', '--block-size=1']
    const theirs = execFileSync(cpio!, options, { cwd: folder, input: 'd\nd/file\n' })
    const ours = writeCpio([
      { kind: 'folder', path: 'd' },
      { kind: 'file', path: 'd/file', content: text('content') },
    ])
    // They count inodes from another number (offset 6, eight digits) and pad the end to a block of 512.
    const comparable = (archive: Uint8Array) =>
      Buffer.from(archive)
        .toString('latin1')
        .replace(/070701[0-9A-Fa-f]{8}/g, '070701')
        .replace(/\0*$/, '')
        .toUpperCase()
    assert.equal(comparable(ours), comparable(theirs))
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a file before its folder, an absolute path and a path that occurs twice are refused', () => {
  const file = (path: string): CpioEntry => ({ kind: 'file', path, content: new Uint8Array(0) })
  assert.throws(() => writeCpio([file('a/b')]), /comes before/)
  assert.throws(() => writeCpio([file('/a')]), /relative/)
  assert.throws(() => writeCpio([file('a'), file('a')]), /occurs once/)
})
