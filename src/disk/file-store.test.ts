import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { type TestContext, test } from 'node:test'
import { MiB } from '../base/units.ts'
import { FileStore } from './file-store.ts'
import { makeImage, temporaryFolder } from './test-disk.ts'

async function openStore(t: TestContext): Promise<{ store: FileStore; path: string }> {
  const path = makeImage(temporaryFolder())
  const store = await FileStore.open(path, false)
  t.after(() => store.close())
  return { store, path }
}

/** Replaces fdatasync of every file handle for the length of a test. */
async function replaceSync(t: TestContext, path: string, sync: () => Promise<void>): Promise<void> {
  const probe = await open(path)
  const prototype = Object.getPrototypeOf(probe)
  await probe.close()
  t.mock.method(prototype, 'datasync', sync)
}

test('flushes that arrive while one runs share the next one, never the running one', async (t) => {
  const { store, path } = await openStore(t)
  const runs: (() => void)[] = []
  await replaceSync(t, path, () => new Promise((resolve) => runs.push(resolve)))
  const first = store.flush()
  let laterDone = 0
  const later = [1, 2, 3].map(() => store.flush().then(() => laterDone++))
  assert.equal(runs.length, 1)
  runs[0]!()
  await first
  await new Promise(setImmediate)
  assert.equal(runs.length, 2, 'the three share one more fdatasync')
  assert.equal(laterDone, 0, 'which has to finish first')
  runs[1]!()
  await Promise.all(later)
  const last = store.flush()
  assert.equal(runs.length, 3)
  runs[2]!()
  await last
})

test('after a failed fdatasync the store takes no more writes and no flush succeeds', async (t) => {
  const { store, path } = await openStore(t)
  let calls = 0
  await replaceSync(t, path, async () => {
    if (++calls === 1) throw Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' })
  })
  await assert.rejects(store.flush(), /EIO/)
  await assert.rejects(store.flush(), /lost data in an earlier flush/)
  await assert.rejects(store.write(0, Buffer.alloc(1)), /lost data/)
  assert.equal(calls, 1)
  assert.equal((await store.read(512, 1))[0], 1, 'reading goes on')
})

test('zeroes leave the holes of a sparse image alone, unless space is asked for', async (t) => {
  const { path, store: other } = await openStore(t)
  const file = await open(path, 'r+')
  await file.truncate(0)
  await file.truncate(4 * MiB)
  await file.close()
  await other.close().catch(() => {})
  const store = await FileStore.open(path, false)
  t.after(() => store.close())
  const blocks = async (): Promise<number> => {
    const probe = await open(path)
    const { blocks } = await probe.stat()
    await probe.close()
    return blocks
  }
  await store.write(100, Buffer.from('x'))
  const before = await blocks()
  await store.writeZeroes(0, 4 * MiB, true)
  assert.equal((await store.read(100, 1))[0], 0)
  // One piece of a mebibyte held data and was written as zeroes.
  assert.ok((await blocks()) <= before + (MiB + 65_536) / 512, 'the rest stays a hole')
  await store.writeZeroes(0, 4 * MiB, false)
  await store.flush()
  assert.ok((await blocks()) >= (4 * MiB) / 512)
})

test('an image that was cut short behind our back gives an error, not old memory', async (t) => {
  const { store, path } = await openStore(t)
  const file = await open(path, 'r+')
  await file.truncate(4096)
  await file.close()
  await assert.rejects(store.read(0, 8192), { code: 'image-truncated' })
})
