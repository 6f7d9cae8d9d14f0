/**
 * One acceptance suite for every disk that a machine can have: our disk server on an image, and our disk server as the fence
 * before nbdkit, qemu-nbd and nbd-server. Through NBD, with a replica's pass, as a machine uses it. What a store alone
 * promises is in block-store.test.ts; what the fence does in every corner in fencing.test.ts.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, type TestContext, test } from 'node:test'
import { Prng } from '../base/prng.ts'
import { MiB } from '../base/units.ts'
import type { ArbiterClient } from './arbiter-client.ts'
import type { DiskServer, DiskSource } from './disk-server.ts'
import { durableForeignKinds, needs } from './foreign-server.test-support.ts'
import type { NbdClient } from './nbd-client.ts'
import { NbdError } from './nbd-error.ts'
import {
  arbiterClient,
  HeldStore,
  makeImage,
  nbdClient,
  passOf,
  patienceMs,
  startTestServer,
  temporaryFolder,
} from './test-disk.ts'

interface DiskKind {
  readonly name: string
  readonly skip: string | false
  /** @returns what the export stands on, and what crashes it: with it everything that only its memory had is gone */
  prepare(t: TestContext, folder: string, image: string): Promise<{ source: DiskSource; crash?: () => Promise<void> }>
}

const kinds: readonly DiskKind[] = [
  { name: 'an image', skip: false, prepare: async (_, __, image) => ({ source: { path: image } }) },
  ...durableForeignKinds.map(({ name, tool, start }): DiskKind => {
    return {
      name: `the fence before ${name}`,
      skip: needs(tool).skip,
      prepare: async (t, folder, image) => {
        const foreign = await start(t, folder, image)
        const crash = async (): Promise<void> => {
          await foreign.kill()
          await foreign.startAgain()
        }
        return { source: { nbd: foreign.uri }, crash }
      },
    }
  }),
]

interface Subject {
  readonly server: DiskServer
  readonly image: string
  readonly store: HeldStore
  readonly primary: ArbiterClient
  /** Of replica a, which holds the machine in generation 1, with b as its backup. */
  readonly disk: NbdClient
  readonly crash: (() => Promise<void>) | undefined
}

async function subjectOf(t: TestContext, kind: DiskKind): Promise<Subject> {
  const folder = temporaryFolder()
  const image = makeImage(folder, 'image')
  const { source, crash } = await kind.prepare(t, folder, image)
  let store: HeldStore | undefined
  t.after(() => store?.releaseAll())
  const server = await startTestServer(t, folder, {
    exports: [{ name: 'disk0', machine: 'web', ...source }],
    wrapStore: (inner) => (store = new HeldStore(inner)),
  })
  const primary = arbiterClient(t, server, 'a')
  await primary.start(patienceMs)
  await primary.setEligible(1, ['b'], patienceMs)
  const disk = await nbdClient(t, server, 'disk0', passOf('a', 1))
  return { server, image, store: store!, primary, disk, crash }
}

const isOver = (error: unknown): boolean =>
  error instanceof NbdError && (error.reason === 'fenced' || error.reason === 'connection-lost')

for (const kind of kinds) {
  describe(`${kind.name} as a machine's disk`, { skip: kind.skip }, () => {
    test('has the size of its image and takes every request that the machine makes', async (t) => {
      const { disk } = await subjectOf(t, kind)
      assert.equal(disk.sizeBytes, MiB)
      const { isReadOnly, canFlush, canFua, canTrim, canWriteZeroes } = disk
      assert.deepEqual([isReadOnly, canFlush, canFua, canTrim, canWriteZeroes], [false, true, true, true, true])
    })

    test('many requests at once leave what a model leaves', async (t) => {
      const { disk } = await subjectOf(t, kind)
      const prng = new Prng(3)
      const model = await disk.read(0, MiB)
      for (let round = 0; round < 10; round++) {
        // Side by side, in places of their own.
        const work = Array.from({ length: 16 }, async (_, slot) => {
          const offset = slot * 65_536 + 512 * prng.below(64)
          const lengthBytes = 512 * (1 + prng.below(64))
          if (prng.below(4) === 0) {
            await disk.writeZeroes(offset, lengthBytes)
            model.fill(0, offset, offset + lengthBytes)
            return
          }
          const data = prng.bytes(lengthBytes)
          await disk.write(offset, data, { fua: prng.below(4) === 0 })
          model.set(data, offset)
        })
        await Promise.all([...work, disk.flush()])
      }
      assert.ok((await disk.read(0, MiB)).equals(model))
    })

    test('what was flushed, and what was written with FUA, is on the image', async (t) => {
      const { disk, image } = await subjectOf(t, kind)
      await disk.write(4096, Buffer.alloc(512, 0xaa))
      await disk.flush()
      await disk.write(8192, Buffer.alloc(512, 0xbb), { fua: true })
      const bytes = readFileSync(image)
      assert.deepEqual([bytes[4096], bytes[8192]], [0xaa, 0xbb])
    })

    test('a trim and zeroes touch nothing beside their range', async (t) => {
      const { disk } = await subjectOf(t, kind)
      await disk.write(0, Buffer.alloc(65_536, 0xaa))
      await disk.trim(4096, 8192)
      await disk.writeZeroes(20_480, 512)
      const read = await disk.read(0, 65_536)
      const isKept = (from: number, to: number): boolean => read.subarray(from, to).every((byte) => byte === 0xaa)
      assert.ok(isKept(0, 4096) && isKept(12_288, 20_480) && isKept(20_992, 65_536))
      assert.ok(read.subarray(20_480, 20_992).every((byte) => byte === 0))
    })

    test('a request that is out of range or too long fails alone', async (t) => {
      const { disk } = await subjectOf(t, kind)
      await assert.rejects(disk.write(MiB - 256, Buffer.alloc(512)), { reason: 'io' })
      await assert.rejects(disk.read(2 * MiB, 512), { reason: 'io' })
      assert.equal((await disk.read(512, 512))[0], 1)
    })

    test('an older generation is refused, and its open connection writes nothing any more', async (t) => {
      const { server, disk, image } = await subjectOf(t, kind)
      assert.deepEqual(await arbiterClient(t, server, 'b').testAndSet(1, patienceMs), { won: true, generation: 2 })
      await assert.rejects(disk.write(0, Buffer.alloc(512, 0xee)), isOver)
      await assert.rejects(nbdClient(t, server, 'disk0', passOf('a', 1)), { reason: 'fenced' })
      const winner = await nbdClient(t, server, 'disk0', passOf('b', 2))
      await winner.write(512, Buffer.alloc(512, 0x22), { fua: true })
      const bytes = readFileSync(image)
      assert.deepEqual([bytes[0], bytes[512]], [0, 0x22])
    })

    test('a grant is answered when the last older request has finished', async (t) => {
      const { server, store, disk, image } = await subjectOf(t, kind)
      const { held, release } = store.hold('write')
      const write = disk.write(0, Buffer.alloc(512, 0xee)).catch((error) => assert.ok(isOver(error)))
      await held
      const backup = arbiterClient(t, server, 'b')
      let isGranted = false
      const granted = backup.testAndSet(1, patienceMs).then(() => {
        isGranted = true
      })
      // Questions of a session begin in order.
      await backup.read(patienceMs)
      await backup.read(patienceMs)
      assert.equal(isGranted, false)
      release()
      await Promise.all([granted, write])
      const winner = await nbdClient(t, server, 'disk0', passOf('b', 2))
      await winner.write(0, Buffer.alloc(512, 0x22), { fua: true })
      assert.equal(readFileSync(image)[0], 0x22)
    })

    test('a replica has one connection: the newest, which begins when the earlier one has finished', async (t) => {
      const { server, store, disk, image } = await subjectOf(t, kind)
      const { held, release } = store.hold('write')
      const old = disk.write(0, Buffer.alloc(512, 0xee)).catch((error) => assert.ok(isOver(error)))
      await held
      let isOpen = false
      const opened = nbdClient(t, server, 'disk0', passOf('a', 1)).then((client) => {
        isOpen = true
        return client
      })
      await old
      assert.equal(isOpen, false)
      release()
      const newest = await opened
      await newest.write(0, Buffer.alloc(512, 0x11), { fua: true })
      assert.equal(readFileSync(image)[0], 0x11)
    })

    test('what is behind it may be killed in the middle of writing: the disk was slow, and lost nothing', async (t) => {
      const { disk, crash, image } = await subjectOf(t, kind)
      if (!crash) return t.skip('nothing is behind an image')
      const prng = new Prng(4)
      const model = await disk.read(0, MiB)
      for (let round = 0; round < 3; round++) {
        const writes = Array.from({ length: 16 }, async (_, slot) => {
          const offset = slot * 65_536 + 512 * prng.below(64)
          const data = prng.bytes(512 * (1 + prng.below(64)))
          await disk.write(offset, data)
          model.set(data, offset)
        })
        await Promise.all([crash(), ...writes])
        assert.ok((await disk.read(0, MiB)).equals(model), `round ${round}`)
      }
      await disk.flush()
      assert.ok(readFileSync(image).equals(model))
    })
  })
}
