/**
 * A long run of the differential tests: `node test/isa/campaign.ts --seconds N [--seed S] [--programs P] [--privileged]`.
 * Program after program, each from its own seed, each driven in another way, until the time is over or the first
 * difference. Without `--privileged`: instructions in user mode's sense, against qemu-riscv64; with it: traps, translation
 * and CSRs, against qemu-system-riscv64.
 */

import { parseArgs } from 'node:util'
import { Prng } from '../../src/base/prng.ts'
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

function main(): void {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      seed: { type: 'string', default: '1' },
      programs: { type: 'string', default: '1000000000' },
      privileged: { type: 'boolean', default: false },
    },
  })
  const deadlineMs = performance.now() + Number(values.seconds) * 1000
  const compareOne = values.privileged ? privilegedComparison() : plainComparison()
  let compared = 0
  let seed = Number(values.seed)
  const last = seed + Number(values.programs)
  for (; performance.now() < deadlineMs && seed < last; seed++) {
    const result = compareOne(seed)
    if (typeof result === 'string') {
      console.log(`seed ${seed}: ${result}`)
      const flag = values.privileged ? ' --privileged' : ''
      console.log(`again: node test/isa/campaign.ts --seed ${seed} --programs 1${flag}`)
      process.exitCode = 1
      return
    }
    compared += result
  }
  const what = values.privileged ? 'probes' : 'random instructions'
  console.log(`${compared} ${what} in ${seed - Number(values.seed)} programs: no difference`)
}

if (import.meta.main) main()
