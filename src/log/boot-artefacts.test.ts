import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WorldError } from '../base/assert.ts'
import { ByteReader, concatBytes } from '../base/bytes.ts'
import { type BootArtefacts, decodeArtefacts, EncodedArtefacts } from './boot-artefacts.ts'
import { digestBootImage, digestConfig, type MachineIdentity } from './identity.ts'

const linux: BootArtefacts = {
  config: {
    ramBytes: 256 << 20,
    disks: [
      { sectors: 2n ** 33n, readOnly: false, serial: 'root' },
      { sectors: 8n, readOnly: true, serial: '' },
      { sectors: 64n, readOnly: false, serial: 'copy', isOwn: true },
    ],
    nic: { mac: Uint8Array.of(2, 0, 0, 0, 0, 1) },
  },
  image: {
    kind: 'linux',
    kernel: Uint8Array.from({ length: 300 }, (_, index) => index),
    initrd: Uint8Array.from({ length: 200 }, (_, index) => 7 * index),
    bootArguments: 'console=ttyS0 näme',
  },
  protection: { backups: 2, heartbeatMs: 50, timeoutMs: 2000, digestEveryMs: 1000, lagMs: 30, backupReads: true },
  discipline: { kind: 'exact' },
}

const bare: BootArtefacts = {
  config: { ramBytes: 64 << 20, disks: [] },
  image: { kind: 'elf', file: Uint8Array.of(1, 2, 3) },
  protection: linux.protection,
  discipline: { kind: 'exact' },
}

function identityOf({ config, image }: BootArtefacts): MachineIdentity {
  return {
    machine: 'shop',
    instructionTableHash: 1n,
    configDigest: digestConfig(config),
    imageDigest: digestBootImage(image),
  }
}

function bytesOf(artefacts: BootArtefacts): Uint8Array {
  const encoded = new EncodedArtefacts(artefacts)
  return encoded.slice(0, encoded.lengthBytes)
}

test('a machine travels as bytes, and slices of any size make the whole', () => {
  for (const artefacts of [linux, bare]) {
    const encoded = new EncodedArtefacts(artefacts)
    for (const size of [1, 7, 100, 299, 1000]) {
      const slices: Uint8Array[] = []
      for (let offset = 0; offset < encoded.lengthBytes; offset += size) slices.push(encoded.slice(offset, size))
      assert.deepEqual(decodeArtefacts(concatBytes(slices), identityOf(artefacts)), artefacts)
    }
  }
})

test('a boot image or a machine config that does not match its digest is refused, and the line says which', () => {
  const good = bytesOf(linux)
  const kernelAt = 4 + new ByteReader(good).u32()
  for (const position of [kernelAt, kernelAt + 300, good.length - 1]) {
    const bad = good.slice()
    bad[position]! ^= 1
    assert.throws(() => decodeArtefacts(bad, identityOf(linux)), {
      code: 'bad-artefacts',
      message: /boot image does not match its digest/,
    })
  }
  const other = { ...identityOf(linux), configDigest: 9n }
  assert.throws(() => decodeArtefacts(good, other), { message: /machine config does not match its digest/ })
})

test('no flipped bit and no cut makes another machine: each is refused, and nothing is allocated for a promise', () => {
  const good = bytesOf(bare)
  const headerBytes = 4 + new ByteReader(good).u32()
  for (let bit = 0; bit < 8 * headerBytes; bit++) {
    const bad = good.slice()
    bad[bit >> 3]! ^= 1 << (bit & 7)
    try {
      const { config, image } = decodeArtefacts(bad, identityOf(bare))
      assert.deepEqual({ config, image }, { config: bare.config, image: bare.image }, 'only a time may differ')
    } catch (error) {
      assert.ok(error instanceof WorldError, String(error))
    }
  }
  for (let length = 0; length < good.length; length++) {
    assert.throws(() => decodeArtefacts(good.subarray(0, length), identityOf(bare)), { code: 'bad-artefacts' })
  }
})
