/**
 * What a child of the variants' test does: it runs guests and prints digests. The work is the same in every child; which
 * Node, which of V8's compilers and what engine settings do it is what differs (engine-variants.ts).
 *
 *     node [V8 FLAGS] test/determinism/digest-work.ts JOB        JOB: a `DigestJob` as JSON
 *
 * It prints one `DigestRow` as JSON a line. It compares nothing: that is its parent's part.
 */

import { formatDigest, hash64 } from '../../src/base/digest.ts'
import { Prng } from '../../src/base/prng.ts'
import { MiB } from '../../src/base/units.ts'
import { driveProgram, drives, interpretedDrive } from '../../src/engine/test-support/driven-program.ts'
import { hotModes } from '../../src/engine/test-support/hot-program.ts'
import type { EngineOptions, ProfiledEngine } from '../../src/engine/wasm-engine.ts'
import { describeDivergence } from '../../src/log/divergence.ts'
import type { Machine } from '../../src/machine/types.ts'
import { recordedBoot } from '../support/recorded-boot.ts'
import { newBareMachine, recordBareGuest } from './bare-recording.ts'
import { entriesOf, randomSlices, replay } from './replay.ts'

export interface DigestJob {
  /** Random programs, with seeds from `firstSeed` on. */
  readonly programs?: { readonly firstSeed: number; readonly seeds: number }
  /** Worlds of the bare guest, recorded by this child and replayed by it. */
  readonly worlds?: { readonly firstSeed: number; readonly seeds: number }
  /** The recorded boot, from power-on to this count or to its end. */
  readonly boot?: { readonly drives: readonly BootDrive[]; readonly millions?: number }
  /** What is random in the way of driving: it may differ from child to child. */
  readonly driveSeed: number
}

export interface DigestRow {
  /** What was run: rows with one subject must have equal digests. */
  readonly subject: string
  /** How it was run. */
  readonly drive: string
  /** By position; runs that stop elsewhere share only some of them. */
  readonly digests: Readonly<Record<string, string>>
  /** What a replay said when it did not agree with its log. */
  readonly divergence?: string | undefined
  readonly regionsBuilt: number
}

type Translation = NonNullable<EngineOptions['translation']>

interface BootManner {
  readonly translation: (prng: Prng) => Translation
  readonly moves?: boolean
}

/** Ways to run the recorded boot. Thresholds count how often a place is reached; 1 translates all that runs twice. */
const bootManners = {
  interpreted: { translation: () => 'off' },
  default: { translation: () => ({}) },
  'threshold 1': { translation: () => ({ threshold: 1, batchRegions: 1 }) },
  'random threshold': {
    translation: (prng) => ({ threshold: 2 + prng.below(3000), batchRegions: 1 + prng.below(40) }),
  },
  'forgetting often': { translation: () => ({ threshold: 400, cacheBytes: 12 * MiB }) },
  moved: { translation: () => ({ threshold: 1000 }), moves: true },
} as const satisfies Readonly<Record<string, BootManner>>

export type BootDrive = keyof typeof bootManners
export const bootDrives = Object.keys(bootManners) as BootDrive[]

function print(row: DigestRow): void {
  process.stdout.write(`${JSON.stringify(row)}\n`)
}

/** Counts regions over all the engines of one run, of which only the last is alive. */
class RegionCount {
  #earlier = 0
  #engine: ProfiledEngine | undefined

  readonly onEngine = (engine: ProfiledEngine): void => {
    this.#earlier = this.built
    this.#engine = engine
  }

  get built(): number {
    return this.#earlier + (this.#engine?.profile.regions.built ?? 0)
  }
}

function runPrograms(firstSeed: number, seeds: number, driveSeed: number): void {
  for (const mode of hotModes) {
    for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
      const ways = { interpreted: interpretedDrive, ...drives(new Prng(driveSeed + seed)) }
      for (const [drive, way] of Object.entries(ways)) {
        const { states, regionsBuilt } = driveProgram(seed, mode, way)
        const digests = Object.fromEntries(states.map((state, index) => [`checkpoint ${index}`, state]))
        print({ subject: `program ${seed} in ${mode} mode`, drive, digests, regionsBuilt })
      }
    }
  }
}

const worldTranslations: Readonly<Record<string, Translation>> = {
  interpreted: 'off',
  'threshold 1': { threshold: 1, batchRegions: 1 },
  'threshold 3, every batch empties the cache': { threshold: 3, batchRegions: 1, cacheBytes: 1 },
}

function runWorlds(firstSeed: number, seeds: number, driveSeed: number): void {
  for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
    const subject = `world ${seed}`
    const { batches, digest } = recordBareGuest(seed)
    // The log of a recording, outputs and all, is part of what must be equal.
    const log = formatDigest(hash64(Buffer.concat(batches.map(({ bytes }) => bytes))))
    print({ subject, drive: 'recorded', digests: { log, end: formatDigest(digest) }, regionsBuilt: 0 })
    const prng = new Prng(driveSeed + seed)
    for (const [drive, translation] of Object.entries(worldTranslations)) {
      const regions = new RegionCount()
      const newMachine = (): Machine => newBareMachine(translation, regions.onEngine)
      const { divergence, machine } = replay(entriesOf(batches), newMachine(), {
        nextSlice: randomSlices(prng, 100_000),
        moveEvery: 200_000n,
        newMachine,
      })
      print({
        subject,
        drive,
        digests: { end: formatDigest(machine.digest()) },
        divergence: divergence && describeDivergence(divergence),
        regionsBuilt: regions.built,
      })
    }
  }
}

const markInstructions = 50_000_000n

async function runBoot(names: readonly BootDrive[], millions: number | undefined, driveSeed: number): Promise<void> {
  const boot = await recordedBoot()
  const all = entriesOf(boot.batches)
  const entries = millions === undefined ? all : all.filter(({ count }) => count <= BigInt(millions) * 1_000_000n)
  for (const name of names) {
    const prng = new Prng(driveSeed)
    const manner: BootManner = bootManners[name]
    const translation = manner.translation(prng)
    const regions = new RegionCount()
    const newMachine = (): Machine => boot.newMachine(translation, regions.onEngine)
    const digests: Record<string, string> = {}
    const slices = randomSlices(prng, 3_000_000)
    let running: Machine | undefined
    const result = replay(entries, newMachine(), {
      beforeSlice: (machine) => {
        running = machine
        if (machine.count > 0n && machine.count % markInstructions === 0n) {
          digests[`${machine.count}`] = formatDigest(machine.digest())
        }
      },
      // Ends at every mark.
      nextSlice: () => {
        const toMark = markInstructions - (running!.count % markInstructions)
        const slice = slices()
        return slice < toMark ? slice : toMark
      },
      ...(manner.moves ? { moveEvery: 230_000_000n, newMachine } : {}),
    })
    digests[`${entries.length} entries, ${result.outputs} outputs`] = formatDigest(result.machine.digest())
    const divergence = result.divergence && describeDivergence(result.divergence)
    print({ subject: 'boot', drive: name, digests, divergence, regionsBuilt: regions.built })
  }
}

async function main({ programs, worlds, boot, driveSeed }: DigestJob): Promise<void> {
  if (programs) runPrograms(programs.firstSeed, programs.seeds, driveSeed)
  if (worlds) runWorlds(worlds.firstSeed, worlds.seeds, driveSeed)
  if (boot) await runBoot(boot.drives, boot.millions, driveSeed)
}

if (import.meta.main) await main(JSON.parse(process.argv[2]!) as DigestJob)
