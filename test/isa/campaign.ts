/**
 * A long run of the differential tests: `node test/isa/campaign.ts --help`.
 * Program after program, each from its own seed, each driven in another way, until the time is over or the first
 * difference. Without `--privileged`: instructions in user mode's sense, against qemu-riscv64; with it: traps, translation
 * and CSRs, against qemu-system-riscv64.
 */

import { Prng } from '../../src/base/prng.ts'
import { countFrom, numberFrom } from '../../src/cli/count-argument.ts'
import { developerCommand, runDeveloperCommand } from '../support/developer-command.ts'
import { compare } from './comparison.ts'
import { comparePrivileged, newPrivilegedEngine } from './privileged-comparison.ts'
import { writePrivilegedProgram } from './privileged-program.ts'
import { writeProgram } from './program.ts'
import { type EngineDrive, newEngine } from './runners.ts'

const blocksPerProgram = 1000
const probesPerProgram = 3000

/** One slice, or short random ones; M, S or U mode. Chosen by the seed. */
function driveFor(seed: number): EngineDrive {
  const prng = new Prng(BigInt(seed) ^ 0x5eedn)
  const privilege = prng.pick([3, 3, 1, 0] as const)
  if (seed % 3 !== 0) return { privilege }
  const longest = prng.pick([3, 100, 10_000])
  return { privilege, nextSlice: () => BigInt(1 + prng.below(longest)) }
}

function describeDrive(drive: EngineDrive): string {
  return `privilege ${drive.privilege}, ${drive.nextSlice ? 'random slices' : 'one slice'}`
}

/** How much was compared, or the report of a difference. */
type CompareOne = (seed: number) => number | string

function plainComparison(): CompareOne {
  const engine = newEngine()
  return (seed) => {
    const drive = driveFor(seed)
    const result = compare(engine, writeProgram(new Prng(seed), blocksPerProgram), drive)
    return result.kind === 'agreement' ? result.randomInstructions : `(${describeDrive(drive)}) ${result.report}`
  }
}

function privilegedComparison(): CompareOne {
  const engine = newPrivilegedEngine()
  return (seed) => {
    const { nextSlice } = driveFor(seed)
    const lines = comparePrivileged(engine, writePrivilegedProgram(new Prng(seed), probesPerProgram), nextSlice)
    return lines.length === 0 ? probesPerProgram : lines.join('\n')
  }
}

interface Options {
  readonly seconds: number
  readonly seed: number
  readonly programs: number
  readonly privileged?: boolean
}

function main({ seconds, seed: first, programs, privileged }: Options): void {
  const deadlineMs = performance.now() + seconds * 1000
  const compareOne = privileged ? privilegedComparison() : plainComparison()
  let compared = 0
  let seed = first
  const last = seed + programs
  for (; performance.now() < deadlineMs && seed < last; seed++) {
    const result = compareOne(seed)
    if (typeof result === 'string') {
      console.log(`seed ${seed}: ${result}`)
      const flag = privileged ? ' --privileged' : ''
      console.log(`again: node test/isa/campaign.ts --seed ${seed} --programs 1${flag}`)
      process.exitCode = 1
      return
    }
    compared += result
  }
  const what = privileged ? 'probes' : 'random instructions'
  console.log(`${compared} ${what} in ${seed - first} programs: no difference`)
}

if (import.meta.main) {
  const command = developerCommand(
    'node test/isa/campaign.ts',
    'Random programs against QEMU, until the first difference.',
  )
    .option('--seconds <N>', 'how long', numberFrom(0), 60)
    .option('--seed <S>', 'of the first program', countFrom(0), 1)
    .option('--programs <P>', 'at most so many', countFrom(1), 1_000_000_000)
    .option(
      '--privileged',
      'traps, translation and CSRs, against qemu-system-riscv64; otherwise instructions, against qemu-riscv64',
    )
  await runDeveloperCommand(command, main)
}
