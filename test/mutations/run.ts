/**
 * `npm run mutate [-- WORDS …]`: breaks the product in every way of mutations.ts (or those whose names have one of the
 * words), runs the test that must notice, and says which mutations survived. Exits with 1 if one did.
 */

import { developerCommand, runDeveloperCommand } from '../support/developer-command.ts'
import { MutatedTree, type TestRun } from './mutated-tree.ts'
import { describeNoticer, type Mutation, mutations } from './mutations.ts'

function survivalInWords(mutation: Mutation, { verdict, output }: TestRun): string {
  const what = verdict === 'passed' ? 'passed' : 'did not run'
  return `SURVIVED: ${mutation.name}\n  ${describeNoticer(mutation.noticedBy)} ${what}\n${output.replace(/^/gm, '    ')}`
}

async function main(words: readonly string[]): Promise<void> {
  const chosen = mutations.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)))
  using tree = new MutatedTree()
  let survived = 0
  for (const mutation of chosen) {
    const startedMs = performance.now()
    const run = await tree.runMutant(mutation)
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
    const by = run.seed === undefined ? '' : ` by seed ${run.seed}`
    if (run.verdict === 'failed') console.log(`noticed in ${seconds} s${by}: ${mutation.name}`)
    else {
      survived++
      console.log(survivalInWords(mutation, run))
    }
  }
  console.log(`${chosen.length - survived} of ${chosen.length} mutations noticed`)
  if (survived > 0 || chosen.length === 0) process.exitCode = 1
}

const command = developerCommand(
  'npm run mutate --',
  'Breaks the product in every way of test/mutations/, and runs the test or the seeds of the simulator that must notice.',
).argument('[WORDS...]', 'only those whose names have one of these in them')
await runDeveloperCommand(command, (_options, words) => main(words))
