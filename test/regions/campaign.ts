/**
 * The long form of regions.system.ts: `node test/regions/campaign.ts [--regions 200000]`. Prints what was built and the
 * most memory the process had; fails beyond 200 MiB over guest RAM.
 */

import { parseArgs } from 'node:util'
import { MiB } from '../../src/base/units.ts'
import { defaultTranslation } from '../../src/engine/regions/translator.ts'
import { churn } from './churn.ts'

const { values } = parseArgs({ options: { regions: { type: 'string', default: '200000' } } })
const startedMs = performance.now()
const { regions, modules, invalidated, evicted, peakBytes } = churn(
  Number(values.regions),
  defaultTranslation.cacheBytes,
)
const peakMiB = Math.round(peakBytes / MiB)
console.log(
  `${regions} regions in ${modules} modules; ${invalidated} invalidated, ${evicted} evicted; ` +
    `at most ${peakMiB} MiB beyond guest RAM; ${((performance.now() - startedMs) / 1000).toFixed(0)} s`,
)
if (peakMiB > 200) process.exitCode = 1
