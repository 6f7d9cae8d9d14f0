import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { findProgram } from './command.ts'
import {
  aptHelper,
  isRiscvImage,
  type KernelPackage,
  moduleDependencies,
  modulesInLoadOrder,
  withoutSignature,
  xzDecompressor,
} from './kernel-package.ts'

const module = (depends: string) => Buffer.from(`\x7fELF\0license=GPL\0depends=${depends}\0vermagic=6.12\0`)

function kernel(modules: Record<string, string>, builtIn: string[] = []): KernelPackage {
  const entries = Object.entries(modules).map(([name, depends]) => [name, module(depends)] as const)
  return { version: '6.12', image: new Uint8Array(64), modules: new Map(entries), builtIn: new Set(builtIn) }
}

const asItIs = async (bytes: Uint8Array) => bytes
const order = async (of: KernelPackage, wanted: string[]) =>
  (await modulesInLoadOrder(of, wanted, asItIs)).map(([name]) => name)

test('a module says what it needs in its own words', () => {
  assert.deepEqual(moduleDependencies(module('jbd2,mbcache,crc-16')), ['jbd2', 'mbcache', 'crc_16'])
  assert.deepEqual(moduleDependencies(module('')), [])
  assert.deepEqual(moduleDependencies(Buffer.from('no module at all')), [])
})

test('each module comes once, after everything that it needs', async () => {
  const linux = kernel({ ext4: 'jbd2,crc16', jbd2: 'crc16', crc16: '', virtio_rng: 'rng', rng: '', other: '' })
  assert.deepEqual(await order(linux, ['virtio-rng', 'ext4', 'jbd2']), ['rng', 'virtio_rng', 'crc16', 'jbd2', 'ext4'])
})

test('a signature is taken off, and a module without one stays as it is', async () => {
  const unsigned = module('jbd2')
  const trailer = Buffer.concat([Buffer.alloc(300, 9), Buffer.from([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 44])])
  const signed = Buffer.concat([unsigned, trailer, Buffer.from('~Module signature appended~\n')])
  assert.deepEqual(Buffer.from(withoutSignature(signed)), unsigned)
  assert.equal(withoutSignature(unsigned), unsigned)
  signed.writeUInt32BE(1 << 30, unsigned.length + 308)
  assert.throws(() => withoutSignature(signed), { code: 'kernel-unusable' })
  const linux = {
    ...kernel({ jbd2: '' }),
    modules: new Map([['jbd2', Buffer.concat([module(''), trailer, Buffer.from('~Module signature appended~\n')])]]),
  }
  const [[, content]] = (await modulesInLoadOrder(linux, ['jbd2'], asItIs)) as [[string, Uint8Array]]
  assert.deepEqual(Buffer.from(content), module(''))
})

test('what this kernel has built in is left out, and what it lacks is an error', async () => {
  const linux = kernel({ ext4: 'jbd2' }, ['jbd2', 'virtio_mmio'])
  assert.deepEqual(await order(linux, ['virtio-mmio', 'ext4']), ['ext4'])
  await assert.rejects(order(linux, ['virtio_blk']), { code: 'kernel-unusable', message: /virtio_blk/ })
})

test('only the raw riscv64 image counts as a kernel', () => {
  const image = new Uint8Array(64)
  assert.equal(isRiscvImage(image), false)
  image.set([0x52, 0x53, 0x43, 0x05], 56)
  assert.equal(isRiscvImage(image), true)
  assert.equal(isRiscvImage(new Uint8Array(3)), false)
})

test('a compressed module comes out as it was, from apt’s helper and from xz alike', async (context) => {
  const xz = findProgram('xz')
  if (!xz) return context.skip('xz is not installed')
  const content = Buffer.alloc(50_000, 'binary \x00\xff content ', 'latin1')
  const compressed = execFileSync(xz, ['--check=crc32', '-c'], { input: content })
  const folder = mkdtempSync(join(tmpdir(), 'understudy-xz-'))
  try {
    for (const program of [xz, aptHelper() ?? xz]) {
      const decompress = xzDecompressor(folder, program)
      assert.deepEqual(Buffer.from(await decompress(compressed)), content)
      await assert.rejects(xzDecompressor(mkdtempSync(join(folder, 'd-')), program)(compressed.fill(1, 100, 120)), {
        code: 'package-damaged',
      })
      compressed.set(execFileSync(xz, ['--check=crc32', '-c'], { input: content }))
    }
    assert.deepEqual(await xzDecompressor(folder, xz)(Buffer.from('plain')), Buffer.from('plain'))
  } finally {
    rmSync(folder, { recursive: true })
  }
})
