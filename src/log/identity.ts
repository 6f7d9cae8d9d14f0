/**
 * What two replicas must agree on before they pair, and what a kept log must match before it is replayed: the same
 * machine, made of the same parts, started from the same image, running the same semantics. Anything else would diverge
 * sooner or later; better to refuse at the handshake, with the reason.
 */

import { WorldError } from '../base/assert.ts'
import { type ByteReader, ByteWriter } from '../base/bytes.ts'
import { formatDigest, hash64 } from '../base/digest.ts'
import type { BootImage, MachineConfig } from '../machine/types.ts'
import { readVarintText, writeVarint, writeVarintText } from './varint.ts'

export interface MachineIdentity {
  /** The machine's name, as in its config file. */
  readonly machine: string
  /** Digest of the instruction table: two builds with another semantics must not pair. */
  readonly instructionTableHash: bigint
  readonly configDigest: bigint
  readonly imageDigest: bigint
}

/** Names of machines and replicas are at most this long. */
export const maxNameBytes = 255

/** Digest of everything in a `MachineConfig`. */
export function digestConfig(config: MachineConfig): bigint {
  const writer = new ByteWriter()
  writeVarint(writer, config.ramBytes)
  writeVarint(writer, config.disks.length)
  for (const disk of config.disks) {
    writeVarint(writer, disk.sectors)
    writer
      .bool(disk.readOnly)
      .text(disk.serial)
      .bool(disk.bus === 'scsi')
      .bool(disk.isOwn === true)
  }
  writer.bool(config.nic !== undefined)
  if (config.nic !== undefined) writer.bytes(config.nic.mac)
  return hash64(writer.view())
}

/** Digest of everything that is in memory at power on. */
export function digestBootImage(image: BootImage): bigint {
  if (image.kind === 'elf') return hash64(image.file, hash64(new TextEncoder().encode('elf')))
  const parts = [image.kernel, image.initrd, new TextEncoder().encode(image.bootArguments)]
  // Chained, not concatenated: kernel and initrd have tens of megabytes. Each part's length is mixed in by its own hash.
  return parts.reduce(
    (digest, part) => hash64(part, digest ^ BigInt(part.length)),
    hash64(new TextEncoder().encode('linux')),
  )
}

/** Why these two must not pair, or undefined if they may. */
export function identityMismatch(ours: MachineIdentity, theirs: MachineIdentity): string | undefined {
  if (ours.machine !== theirs.machine) return `other machine: "${theirs.machine}", here "${ours.machine}"`
  if (ours.instructionTableHash !== theirs.instructionTableHash) {
    return `other instruction table: ${formatDigest(theirs.instructionTableHash)}, here ${formatDigest(ours.instructionTableHash)}; run the same version on both sides`
  }
  if (ours.configDigest !== theirs.configDigest) {
    return `other machine config: ${formatDigest(theirs.configDigest)}, here ${formatDigest(ours.configDigest)}`
  }
  if (ours.imageDigest !== theirs.imageDigest) {
    return `other boot image: ${formatDigest(theirs.imageDigest)}, here ${formatDigest(ours.imageDigest)}`
  }
  return undefined
}

export function writeIdentity(writer: ByteWriter, identity: MachineIdentity): void {
  writeVarintText(writer, identity.machine)
  writer.u64(identity.instructionTableHash).u64(identity.configDigest).u64(identity.imageDigest)
}

export function readIdentity(reader: ByteReader): MachineIdentity {
  const machine = readVarintText(reader, maxNameBytes)
  if (machine === '') throw new WorldError('bad-identity', 'a machine without a name')
  return {
    machine,
    instructionTableHash: reader.u64(),
    configDigest: reader.u64(),
    imageDigest: reader.u64(),
  }
}
