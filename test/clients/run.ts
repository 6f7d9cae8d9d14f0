/**
 * Kills under other people's clients as a command:
 *
 *   node test/clients/run.ts --kills N [--seed S]
 *
 * Kill i has the seed S + i, which decides when it falls. Exit code 0 only if no client of any kill saw anything.
 */

import { parseArgs } from 'node:util'
import { ClientVm, missingTool } from './kill-trial.ts'

const { values } = parseArgs({ options: { kills: { type: 'string' }, seed: { type: 'string', default: '1' } } })
const kills = Number(values.kills)
const firstSeed = Number(values.seed)
const missing = missingTool()
if (!Number.isSafeInteger(kills) || kills < 1 || !Number.isSafeInteger(firstSeed) || missing !== undefined) {
  console.error(missing ?? 'usage: node test/clients/run.ts --kills N [--seed S]')
  process.exit(2)
}
let bad = 0
const vm = await ClientVm.create((line) => console.error(line))
try {
  for (let seed = firstSeed; seed < firstSeed + kills; seed++) {
    const { faults, gapsMs } = await vm.killUnderClients(seed)
    if (faults.length > 0) bad++
    console.log(
      `seed ${seed}: ${faults.length === 0 ? 'ok' : faults.join('; ')}   longest gaps ${JSON.stringify(gapsMs)}`,
    )
  }
} finally {
  if (bad > 0) console.error(`traces are kept in ${vm.statePath}`)
  await vm.remove(bad > 0)
}
console.log(`${kills} kills, ${bad} seen by a client`)
process.exitCode = bad === 0 ? 0 : 1
