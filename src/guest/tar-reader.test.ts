import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import { WorldError } from '../base/assert.ts'
import { readTar, type TarEntry } from './tar-reader.ts'

let folder: string
const longName = `${'long'.repeat(30)}/${'name'.repeat(50)}`

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'understudy-tar-'))
  mkdirSync(join(folder, 'tree', 'long'.repeat(30)), { recursive: true })
  writeFileSync(join(folder, 'tree/file'), 'some text')
  writeFileSync(join(folder, 'tree/block'), new Uint8Array(1024).fill(7))
  writeFileSync(join(folder, 'tree', longName), 'deep')
  chmodSync(join(folder, 'tree/file'), 0o4751)
  symlinkSync('../x'.repeat(40), join(folder, 'tree/link'))
  linkSync(join(folder, 'tree/file'), join(folder, 'tree/same'))
  writeFileSync(join(folder, 'tree/größe'), '')
})

after(() => rmSync(folder, { recursive: true }))

function pack(format: string): Buffer {
  const options = ['--sort=name', '--numeric-owner', '--owner=5', '--group=42', `--format=${format}`]
  return execFileSync('tar', ['-c', ...options, '-C', join(folder, 'tree'), '.'])
}

async function* inPieces(bytes: Uint8Array, pieceBytes: number): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < bytes.length; offset += pieceBytes) yield bytes.subarray(offset, offset + pieceBytes)
}

async function readAll(bytes: Uint8Array, pieceBytes = 4096): Promise<Map<string, TarEntry>> {
  const entries = new Map<string, TarEntry>()
  for await (const entry of readTar(inPieces(bytes, pieceBytes))) {
    entries.set(entry.path, { ...entry, content: entry.content.slice() })
  }
  return entries
}

for (const format of ['gnu', 'pax']) {
  test(`names, kinds, modes, owners and contents come out of a ${format} archive`, async () => {
    const entries = await readAll(pack(format))
    assert.equal(entries.get('')?.kind, 'folder')
    const file = entries.get('file')!
    assert.deepEqual([file.kind, file.mode, file.userId, file.groupId], ['file', 0o4751, 5, 42])
    assert.equal(Buffer.from(file.content).toString(), 'some text')
    assert.equal(entries.get('block')?.content.length, 1024)
    assert.equal(Buffer.from(entries.get(longName)!.content).toString(), 'deep')
    assert.deepEqual([entries.get('link')?.kind, entries.get('link')?.target], ['symlink', '../x'.repeat(40)])
    assert.deepEqual([entries.get('same')?.kind, entries.get('same')?.target], ['hardlink', 'file'])
    assert.ok(entries.has('größe'))
    assert.equal(entries.size, 8)
  })
}

test('the pieces in which an archive arrives change nothing', async () => {
  const archive = pack('gnu')
  const expected = await readAll(archive)
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 3000 }), async (pieceBytes) => {
      assert.deepEqual(await readAll(archive, pieceBytes), expected)
    }),
    { numRuns: 10 },
  )
})

test('an archive that ends early anywhere is damaged', async () => {
  const archive = pack('gnu')
  // Behind the first record of the end marker there is nothing left to miss.
  const end = archive.length - (archive.length - archive.findLastIndex((byte) => byte !== 0)) + 1
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: end - 1 }), async (length) => {
      await assert.rejects(readAll(archive.subarray(0, length)), (error) => error instanceof WorldError)
    }),
    { numRuns: 30 },
  )
})

test('a flipped bit in a header is noticed', async () => {
  const archive = pack('gnu')
  archive[100]! ^= 1
  await assert.rejects(readAll(archive), /checksum/)
})

test('no archive, however mutated, ends otherwise than with entries or one clear line', async () => {
  const archive = pack('pax')
  const mutation = fc.array(
    fc.tuple(fc.integer({ min: 0, max: archive.length - 1 }), fc.integer({ min: 0, max: 255 })),
    { maxLength: 8 },
  )
  await fc.assert(
    fc.asyncProperty(mutation, async (changes) => {
      const copy = Buffer.from(archive)
      for (const [offset, value] of changes) copy[offset] = value
      await readAll(copy).catch((error) => assert.ok(error instanceof WorldError, String(error)))
    }),
    { numRuns: 100 },
  )
})
