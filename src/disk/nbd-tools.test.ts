/** The NBD server as seen by clients that nobody here wrote: libnbd's tools and QEMU's. */

import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { MiB } from '../base/units.ts'
import { startDiskServer } from './disk-server.ts'
import { formatExportName } from './names.ts'
import {
  arbiterClient,
  freeSocket,
  makeImage,
  nbdUri,
  passOf,
  patienceMs,
  startTestServer,
  temporaryFolder,
} from './test-disk.ts'

const run = promisify(execFile)

/** Skips with a reason when the tool is not there. */
function needs(tool: string): { skip: string | false } {
  const isThere = spawnSync(tool, ['--version']).error === undefined
  return { skip: isThere ? false : `${tool} is not installed` }
}

const timeout = patienceMs

test('nbdinfo lists every export and reads size and flags', needs('nbdinfo'), async (t) => {
  const folder = temporaryFolder()
  const server = await startTestServer(t, folder)
  const { stdout } = await run('nbdinfo', ['--json', '--list', nbdUri(server, '')], { timeout })
  const listed = JSON.parse(stdout)
  assert.equal(listed.structured, true)
  assert.deepEqual(
    listed.exports.map((one: Record<string, unknown>) => one['export-name']),
    ['disk0', 'disk1', 'plain'],
  )
  const plain = listed.exports[2]
  assert.equal(plain['export-size'], MiB)
  assert.equal(plain.can_flush, true)
  assert.equal(plain.can_fua, true)
  assert.equal(plain.can_trim, true)
  assert.equal(plain.can_zero, true)
  assert.equal(plain.can_multi_conn, true)
  assert.equal(plain.is_read_only, false)
})

test('nbdcopy writes an image and reads the same bytes back', needs('nbdcopy'), async (t) => {
  const folder = temporaryFolder()
  const server = await startDiskServer({
    exports: [{ name: 'big', path: makeImage(folder, 'big.img', 40 * MiB) }],
    nbd: freeSocket(),
    arbiter: freeSocket(),
    recordFolder: join(folder, 'arbiter'),
    tokens: {},
  })
  t.after(() => server.close())
  const uri = nbdUri(server, 'big')
  const source = join(folder, 'source')
  const content = Buffer.concat([randomBytes(10 * MiB), Buffer.alloc(20 * MiB), randomBytes(10 * MiB)])
  writeFileSync(source, content)
  await run('nbdcopy', ['--flush', source, uri], { timeout })
  assert.ok(readFileSync(join(folder, 'big.img')).equals(content), 'the image file holds what was copied')
  await run('nbdcopy', [uri, join(folder, 'back')], { timeout })
  assert.ok(readFileSync(join(folder, 'back')).equals(content))
})

test('qemu-img compares an export equal to its image', needs('qemu-img'), async (t) => {
  const folder = temporaryFolder()
  const server = await startTestServer(t, folder)
  const uri = nbdUri(server, 'plain')
  const { stdout } = await run('qemu-img', ['info', '--output=json', uri], { timeout })
  assert.equal(JSON.parse(stdout)['virtual-size'], MiB)
  const args = ['compare', '-f', 'raw', '-F', 'raw', uri, join(folder, 'plain.img')]
  await run('qemu-img', args, { timeout })
})

test('qemu-io writes, zeroes, discards, flushes and reads with verification', needs('qemu-io'), async (t) => {
  const folder = temporaryFolder()
  const server = await startTestServer(t, folder)
  const uri = nbdUri(server, 'plain')
  const commands = [
    'write -P 0xaa 4096 65536',
    'write -f -P 0xbb 100352 512',
    'write -z 8192 4096',
    'write -z -u 12288 4096',
    'discard 524288 65536',
    'flush',
    'read -P 0xaa 4096 4096',
    'read -P 0 8192 8192',
    'read -P 0xaa 16384 53248',
    'read -P 0xbb 100352 512',
  ]
  const args = ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri]
  const { stdout } = await run('qemu-io', args, { timeout })
  assert.doesNotMatch(stdout, /verification failed|error/i)
  const image = readFileSync(join(folder, 'plain.img'))
  assert.ok(image.subarray(4096, 8192).every((byte) => byte === 0xaa))
  assert.ok(image.subarray(8192, 16384).every((byte) => byte === 0))
  assert.ok(image.subarray(100352, 100864).every((byte) => byte === 0xbb))
})

test(
  'a standard client opens a fenced disk by a pass in the export name, and only the holder',
  needs('qemu-io'),
  async (t) => {
    const folder = temporaryFolder()
    const server = await startTestServer(t, folder)
    const started = await arbiterClient(t, server, 'a').start(patienceMs)
    assert.deepEqual(started, { granted: true, generation: 1 })
    const write = (name: string) =>
      run('qemu-io', ['-f', 'raw', '-c', 'write -P 0xcc 0 512', nbdUri(server, name)], { timeout })
    await write(formatExportName('disk0', passOf('a', 1)))
    assert.equal(readFileSync(join(folder, 'disk0.img'))[0], 0xcc)
    await assert.rejects(
      write(formatExportName('disk0', passOf('a', 2))),
      /fenced: a does not hold web in generation 2/,
    )
    await assert.rejects(write(formatExportName('disk0', passOf('b', 1))), /fenced: b does not hold/)
    const forged = formatExportName('disk0', { ...passOf('a', 1), token: 'guess' })
    await assert.rejects(write(forged), /wrong machine or token/)
  },
)
