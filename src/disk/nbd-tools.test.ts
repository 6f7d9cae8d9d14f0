/** The NBD server as seen by clients that nobody here wrote: libnbd's tools and QEMU's. */

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { MiB } from '../base/units.ts'
import type { DiskExport } from './disk-server.ts'
import { foreignServer, nbdkit, needs, qemuNbd } from './foreign-server.test-support.ts'
import { formatExportName } from './names.ts'
import { arbiterClient, makeImage, nbdUri, passOf, patienceMs, startTestServer, temporaryFolder } from './test-disk.ts'

const run = promisify(execFile)

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

const exportBytes = 24 * MiB

/** Runs `use` against an export of ours on an image file, and against others in front of servers that nobody here wrote. */
async function onEveryExport(
  t: TestContext,
  use: (uri: string, contents: () => Buffer, kind: string) => Promise<void>,
): Promise<void> {
  const folder = temporaryFolder()
  const image = (kind: string): string => join(folder, `${kind}.img`)
  for (const kind of ['file', 'nbdkit', 'qemu-nbd']) makeImage(folder, `${kind}.img`, exportBytes)
  const exports: DiskExport[] = [{ name: 'file', path: image('file') }]
  const foreign = {
    nbdkit: (socket: string, path: string) => nbdkit(socket, 'file', path),
    'qemu-nbd': (socket: string, path: string) => qemuNbd(socket, 'disk', path),
  }
  for (const [kind, command] of Object.entries(foreign)) {
    if (needs(kind).skip) continue
    const socket = join(folder, `${kind}.socket`)
    // nbdkit calls its export anything.
    exports.push({ name: kind, nbd: (await foreignServer(t, socket, 'disk', command(socket, image(kind)))).uri })
  }
  const server = await startTestServer(t, folder, { exports })
  for (const { name } of exports) await use(nbdUri(server, name), () => readFileSync(image(name)), name)
}

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

test('nbdcopy writes an image and reads the same bytes back', needs('nbdcopy'), async (t) => {
  const folder = temporaryFolder()
  const [source, back] = [join(folder, 'source'), join(folder, 'back')]
  const content = Buffer.concat([randomBytes(7 * MiB), Buffer.alloc(10 * MiB), randomBytes(7 * MiB)])
  writeFileSync(source, content)
  await onEveryExport(t, async (uri, image, kind) => {
    await run('nbdcopy', ['--flush', source, uri], { timeout })
    assert.equal(sha256(image()), sha256(content), `the image behind ${kind} holds what was copied`)
    await run('nbdcopy', [uri, back], { timeout })
    assert.equal(sha256(readFileSync(back)), sha256(content))
  })
})

test('qemu-img converts to an export and back, and finds it equal to its source', needs('qemu-img'), async (t) => {
  const folder = temporaryFolder()
  const [source, back] = [join(folder, 'source'), join(folder, 'back.qcow2')]
  writeFileSync(source, Buffer.concat([Buffer.alloc(9 * MiB), randomBytes(6 * MiB), Buffer.alloc(9 * MiB)]))
  await onEveryExport(t, async (uri, image) => {
    const { stdout } = await run('qemu-img', ['info', '--output=json', uri], { timeout })
    assert.equal(JSON.parse(stdout)['virtual-size'], exportBytes)
    await run('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', source, uri], { timeout })
    assert.equal(sha256(image()), sha256(readFileSync(source)))
    await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', uri, source], { timeout })
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', uri, back], { timeout })
    await run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', back, source], { timeout })
  })
})

test('qemu-io writes, zeroes, discards, flushes and reads with verification', needs('qemu-io'), async (t) => {
  const commands = [
    'write -P 0xaa 4096 65536',
    'write -f -P 0xbb 100352 512',
    'write -z 8192 4096',
    'write -z -u 12288 4096',
    'aio_write -P 0xdd 1048576 1M',
    'aio_write -P 0xee 4194304 1M',
    'aio_flush',
    'discard 524288 65536',
    'flush',
    'read -P 0xaa 4096 4096',
    'read -P 0 8192 8192',
    'read -P 0xaa 16384 53248',
    'read -P 0xbb 100352 512',
    'read -P 0xdd 1048576 1M',
    'read -P 0xee 4194304 1M',
  ]
  await onEveryExport(t, async (uri, contents) => {
    const args = ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri]
    const { stdout } = await run('qemu-io', args, { timeout })
    assert.doesNotMatch(stdout, /verification failed|error/i)
    const image = contents()
    assert.ok(image.subarray(4096, 8192).every((byte) => byte === 0xaa))
    assert.ok(image.subarray(8192, 16384).every((byte) => byte === 0))
    assert.ok(image.subarray(100352, 100864).every((byte) => byte === 0xbb))
  })
})

test('nbdcopy with the pass of the holder uses the one connection it has', needs('nbdcopy'), async (t) => {
  const folder = temporaryFolder()
  const server = await startTestServer(t, folder)
  assert.equal((await arbiterClient(t, server, 'a').start(patienceMs)).granted, true)
  const [source, uri] = [join(folder, 'source'), nbdUri(server, formatExportName('disk0', passOf('a', 1)))]
  writeFileSync(source, randomBytes(MiB))
  await run('nbdcopy', ['--connections=4', '--flush', source, uri], { timeout })
  assert.equal(sha256(readFileSync(join(folder, 'disk0.img'))), sha256(readFileSync(source)))
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
