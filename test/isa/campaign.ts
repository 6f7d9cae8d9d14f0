/**
 * A long run of the differential test: `node test/isa/campaign.ts --seconds N [--seed S] [--programs P]`. Program after
 * program, each from its own seed, each driven in another way, until the time is over or the first difference.
 */

import { parseArgs } from 'node:util'
import { Prng } from '../../src/base/prng.ts'
import { compare } from './comparison.ts'
import { writeProgram } from './program.ts'
import { type EngineDrive, newEngine } from './runners.ts'

const blocksPerProgram = 1000

/** One slice, or short random ones; M, S or U mode. Chosen by the seed. */
export function driveFor(seed: number): EngineDrive {
  const prng = new Prng(BigInt(seed) ^ 0x5eedn)
  const privilege = prng.pick([3, 3, 1, 0] as const)
  if (seed % 3 !== 0) return { privilege }
  const longest = prng.pick([3, 100, 10_000])
  return { privilege, nextSlice: () => BigInt(1 + prng.below(longest)) }
}

export function describeDrive(drive: EngineDrive): string {
  return `privilege ${drive.privilege}, ${drive.nextSlice ? 'random slices' : 'one slice'}`
}

function main(): void {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      seed: { type: 'string', default: '1' },
      programs: { type: 'string', default: '1000000000' },
    },
  })
  const deadlineMs = performance.now() + Number(values.seconds) * 1000
  const engine = newEngine()
  let instructions = 0
  let seed = Number(values.seed)
  const last = seed + Number(values.programs)
  for (; performance.now() < deadlineMs && seed < last; seed++) {
    const drive = driveFor(seed)
    const result = compare(engine, writeProgram(new Prng(seed), blocksPerProgram), drive)
    if (result.kind === 'difference') {
      console.log(`seed ${seed} (${describeDrive(drive)}): ${result.report}`)
      console.log(`again: node test/isa/campaign.ts --seed ${seed} --programs 1`)
      process.exitCode = 1
      return
    }
    instructions += result.randomInstructions
  }
  console.log(`${instructions} random instructions in ${seed - Number(values.seed)} programs: no difference`)
}

if (import.meta.main) main()
