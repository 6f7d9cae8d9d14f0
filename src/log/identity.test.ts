import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import type { BootImage, MachineConfig } from '../machine/types.ts'
import { digestBootImage, digestConfig, identityMismatch, readIdentity, writeIdentity } from './identity.ts'

const config: MachineConfig = {
  ramBytes: 256 << 20,
  disks: [{ sectors: 100n, readOnly: false, serial: 'root' }],
  nic: { mac: Uint8Array.of(2, 0, 0, 0, 0, 1) },
}

test('every part of a machine config is in its digest', () => {
  const others: MachineConfig[] = [
    { ...config, ramBytes: 512 << 20 },
    { ...config, disks: [] },
    { ...config, disks: [{ sectors: 100n, readOnly: false, serial: 'root', isOwn: true }] },
    { ...config, disks: [{ sectors: 101n, readOnly: false, serial: 'root' }] },
    { ...config, disks: [{ sectors: 100n, readOnly: true, serial: 'root' }] },
    { ...config, disks: [{ sectors: 100n, readOnly: false, serial: 'data' }] },
    { ...config, nic: { mac: Uint8Array.of(2, 0, 0, 0, 0, 2) } },
    { ramBytes: config.ramBytes, disks: config.disks },
  ]
  const digests = [config, ...others].map(digestConfig)
  assert.equal(new Set(digests).size, digests.length)
  assert.equal(digestConfig({ ...config }), digests[0])
})

test('every part of a boot image is in its digest, and parts do not run into each other', () => {
  const image = (kernel: number[], initrd: number[], bootArguments: string): BootImage => ({
    kind: 'linux',
    kernel: Uint8Array.from(kernel),
    initrd: Uint8Array.from(initrd),
    bootArguments,
  })
  const digests = [
    image([1, 2], [3], 'a'),
    image([1], [2, 3], 'a'),
    image([1, 2], [3], 'b'),
    image([1, 2], [], 'a'),
    { kind: 'elf', file: Uint8Array.of(1, 2) } as const,
  ].map(digestBootImage)
  assert.equal(new Set(digests).size, digests.length)
})

test('replicas pair only if name, instruction table, config and image agree, and the refusal says which does not', () => {
  const ours = { machine: 'shop', instructionTableHash: 1n, configDigest: 2n, imageDigest: 3n }
  assert.equal(identityMismatch(ours, { ...ours }), undefined)
  assert.match(identityMismatch(ours, { ...ours, machine: 'bank' })!, /other machine: "bank"/)
  assert.match(identityMismatch(ours, { ...ours, instructionTableHash: 9n })!, /instruction table/)
  assert.match(identityMismatch(ours, { ...ours, configDigest: 9n })!, /machine config/)
  assert.match(identityMismatch(ours, { ...ours, imageDigest: 9n })!, /boot image/)
  const writer = new ByteWriter()
  writeIdentity(writer, ours)
  assert.deepEqual(readIdentity(new ByteReader(writer.finish())), ours)
})
