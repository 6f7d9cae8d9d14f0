/** What an operator can get wrong, and the one line each mistake gets. */

import assert from 'node:assert/strict'
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { ExitCode, WorldError } from '../base/assert.ts'
import { type DiskServerOptions, startDiskServer } from './disk-server.ts'
import { freeSocket, makeImage, nbdClient, startTestServer, temporaryFolder } from './test-disk.ts'

function optionsIn(folder: string, changes: Partial<DiskServerOptions> = {}): DiskServerOptions {
  return {
    exports: [{ name: 'disk0', path: join(folder, 'disk0.img'), machine: 'web' }],
    nbd: freeSocket(),
    arbiter: freeSocket(),
    recordFolder: join(folder, 'arbiter'),
    tokens: { web: 'secret' },
    ...changes,
  }
}

async function refused(t: TestContext, options: DiskServerOptions, code: string, exitCode: ExitCode): Promise<void> {
  await assert.rejects(
    startDiskServer(options).then((server) => t.after(() => server.close())),
    (error) => {
      assert.ok(error instanceof WorldError, String(error))
      assert.equal(error.code, code)
      assert.equal(error.exitCode, exitCode)
      assert.doesNotMatch(error.message, /\n/)
      return true
    },
  )
}

const { badConfiguration } = ExitCode

test('a missing image', async (t) => {
  await refused(t, optionsIn(temporaryFolder()), 'image-missing', badConfiguration)
})

test('an image that is not a multiple of 512 bytes, an empty one, a folder', async (t) => {
  const folder = temporaryFolder()
  truncateSync(makeImage(folder), 1000)
  await refused(t, optionsIn(folder), 'image-truncated', badConfiguration)
  truncateSync(join(folder, 'disk0.img'), 0)
  await refused(t, optionsIn(folder), 'image-empty', badConfiguration)
  mkdirSync(join(folder, 'folder.img'))
  for (const readOnly of [true, false]) {
    const exports = [{ name: 'disk0', path: join(folder, 'folder.img'), readOnly }]
    await refused(t, optionsIn(folder, { exports }), 'image-not-a-file', badConfiguration)
  }
})

test('an address in use, for the disk and for the arbiter; and nothing stays open after it', async (t) => {
  const folder = temporaryFolder()
  const other = await startTestServer(t, folder)
  const mine = join(folder, 'mine')
  mkdirSync(mine)
  makeImage(mine)
  await refused(t, optionsIn(mine, { nbd: { address: other.addresses.nbd } }), 'path-in-use', badConfiguration)
  await refused(t, optionsIn(mine, { arbiter: { address: other.addresses.arbiter } }), 'path-in-use', badConfiguration)
  const server = await startDiskServer(optionsIn(mine))
  await server.close()
})

test('an image or an arbiter folder that another disk server has', async (t) => {
  const folder = temporaryFolder()
  const first = await startTestServer(t, folder)
  const elsewhere = join(folder, 'elsewhere')
  await refused(t, optionsIn(folder, { recordFolder: elsewhere }), 'image-in-use', badConfiguration)
  await refused(t, optionsIn(folder, { exports: [] }), 'image-in-use', badConfiguration)
  const readOnly = [{ name: 'disk0', path: join(folder, 'disk0.img'), readOnly: true }]
  const reader = await startDiskServer(optionsIn(folder, { exports: readOnly, recordFolder: elsewhere }))
  await reader.close()
  await first.close()
  const second = await startDiskServer(optionsIn(folder))
  await second.close()
})

test('a damaged arbiter record', async (t) => {
  const folder = temporaryFolder()
  makeImage(folder)
  mkdirSync(join(folder, 'arbiter'))
  writeFileSync(join(folder, 'arbiter', 'web.json'), '{')
  await refused(t, optionsIn(folder), 'arbiter-record-damaged', ExitCode.failure)
})

test('names and tokens that cannot be', async (t) => {
  const folder = temporaryFolder()
  const path = makeImage(folder)
  const wrong: Partial<DiskServerOptions>[] = [
    { exports: [{ name: 'a/b', path }] },
    { exports: [{ name: 'a@b', path }] },
    {
      exports: [
        { name: 'twice', path, readOnly: true },
        { name: 'twice', path, readOnly: true },
      ],
    },
    { exports: [{ name: 'disk0', path, machine: 'nobody' }] },
    { exports: [{ name: 'disk0', path, machine: 'toString' }] },
    { tokens: { web: '' } },
    { tokens: { web: 'with/slash' } },
    { tokens: { 'we b': 'secret' } },
  ]
  for (const changes of wrong) await refused(t, optionsIn(folder, changes), 'disk-configuration', badConfiguration)
})

test('a read-only export takes no write', async (t) => {
  const folder = temporaryFolder()
  const path = makeImage(folder)
  const server = await startDiskServer(optionsIn(folder, { exports: [{ name: 'disk0', path, readOnly: true }] }))
  t.after(() => server.close())
  const disk = await nbdClient(t, server, 'disk0')
  assert.equal(disk.isReadOnly, true)
  await assert.rejects(disk.write(0, Buffer.alloc(512)), { reason: 'io', errno: 1 })
  await assert.rejects(disk.writeZeroes(0, 512), { reason: 'io', errno: 1 })
  await disk.flush()
})
