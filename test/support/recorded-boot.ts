/**
 * A whole boot of the test guest, recorded once in a synthetic world and kept in the user's cache: what the determinism
 * tests replay, and where any other system test finds a guest that is already up.
 *
 *     power-on │ early-boot │ … │ user-space │ … │ ready │ … │ under-load │ … │ rebooted │ … │
 *
 * At six places a window starts: a snapshot, and 10 million instructions with a digest entry every 2 million, short
 * enough to be replayed from the snapshot in slices of a single instruction. Outside the windows there is a digest entry
 * every 50 million instructions. As soon as it listens, Redis counts, with its append-only file synced each time. In the
 * end somebody types `reboot`, and the second boot begins.
 *
 * The cache's key is the guest and every source file that has a say in the recording, so that a changed engine never
 * replays an old log here (logs of released versions are another test's business).
 */

import { createHash } from 'node:crypto'
import {
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Prng } from '../../src/base/prng.ts'
import { MiB } from '../../src/base/units.ts'
import { createEngine, type EngineOptions, type ProfiledEngine } from '../../src/engine/wasm-engine.ts'
import { defaultCacheFolder } from '../../src/guest/cache-folder.ts'
import { instructionTableHash } from '../../src/host/instruction-table-hash.ts'
import type { LogBatch } from '../../src/log/batch.ts'
import { type LogEnd, logIndex } from '../../src/log/entry.ts'
import { digestBootImage, digestConfig } from '../../src/log/identity.ts'
import { encodeKeptBatch, encodeKeptLogHeader, KeptLogReader } from '../../src/log/kept-log.ts'
import { createMachine } from '../../src/machine/machine.ts'
import type { BootImage, Machine, MachineConfig } from '../../src/machine/types.ts'
import { MemoryDisk } from './memory-disk.ts'
import { guestAddress, RedisStation, stationAddress } from './redis-station.ts'
import { SyntheticWorld } from './synthetic-world.ts'
import { type TestGuest, testGuest } from './test-guest.ts'

const ramBytes = 128 * MiB
const million = 1_000_000n
const checkpointInstructions = 50_000_000n
/** Length of a window, and how far apart its digest entries are. */
export const windowInstructions = 10_000_000n
const windowCheckpointInstructions = 2_000_000n
const loadInstructions = 300n * million
/** A guest that is not ready by then never will be. */
const bootLimit = 6000n * million

export const windowNames = ['power-on', 'early-boot', 'user-space', 'ready', 'under-load', 'rebooted'] as const
export type WindowName = (typeof windowNames)[number]

export interface RecordedWindow {
  readonly name: WindowName
  /** Index of the first entry behind the snapshot. */
  readonly start: LogEnd
  readonly snapshot: Uint8Array
  /** The last entry below this index is the digest at the window's end. */
  readonly end: LogEnd
}

export interface LoadSummary {
  /** INCRs that Redis acknowledged. */
  readonly counted: number
  readonly redisPongs: number
  readonly echoes: number
}

export interface RecordedBoot {
  readonly config: MachineConfig
  readonly image: BootImage
  /** The kept log's bytes, and what is in them. */
  readonly keptLog: Uint8Array
  readonly batches: readonly LogBatch[]
  readonly windows: Readonly<Record<WindowName, RecordedWindow>>
  readonly load: LoadSummary
  readonly rootPath: string
  readonly newMachine: MachineMaker
}

const logName = 'boot.log'
const sourceRoot = join(import.meta.dirname, '../..')
const sources = ['src/{base,riscv,engine,machine,log,hypervisor}/**/*.ts', 'test/support/*.ts']

function recordingKey(guest: TestGuest): string {
  const hash = createHash('sha256').update(readFileSync(guest.manifestPath))
  const files = sources.flatMap((pattern) => globSync(pattern, { cwd: sourceRoot }))
  for (const file of files.filter((name) => !/\.test\.ts$|test-support/.test(name)).sort()) {
    hash.update(file).update(readFileSync(join(sourceRoot, file)))
  }
  return hash.digest('hex').slice(0, 32)
}

function partsOf(guest: TestGuest): { config: MachineConfig; image: BootImage } {
  const disk = new MemoryDisk(guest.rootPath)
  const config = {
    ramBytes,
    disks: [{ sectors: disk.sectors, readOnly: false, serial: 'root' }],
    nic: { mac: Uint8Array.of(0x52, 0x54, 0, 0xf7, 0, 1) },
  }
  disk.close()
  const network = `ip4=${guestAddress}/24 gw4=${stationAddress}`
  const image = {
    kind: 'linux',
    kernel: readFileSync(guest.kernelPath),
    initrd: readFileSync(guest.initrdPath),
    bootArguments: `console=ttyS0 root=/dev/vda quiet ${network} redis.appendfsync=always`,
  } as const
  return { config, image }
}

/** Makes machines that are off; how their engines translate must not matter. `onEngine` may look at what they did. */
export type MachineMaker = (
  translation?: EngineOptions['translation'],
  onEngine?: (engine: ProfiledEngine) => void,
) => Machine

function machineMaker(config: MachineConfig, image: BootImage): MachineMaker {
  return (translation = {}, onEngine = () => {}) =>
    createMachine(config, image, ({ ramBytes, bus }) => {
      const engine = createEngine({ ramBytes, bus, translation })
      onEngine(engine)
      return engine
    })
}

/** What is written beside the log and the snapshots. Indexes are decimal text: JSON has no bigint. */
interface Contents {
  readonly windows: readonly { readonly name: WindowName; readonly start: string; readonly end: string }[]
  readonly load: LoadSummary
}

/** Records now, in the world of this seed. The cache is neither asked nor changed. */
export async function recordBoot(seed: number): Promise<RecordedBoot> {
  const guest = await testGuest()
  const { config, image } = partsOf(guest)
  const newMachine = machineMaker(config, image)
  const folder = mkdtempSync(join(tmpdir(), 'understudy-recorded-boot-'))
  try {
    record(seed, guest, config, image, newMachine(), folder)
    return { ...load(folder), config, image, rootPath: guest.rootPath, newMachine }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Of the recording in the cache. */
export const recordedSeed = 1

/** From the cache, or recorded now (a boot: about 20 seconds of one core). */
export async function recordedBoot(): Promise<RecordedBoot> {
  const guest = await testGuest()
  const key = recordingKey(guest)
  const cache = join(defaultCacheFolder(), 'recorded-boots')
  const folder = join(cache, key)
  const { config, image } = partsOf(guest)
  const newMachine = machineMaker(config, image)
  if (!statSync(folder, { throwIfNoEntry: false })) {
    const temporary = join(cache, `.${key}-${process.pid}`)
    mkdirSync(temporary, { recursive: true })
    record(recordedSeed, guest, config, image, newMachine(), temporary)
    rmSync(folder, { recursive: true, force: true })
    renameSync(temporary, folder)
    forgetOlder(cache)
  }
  return { ...load(folder), config, image, rootPath: guest.rootPath, newMachine }
}

/** A recording takes some 300 MB: the two newest are kept. */
function forgetOlder(cache: string): void {
  const age = (name: string) => statSync(join(cache, name)).mtimeMs
  const names = readdirSync(cache).sort((a, b) => age(b) - age(a))
  for (const name of names.slice(2)) rmSync(join(cache, name), { recursive: true, force: true })
}

function record(
  seed: number,
  guest: TestGuest,
  config: MachineConfig,
  image: BootImage,
  machine: Machine,
  folder: string,
): void {
  const disk = new MemoryDisk(guest.rootPath)
  const station = new RedisStation(new Prng(seed))
  let transcript = ''
  const world = new SyntheticWorld(machine, {
    seed,
    disk,
    station,
    onConsole: (text) => {
      transcript += text
    },
  })
  const { recorder } = world
  const log: Uint8Array[] = [
    encodeKeptLogHeader({
      identity: {
        machine: 'recorded-boot',
        instructionTableHash: instructionTableHash(),
        configDigest: digestConfig(config),
        imageDigest: digestBootImage(image),
      },
      firstIndex: logIndex(0n),
    }),
  ]
  const keep = () => log.push(...recorder.takeBatches().map(encodeKeptBatch))
  const runTo = (count: bigint, isDone: () => boolean = () => false) => {
    while (machine.count < count && !isDone()) {
      const next = (machine.count / checkpointInstructions + 1n) * checkpointInstructions
      world.runTo(next < count ? next : count, isDone)
      if (machine.count === next) recorder.entryDigest()
      keep()
    }
  }
  const windows: Contents['windows'][number][] = []
  const recordWindow = (name: WindowName) => {
    const startCount = machine.count
    const start = recorder.nextIndex.toString()
    writeFileSync(join(folder, `${name}.snapshot`), machine.snapshot())
    for (let done = 0n; done < windowInstructions; ) {
      done += windowCheckpointInstructions
      runTo(startCount + done)
      recorder.entryDigest()
    }
    keep()
    windows.push({ name, start, end: recorder.nextIndex.toString() })
  }

  world.powerOn()
  recordWindow('power-on')
  recordWindow('early-boot')
  let answered = 0
  const answer = disk.answer.bind(disk)
  disk.answer = (request) => {
    answered++
    return answer(request)
  }
  // The first disk request: user space is loading the kernel's modules.
  runTo(bootLimit, () => answered > 0)
  recordWindow('user-space')
  runTo(bootLimit, () => transcript.includes('GUEST-READY'))
  if (!transcript.includes('GUEST-READY')) throw new Error(`the guest did not get ready: ${transcript}`)
  // Nothing in flight: whoever starts from here needs no answers of the past.
  runTo(bootLimit, () => world.isWaiting && machine.inFlightDiskRequests().length === 0)
  recordWindow('ready')
  runTo(machine.count + loadInstructions)
  recordWindow('under-load')
  station.leaveRedis()
  world.type('uname -a; reboot\n')
  runTo(machine.count + bootLimit, () => world.boots === 2)
  if (!transcript.includes('GUEST-STOPPED')) throw new Error(`the guest did not reboot: ${transcript}`)
  recordWindow('rebooted')
  runTo((machine.count / checkpointInstructions + 3n) * checkpointInstructions)
  keep()
  disk.close()
  writeFileSync(join(folder, logName), Buffer.concat(log))
  const { counted, redisPongs, echoes } = station
  const contents: Contents = { windows, load: { counted, redisPongs, echoes } }
  writeFileSync(join(folder, 'contents.json'), JSON.stringify(contents, null, 2))
}

function load(folder: string): Pick<RecordedBoot, 'keptLog' | 'batches' | 'windows' | 'load'> {
  const contents: Contents = JSON.parse(readFileSync(join(folder, 'contents.json'), 'utf8'))
  const windows = contents.windows.map(({ name, start, end }): [WindowName, RecordedWindow] => [
    name,
    {
      name,
      start: logIndex(BigInt(start)),
      end: logIndex(BigInt(end)),
      snapshot: readFileSync(join(folder, `${name}.snapshot`)),
    },
  ])
  const keptLog = readFileSync(join(folder, logName))
  return {
    keptLog,
    batches: new KeptLogReader().push(keptLog),
    windows: Object.fromEntries(windows) as RecordedBoot['windows'],
    load: contents.load,
  }
}
