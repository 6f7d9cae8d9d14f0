/**
 * Everything that makes a machine, as one string of bytes: what a backup on another host has to get before it can replay
 * the log from its first entry. The machine's parts, how it is protected, then kernel and initrd as they are.
 *
 *   header length u32 │ header │ kernel │ initrd          (a bare program: its file in the kernel's place)
 *
 * Kernel and initrd are not copied on the primary's side: slices are cut out of the parts. What arrives is believed only
 * if its digests are those of the primary's identity. The bytes have no version of their own: they belong to the protocol's.
 */

import { assert, ExitCode, WorldError } from '../base/assert.ts'
import { ByteReader, ByteWriter, concatBytes } from '../base/bytes.ts'
import type { BootImage, DiskConfig, MachineConfig } from '../machine/types.ts'
import { type Discipline, readDiscipline, writeDiscipline } from './discipline.ts'
import { digestBootImage, digestConfig, type MachineIdentity } from './identity.ts'
import { readBoundedVarint, readFlag, readVarint, readVarintText, writeVarint, writeVarintText } from './varint.ts'

/** How a VM's file wants its machine protected. All replicas keep to it, whoever is the primary. */
export interface ProtectionSettings {
  /** How many backups there are to be. */
  readonly backups: number
  readonly heartbeatMs: number
  readonly timeoutMs: number
  readonly digestEveryMs: number
  /** The execution lag that a backup may have. */
  readonly lagMs: number
  /** What is read from disks is left out of the log: each backup reads it itself. */
  readonly backupReads: boolean
}

export interface BootArtefacts {
  readonly config: MachineConfig
  readonly image: BootImage
  readonly protection: ProtectionSettings
  readonly discipline: Discipline
}

/** More than any kernel with its initrd; a peer that promises more is not believed. */
export const maxArtefactsBytes = 2 ** 30

const maxHeaderBytes = 64 * 1024
const maxDisks = 16
const maxBackups = 64
const maxTimeMs = 2 ** 31
const macBytes = 6

/** The primary's side: the bytes, without a second copy of them. */
export class EncodedArtefacts {
  readonly lengthBytes: number
  readonly #parts: readonly Uint8Array[]

  constructor({ config, image, protection, discipline }: BootArtefacts) {
    const [first, second] = image.kind === 'linux' ? [image.kernel, image.initrd] : [image.file, new Uint8Array()]
    const header = new ByteWriter()
    writeConfig(header, config)
    const { backups, heartbeatMs, timeoutMs, digestEveryMs, lagMs, backupReads } = protection
    for (const number of [backups, heartbeatMs, timeoutMs, digestEveryMs, lagMs])
      writeVarint(header, Math.round(number))
    header.bool(backupReads)
    writeDiscipline(header, discipline)
    header.bool(image.kind === 'linux')
    if (image.kind === 'linux') writeVarintText(header, image.bootArguments)
    writeVarint(header, first.length)
    writeVarint(header, second.length)
    this.#parts = [new ByteWriter().bytes(header.view()).finish(), first, second]
    this.lengthBytes = this.#parts.reduce((sum, { length }) => sum + length, 0)
    assert(header.length <= maxHeaderBytes && this.lengthBytes <= maxArtefactsBytes, 'a machine is not that large')
  }

  /** A copy of at most `maxBytes` bytes from `offset` on; fewer only at the end. */
  slice(offset: number, maxBytes: number): Uint8Array {
    const pieces: Uint8Array[] = []
    let start = offset
    let wanted = maxBytes
    for (const part of this.#parts) {
      if (start < part.length) {
        const piece = part.subarray(start, start + wanted)
        pieces.push(piece)
        wanted -= piece.length
      }
      start = Math.max(0, start - part.length)
    }
    return concatBytes(pieces)
  }
}

/**
 * The backup's side: takes the whole bytes apart and compares them with the primary's identity.
 * @throws WorldError `bad-artefacts`
 */
export function decodeArtefacts(bytes: Uint8Array, identity: MachineIdentity): BootArtefacts {
  let artefacts: BootArtefacts
  try {
    artefacts = readArtefacts(new ByteReader(bytes))
  } catch (error) {
    if (!(error instanceof WorldError)) throw error
    throw badArtefacts(error.message)
  }
  if (digestConfig(artefacts.config) !== identity.configDigest) {
    throw badArtefacts('the machine config does not match its digest')
  }
  if (digestBootImage(artefacts.image) !== identity.imageDigest) {
    throw badArtefacts('the boot image does not match its digest')
  }
  return artefacts
}

function badArtefacts(why: string): WorldError {
  const advice = 'start this backup again; if it comes again, restart the primary too'
  return new WorldError(
    'bad-artefacts',
    `the primary sent a machine that cannot be used: ${why}; ${advice}`,
    ExitCode.failure,
  )
}

function readArtefacts(reader: ByteReader): BootArtefacts {
  const headerBytes = reader.u32()
  if (headerBytes > maxHeaderBytes) throw new WorldError('too-large', `a header of ${headerBytes} bytes`)
  const header = new ByteReader(reader.raw(headerBytes))
  const config = readConfig(header)
  const backups = readBoundedVarint(header, maxBackups, 'number of backups')
  const [heartbeatMs, timeoutMs] = [readTime(header), readTime(header)]
  const [digestEveryMs, lagMs] = [readTime(header), readTime(header)]
  const backupReads = readFlag(header)
  const discipline = readDiscipline(header)
  const isLinux = readFlag(header)
  const bootArguments = isLinux ? readVarintText(header, maxHeaderBytes) : ''
  const firstBytes = readBoundedVarint(header, maxArtefactsBytes, 'kernel')
  const secondBytes = readBoundedVarint(header, maxArtefactsBytes, 'initrd')
  header.end()
  const first = reader.raw(firstBytes)
  const second = reader.raw(secondBytes)
  reader.end()
  const image: BootImage = isLinux
    ? { kind: 'linux', kernel: first, initrd: second, bootArguments }
    : { kind: 'elf', file: first }
  const protection = { backups, heartbeatMs, timeoutMs, digestEveryMs, lagMs, backupReads }
  return { config, image, protection, discipline }
}

/** A time of 0 would make a ticker that never rests. */
function readTime(reader: ByteReader): number {
  const time = readBoundedVarint(reader, maxTimeMs, 'time')
  if (time === 0) throw new WorldError('bad-time', 'a time of 0 ms')
  return time
}

function writeConfig(writer: ByteWriter, config: MachineConfig): void {
  writeVarint(writer, config.ramBytes)
  writeVarint(writer, config.disks.length)
  for (const { sectors, readOnly, serial, bus, isOwn = false } of config.disks) {
    writeVarint(writer, sectors)
    writer
      .bool(readOnly)
      .bool(bus === 'scsi')
      .bool(isOwn)
    writeVarintText(writer, serial)
  }
  writer.bool(config.nic !== undefined)
  if (config.nic) writer.raw(config.nic.mac)
}

function readConfig(reader: ByteReader): MachineConfig {
  const ramBytes = readBoundedVarint(reader, 2 ** 32, 'memory')
  const disks: DiskConfig[] = []
  const count = readBoundedVarint(reader, maxDisks, 'number of disks')
  for (let index = 0; index < count; index++) {
    const [sectors, readOnly, isScsi, isOwn, serial] = [
      readVarint(reader),
      readFlag(reader),
      readFlag(reader),
      readFlag(reader),
      readVarintText(reader, 20),
    ]
    disks.push({ sectors, readOnly, serial, ...(isScsi ? { bus: 'scsi' } : {}), ...(isOwn ? { isOwn } : {}) })
  }
  return readFlag(reader) ? { ramBytes, disks, nic: { mac: reader.raw(macBytes).slice() } } : { ramBytes, disks }
}
