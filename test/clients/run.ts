/**
 * Kills under other people's clients as a command: `node test/clients/run.ts --help`.
 *
 * Kill i has the seed S + i, which decides when it falls. Exit code 0 only if no client of any kill saw anything.
 */

import { ExitCode, WorldError } from '../../src/base/assert.ts'
import { countFrom } from '../../src/cli/count-argument.ts'
import { developerCommand, runDeveloperCommand } from '../support/developer-command.ts'
import { ClientVm, missingTool } from './kill-trial.ts'

const command = developerCommand(
  'node test/clients/run.ts',
  'Kills the primary under redis-benchmark, redis-cli, curl and ssh: each says what it saw.',
)
  .requiredOption('--kills <N>', 'how many', countFrom(1))
  .option('--seed <S>', 'of the first', countFrom(0), 1)

await runDeveloperCommand<{ kills: number; seed: number }>(command, async ({ kills, seed: firstSeed }) => {
  const missing = missingTool()
  if (missing !== undefined) throw new WorldError('no-client', missing, ExitCode.usage)
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
})
