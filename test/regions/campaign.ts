/**
 * The long form of regions.system.ts: `node test/regions/campaign.ts --help`, with V8's own tiering and with its
 * optimizing compiler alone, whose code is larger. Prints what was built and the most memory that the engine took; fails
 * beyond 200 MiB.
 */

import { MiB } from '../../src/base/units.ts'
import { countFrom } from '../../src/cli/count-argument.ts'
import { developerCommand, runDeveloperCommand } from '../support/developer-command.ts'
import { measureEngineMemory } from './engine-memory.ts'

const command = developerCommand(
  'node test/regions/campaign.ts',
  "The most memory that the engine takes while it builds and discards regions: with V8's own tiering, and with its optimizing compiler alone.",
).option('--regions <N>', 'how many it builds', countFrom(1), 200_000)

await runDeveloperCommand<{ regions: number }>(command, (options) => {
  for (const flags of [[], ['--no-liftoff']]) {
    const startedMs = performance.now()
    const figures = measureEngineMemory(options.regions, flags)
    const { regions, modules, invalidated, evicted } = figures
    const engineMiB = Math.round(figures.engineBytes / MiB)
    console.log(
      `${flags.join(' ') || 'own tiering'}: ${regions} regions in ${modules} modules; ${invalidated} invalidated, ` +
        `${evicted} evicted; at most ${engineMiB} MiB beside guest RAM and the ${Math.round(figures.baselineBytes / MiB)} MiB ` +
        `of bare Node; ${((performance.now() - startedMs) / 1000).toFixed(0)} s`,
    )
    if (engineMiB > 200) process.exitCode = 1
  }
})
