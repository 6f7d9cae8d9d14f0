/** One acceptance suite for every store: what `BlockStore` promises, on files, in memory, and on foreign NBD servers. */

import assert from 'node:assert/strict'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { Prng } from '../base/prng.ts'
import { MiB } from '../base/units.ts'
import type { BlockStore } from './block-store.ts'
import { FileStore } from './file-store.ts'
import {
  type DurableForeignKind,
  durableForeignKinds,
  type ForeignServer,
  foreignServer,
  nbdkit,
  needs,
  qemuNbd,
} from './foreign-server.test-support.ts'
import { LossyStore } from './lossy-store.test-support.ts'
import { NbdStore } from './nbd-store.ts'
import { makeImage, temporaryFolder } from './test-disk.ts'

interface Subject {
  readonly store: BlockStore
  /** The same disk, opened once more after `store` was closed. */
  reopen(): Promise<BlockStore>
  /** Makes the next operations fail, and ends that; where the store can. */
  readonly fail?: (isFailing: boolean) => void
  /** Ends what is behind the store, and what only its memory had, and starts it again. */
  readonly crash?: () => Promise<void>
}

interface Kind {
  readonly name: string
  readonly skip: string | false
  /** There is another process behind the store. */
  readonly isForeign: boolean
  /** What is flushed survives the end of that process. */
  readonly isDurable: boolean
  /** Fails on request. */
  readonly canFail: boolean
  open(t: TestContext): Promise<Subject>
}

function foreign(
  name: string,
  tool: string,
  isDurable: boolean,
  command: (socket: string, folder: string) => readonly string[],
): Kind {
  const start = (t: TestContext, folder: string): Promise<ForeignServer> =>
    foreignServer(t, join(folder, 'nbd'), 'disk', command(join(folder, 'nbd'), folder))
  return foreignKindOf(name, tool, isDurable, start)
}

function foreignKind({ name, tool, start }: DurableForeignKind): Kind {
  return foreignKindOf(name, tool, true, (t, folder) => start(t, folder, join(folder, 'foreign.img')))
}

function foreignKindOf(
  name: string,
  tool: string,
  isDurable: boolean,
  start: (t: TestContext, folder: string) => Promise<ForeignServer>,
): Kind {
  const canFail = name.includes('error')
  const open = async (t: TestContext): Promise<Subject> => {
    const folder = temporaryFolder()
    makeImage(folder, 'foreign.img')
    const server = await start(t, folder)
    const openStore = async (): Promise<NbdStore> => {
      const store = await NbdStore.open(server.uri, { readOnly: false, sizeBytes: MiB, trace: () => {} })
      t.after(() => {
        store.giveUp()
        return store.close()
      })
      return store
    }
    const trigger = join(folder, 'fail')
    const fail = (isFailing: boolean): void => {
      if (isFailing) writeFileSync(trigger, '')
      else rmSync(trigger)
    }
    const crash = async (): Promise<void> => {
      await server.kill()
      await server.startAgain()
    }
    return { store: await openStore(), reopen: openStore, crash, ...(canFail ? { fail } : {}) }
  }
  return { name, skip: needs(tool).skip, isForeign: true, isDurable, canFail, open }
}

const kinds: readonly Kind[] = [
  {
    name: 'a file',
    skip: false,
    isForeign: false,
    isDurable: true,
    canFail: false,
    open: async (t) => {
      const path = makeImage(temporaryFolder())
      const openStore = async (): Promise<FileStore> => {
        const store = await FileStore.open(path, false)
        t.after(() => store.close().catch(() => {}))
        return store
      }
      return { store: await openStore(), reopen: openStore }
    },
  },
  {
    name: 'a file that loses what is not flushed',
    skip: false,
    isForeign: false,
    isDurable: true,
    canFail: false,
    open: async (t) => {
      const path = makeImage(temporaryFolder())
      const openStore = async (): Promise<LossyStore> => {
        const store = new LossyStore(await FileStore.open(path, false), readFileSync(path))
        t.after(() => store.close().catch(() => {}))
        return store
      }
      return { store: await openStore(), reopen: openStore }
    },
  },
  foreign('nbdkit memory', 'nbdkit', false, (socket) => nbdkit(socket, 'memory', '1M')),
  foreign('nbdkit file with the error filter', 'nbdkit', true, (socket, folder) =>
    nbdkit(
      socket,
      '--filter=error',
      'file',
      join(folder, 'foreign.img'),
      'error-rate=100%',
      `error-file=${folder}/fail`,
    ),
  ),
  foreign('nbdkit file with the delay filter', 'nbdkit', true, (socket, folder) =>
    nbdkit(socket, '--filter=delay', 'file', join(folder, 'foreign.img'), 'rdelay=3ms', 'wdelay=3ms'),
  ),
  ...durableForeignKinds.map(foreignKind),
]

for (const { name, skip, isForeign, isDurable, canFail, open } of kinds) {
  describe(`${name} as a store`, { skip }, () => {
    test('what is written is read, at odd offsets and lengths, and nothing beside it changes', async (t) => {
      const { store } = await open(t)
      assert.equal(store.sizeBytes, MiB)
      const prng = new Prng(1)
      const contents = await store.read(0, MiB)
      for (let round = 0; round < 20; round++) {
        const offset = prng.below(MiB - 70_000)
        const data = prng.bytes(1 + prng.below(70_000))
        await store.write(offset, data)
        contents.set(data, offset)
      }
      assert.ok((await store.read(0, MiB)).equals(contents))
      assert.ok((await store.read(4097, 12_345)).equals(contents.subarray(4097, 4097 + 12_345)))
    })

    test('zeroes are zeroes, whether they may stay holes or not', async (t) => {
      const { store } = await open(t)
      await store.write(0, Buffer.alloc(65_536, 0xaa))
      await store.writeZeroes(4096, 8192, true)
      await store.writeZeroes(20_000, 3000, false)
      const expected = Buffer.alloc(65_536, 0xaa).fill(0, 4096, 12_288).fill(0, 20_000, 23_000)
      assert.ok((await store.read(0, 65_536)).equals(expected))
    })

    test('a trim touches nothing beside its range', async (t) => {
      const { store } = await open(t)
      await store.write(0, Buffer.alloc(65_536, 0xaa))
      await store.trim(4096, 8192)
      assert.ok((await store.read(0, 4096)).equals(Buffer.alloc(4096, 0xaa)))
      assert.ok((await store.read(12_288, 4096)).equals(Buffer.alloc(4096, 0xaa)))
    })

    test('what was flushed is there when the store is opened again', async (t) => {
      const { store, reopen } = await open(t)
      await store.write(1000, Buffer.from('flushed'))
      await store.flush()
      await store.close()
      const again = await reopen()
      assert.equal(String(await again.read(1000, 7)), 'flushed')
    })

    test('calls that overlap in time end as if each had been alone', async (t) => {
      const { store } = await open(t)
      const pieces = Array.from({ length: 64 }, (_, index) => index)
      const write = (index: number): Promise<void> => store.write(index * 4096, Buffer.alloc(4096, index + 1))
      await Promise.all(pieces.flatMap((index) => (index % 8 === 0 ? [write(index), store.flush()] : [write(index)])))
      const read = await Promise.all(pieces.map((index) => store.read(index * 4096, 4096)))
      for (const [index, data] of read.entries())
        assert.ok(data.equals(Buffer.alloc(4096, index + 1)), `piece ${index}`)
    })

    if (canFail)
      test('an error of the disk is an error of the call, and the next call has another chance', async (t) => {
        const { store, fail } = await open(t)
        assert.ok(fail)
        await store.write(0, Buffer.alloc(512, 1))
        fail(true)
        await assert.rejects(store.write(0, Buffer.alloc(512, 2)), { reason: 'io' })
        await assert.rejects(store.read(0, 512), { reason: 'io' })
        fail(false)
        assert.equal((await store.read(0, 512))[0], 1)
        await store.flush()
      })

    if (isForeign)
      test('a server that is killed and started again was only slow', async (t) => {
        const { store, crash } = await open(t)
        assert.ok(crash)
        const prng = new Prng(2)
        // A server in memory has lost what was flushed, too: none of ours could promise anything about that.
        const contents = isDurable ? await store.read(0, MiB) : Buffer.alloc(MiB)
        for (let round = 0; round < 4; round++) {
          for (let change = 0; change < 10; change++) {
            const offset = prng.below(MiB - 10_000)
            const data = prng.bytes(1 + prng.below(10_000))
            await store.write(offset, data)
            contents.set(data, offset)
          }
          if (isDurable && round % 2 === 1) await store.flush()
          const onTheWay = Buffer.alloc(5000, round + 1)
          const writing = Promise.all([store.write(round * 5000, onTheWay), crash()])
          const reading = store.read(500_000, 500)
          contents.set(onTheWay, round * 5000)
          await writing
          assert.ok((await reading).equals(contents.subarray(500_000, 500_500)))
          assert.ok((await store.read(0, MiB)).equals(contents), `round ${round}`)
        }
        if (isDurable) await store.flush()
      })
  })
}

test('what a foreign server has written is on its image after a flush', needs('qemu-nbd'), async (t) => {
  const folder = temporaryFolder()
  const image = makeImage(folder, 'foreign.img')
  const server = await foreignServer(t, join(folder, 'nbd'), 'disk', qemuNbd(join(folder, 'nbd'), 'disk', image))
  const store = await NbdStore.open(server.uri, { readOnly: false, trace: () => {} })
  t.after(() => store.close())
  await store.write(512, Buffer.alloc(512, 0xbb))
  await store.flush()
  assert.equal(readFileSync(image)[512], 0xbb)
})
