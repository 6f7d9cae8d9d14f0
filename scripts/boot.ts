/**
 * Boots a guest in one machine in this process, without log, network or pair: the shortest way to see whether engine and
 * devices carry Linux, and how fast. Disk writes stay in memory.
 *
 *     node scripts/boot.ts --help
 *
 * DIR holds Image, initrd.cpio and, if there is to be a disk, root.ext4. It ends when the console shows the text of
 * --until; with --type that text is typed then, and it ends when the guest goes off.
 * Every run is the same, so the digests of two engines can be compared.
 *
 * --symbols says at the end in which functions of the kernel the instructions went, by looking at the pc every 9973
 * instructions. FILE is the guest's own /proc/kallsyms (`--append 'nokaslr …'`, so that it holds for the next boot too).
 */

import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { InvalidArgumentError } from 'commander'
import { formatDigest } from '../src/base/digest.ts'
import { sectorBytes } from '../src/base/units.ts'
import { countFrom, numberFrom } from '../src/cli/count-argument.ts'
import { createEngine, type ProfiledEngine } from '../src/engine/wasm-engine.ts'
import { collectGarbage } from '../src/host/collect-garbage.ts'
import { createMachine } from '../src/machine/machine.ts'
import { type Input, instructionCount, type Output } from '../src/machine/types.ts'
import { developerCommand } from '../test/support/developer-command.ts'
import { SymbolHistogram } from './symbol-histogram.ts'

function parseThreshold(text: string): 'off' | { readonly threshold: number } {
  if (text === 'off') return text
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('write a count or off')
  return { threshold: Number(text) }
}

interface Options {
  readonly dir: string
  readonly until: string
  readonly type?: string
  readonly max: number
  readonly seconds: number
  readonly append: string
  readonly ram: number
  readonly translation?: 'off' | { readonly threshold: number }
  readonly digestEvery: number
  readonly symbols?: string
  readonly profile?: boolean
}

const options = developerCommand('node scripts/boot.ts', 'Boots a guest in this process, without log, network or pair.')
  .requiredOption('--dir <DIR>', 'where Image, initrd.cpio and, if there is to be a disk, root.ext4 are')
  .option('--until <TEXT>', 'end when the console shows it', 'GUEST-READY')
  .option('--type <TEXT>', 'type this instead of ending, and end when the guest goes off')
  .option('--max <COUNT>', 'of instructions', countFrom(1), 4_000_000_000)
  .option('--seconds <N>', 'at most', numberFrom(0), 300)
  .option('--append <WORDS>', "the kernel's arguments", 'console=ttyS0 root=/dev/vda ip4=10.0.2.15/24 gw4=10.0.2.2')
  .option('--ram <MiB>', 'of the guest', countFrom(1), 256)
  .option('--translation <THRESHOLD>', 'runs until code is translated, or off', parseThreshold)
  .option('--digest-every <COUNT>', 'print the digest after so many instructions; 0: never', countFrom(0), 0)
  .option(
    '--symbols <FILE>',
    "say in which functions of the kernel the instructions went, by the guest's own /proc/kallsyms",
  )
  .option('--profile', "print the engine's own figures")
  .parse()
  .opts<Options>()

/** A disk image, with what was written kept beside it in memory. */
class OverlayDisk {
  readonly #file: number
  readonly #written = new Map<bigint, Uint8Array>()
  readonly sectors: bigint

  constructor(path: string) {
    this.#file = openSync(path, 'r')
    this.sectors = BigInt(Math.floor(fstatSync(this.#file).size / sectorBytes))
  }

  answer(request: Extract<Output, { kind: 'disk' }>): Input {
    const { sequence, operation, sector, lengthBytes, data } = request
    const done = { kind: 'diskCompletion', sequence, status: 'ok' } as const
    if (operation === 'read') {
      const bytes = new Uint8Array(lengthBytes)
      readSync(this.#file, bytes, 0, lengthBytes, Number(sector) * sectorBytes)
      for (let offset = 0; offset < lengthBytes; offset += sectorBytes) {
        const written = this.#written.get(sector + BigInt(offset / sectorBytes))
        if (written) bytes.set(written, offset)
      }
      return { ...done, data: bytes }
    }
    for (let offset = 0; offset < lengthBytes; offset += sectorBytes) {
      const content = operation === 'write' ? data!.slice(offset, offset + sectorBytes) : new Uint8Array(sectorBytes)
      if (operation !== 'discard') this.#written.set(sector + BigInt(offset / sectorBytes), content)
    }
    return done
  }

  close(): void {
    closeSync(this.#file)
  }
}

const histogram = options.symbols ? new SymbolHistogram(options.symbols) : undefined
/** A prime, so that no loop keeps in step with it. */
const stepInstructions = histogram ? 9973n : 10_000_000n

const dir = options.dir
const rootPath = join(dir, 'root.ext4')
const disk = existsSync(rootPath) ? new OverlayDisk(rootPath) : undefined
let engine: ProfiledEngine | undefined
const { translation } = options
const machine = createMachine(
  {
    ramBytes: options.ram * 1024 * 1024,
    disks: disk ? [{ sectors: disk.sectors, readOnly: false, serial: 'root' }] : [],
    nic: { mac: Uint8Array.of(0x52, 0x54, 0, 0xf7, 0, 1) },
  },
  {
    kind: 'linux',
    kernel: readFileSync(join(dir, 'Image')),
    initrd: readFileSync(join(dir, 'initrd.cpio')),
    bootArguments: options.append,
  },
  ({ ramBytes, bus }) => {
    const stopwatch = options.profile ? { nowMs: () => performance.now() } : {}
    const whenTranslated = translation === 'off' ? translation : { ...translation, collectGarbage }
    engine = createEngine({ ramBytes, bus, translation: whenTranslated, ...stopwatch })
    return engine
  },
)

const seed = new Uint8Array(64).map((_, index) => (index * 37 + 11) & 0xff)
machine.apply({ kind: 'boot', rngSeed: seed, wallClockNs: 1_790_000_000_000_000_000n })
/** One instruction takes 4 ns of guest time. */
const rate = (1n << 32n) / 25n
machine.apply({ kind: 'clock', ticks: 0n, ratePer2p32: rate, capTicks: 1n << 60n })

const counts: Record<string, number> = {}
const started = Date.now()
const startedCpu = process.cpuUsage()
const limit = BigInt(options.max)
const pending: Input[] = []
let transcript = ''
let awaited = options.until

function onOutput(output: Output): void {
  counts[output.kind] = (counts[output.kind] ?? 0) + 1
  switch (output.kind) {
    case 'console': {
      const text = new TextDecoder().decode(output.bytes)
      process.stdout.write(text)
      transcript = (transcript + text).slice(-4096)
      return
    }
    case 'disk':
      pending.push(disk!.answer(output))
      return
    case 'entropyRequest':
      pending.push({
        kind: 'entropy',
        bytes: seed.slice(0, 1).length ? new Uint8Array(output.lengthBytes).fill(7) : seed,
      })
      return
    default:
      return
  }
}

const deadlineMs = started + options.seconds * 1000
let reason = 'count'
const digestEvery = BigInt(options.digestEvery)
let nextDigest = digestEvery
while (machine.count < limit && Date.now() < deadlineMs) {
  if (digestEvery && machine.count >= nextDigest) {
    console.error(`${machine.count} ${formatDigest(machine.digest())}`)
    nextDigest = machine.count + digestEvery
  }
  const next = machine.count + stepInstructions
  const stop = machine.run(instructionCount(next < limit ? next : limit))
  reason = stop.kind
  if (stop.kind === 'count') histogram?.sample(engine!)
  for (const output of machine.takeOutputs()) onOutput(output)
  for (const input of pending.splice(0)) machine.apply(input)
  for (const output of machine.takeOutputs()) onOutput(output)
  if (stop.kind === 'off' || stop.kind === 'exited') break
  if (stop.kind === 'waiting' && pending.length === 0) {
    if (stop.deadline === undefined) break
    // A wait jumps to its deadline: nothing here comes from outside.
    const isAhead = stop.deadline > machine.ticks
    const ticks = isAhead ? stop.deadline : machine.ticks
    machine.apply({ kind: 'clock', ticks, ratePer2p32: rate, capTicks: 1n << 60n })
    for (const output of machine.takeOutputs()) onOutput(output)
  }
  if (awaited && transcript.includes(awaited)) {
    if (!options.type) break
    machine.apply({ kind: 'consoleInput', bytes: new TextEncoder().encode(`${options.type}\n`) })
    transcript = ''
    awaited = ''
  }
}
const seconds = (Date.now() - started) / 1000
const cpu = process.cpuUsage(startedCpu)
const million = Number(machine.count) / 1e6
console.error(
  `\n${reason} at ${machine.count} instructions, ${seconds.toFixed(1)} s (${((cpu.user + cpu.system) / 1e6).toFixed(1)} s CPU), ${(million / seconds).toFixed(0)} MIPS, ` +
    `guest time ${(Number(machine.ticks) / 1e7).toFixed(2)} s, outputs ${JSON.stringify(counts)}`,
)
histogram?.print(Number(machine.count))
if (options.profile) console.error(engine!.profile)
disk?.close()
