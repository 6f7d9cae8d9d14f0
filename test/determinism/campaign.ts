/**
 * A long run of the property test: `node test/determinism/campaign.ts --help`.
 *
 * Every round has a seed, and everything in it follows from that: a world, a recording made in it, and ways to replay
 * the recording. Most rounds record the bare guest; every twentieth boots Debian (not with --bare). It ends with the
 * time, or with the first divergence, and then prints the command that shows it again.
 */

import { Prng } from '../../src/base/prng.ts'
import { countFrom, numberFrom } from '../../src/cli/count-argument.ts'
import { describeDivergence } from '../../src/log/divergence.ts'
import type { LogEntry } from '../../src/log/entry.ts'
import type { Machine } from '../../src/machine/types.ts'
import { developerCommand, runDeveloperCommand } from '../support/developer-command.ts'
import { type RecordedBoot, recordBoot, windowNames } from '../support/recorded-boot.ts'
import { newBareMachine, recordBareGuest } from './bare-recording.ts'
import { entriesOf, type ReplayDrive, randomSlices, replay } from './replay.ts'

const bootEvery = 20

/** Slices of one length, down to one instruction, or random ones; moved and looked at, or not. */
function randomDrive(prng: Prng, newMachine: () => Machine, instructions: number, shortest: bigint): ReplayDrive {
  const fixed = shortest * BigInt(1 + prng.below(20))
  const nextSlice = prng.chance(0.5) ? () => fixed : randomSlices(prng, instructions / 10)
  const moveEvery = BigInt(Math.ceil(instructions / (1 + prng.below(10))))
  const lookChance = prng.pick([0, 0.001, 0.1])
  const beforeSlice = (machine: Machine) => {
    if (prng.chance(lookChance)) machine.digest()
  }
  const isMoved = prng.chance(0.6)
  return isMoved ? { nextSlice, beforeSlice, moveEvery, newMachine } : { nextSlice, beforeSlice }
}

/** What the campaign has done so far, and what it found. */
class Tally {
  replays = 0
  instructions = 0n
  difference: string | undefined

  add(entries: readonly LogEntry[], machine: Machine, drive: ReplayDrive): void {
    if (this.difference !== undefined) return
    const first = machine.count
    const result = replay(entries, machine, drive)
    this.replays++
    this.instructions += result.machine.count - first
    if (result.divergence) this.difference = describeDivergence(result.divergence)
  }
}

function bareRound(prng: Prng, tally: Tally): void {
  const longestSlice = BigInt(1 + prng.below(20_000))
  const checkpointInstructions = BigInt(100 + prng.below(100_000))
  const recording = recordBareGuest(prng.below(2 ** 31), { longestSlice, checkpointInstructions })
  const entries = entriesOf(recording.batches)
  for (let replays = 0; replays < 3; replays++) {
    tally.add(entries, newBareMachine(), randomDrive(prng, newBareMachine, 1_000_000, 1n))
  }
}

async function bootRound(prng: Prng, tally: Tally): Promise<void> {
  const boot: RecordedBoot = await recordBoot(prng.below(2 ** 31))
  const entries = entriesOf(boot.batches)
  tally.add(entries, boot.newMachine(), randomDrive(prng, boot.newMachine, 2_000_000_000, 500n))
  const { start, end, snapshot } = boot.windows[prng.pick(windowNames)]
  const machine = boot.newMachine()
  machine.restore(snapshot)
  const drive = randomDrive(prng, boot.newMachine, 10_000_000, 1n)
  tally.add(entries.slice(Number(start), Number(end)), machine, drive)
}

interface Options {
  readonly seconds: number
  readonly seed: number
  readonly rounds: number
  readonly bare?: boolean
}

async function main({ seconds, seed: first, rounds, bare }: Options): Promise<void> {
  const deadlineMs = performance.now() + seconds * 1000
  const tally = new Tally()
  for (let seed = first; seed < first + rounds && performance.now() < deadlineMs; seed++) {
    const prng = new Prng(seed)
    if (seed % bootEvery === 0 && !bare) await bootRound(prng, tally)
    else bareRound(prng, tally)
    if (tally.difference !== undefined) {
      console.log(`seed ${seed}: ${tally.difference}`)
      console.log(`again: node test/determinism/campaign.ts --rounds 1 --seed ${seed}`)
      process.exitCode = 1
      return
    }
  }
  console.log(`${tally.replays} replays, ${tally.instructions / 1_000_000n} million instructions: no divergence`)
}

const command = developerCommand(
  'node test/determinism/campaign.ts',
  'Worlds, recordings made in them, and ways to replay the recordings, until the first divergence.',
)
  .option('--seconds <N>', 'how long', numberFrom(0), 60)
  .option('--seed <S>', 'of the first round', countFrom(0), 1)
  .option('--rounds <R>', 'at most so many', countFrom(1), 1_000_000_000)
  .option('--bare', 'only the bare guest: no round boots Debian')
await runDeveloperCommand(command, main)
