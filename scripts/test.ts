/**
 * Runs every test and closes with one line, `N passed, N failed`: `node scripts/test.ts --help`.
 *
 * Unit tests (`*.test.ts` below src/, test/, scripts/ and bench/) run side by side. System tests (`*.system.ts`) start real processes and
 * load both cores, so they run one file at a time, after the checks and the unit tests.
 */

import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { fileURLToPath } from 'node:url'
import { Option } from 'commander'
import { developerCommand, runDeveloperCommand } from '../test/support/developer-command.ts'
import { endWithThisProcess } from '../test/support/reaper.ts'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

const find = (pattern: string, words: readonly string[]): string[] =>
  globSync(pattern, { cwd: root })
    .filter((path) => words.length === 0 || words.some((word) => path.includes(word)))
    .sort()
    .map((path) => join(root, path))

let passed = 0
let failed = 0

async function runFiles(files: readonly string[], concurrency: number): Promise<void> {
  if (files.length === 0) return
  const stream = run({ files: [...files], concurrency, timeout: 20 * 60_000 })
  stream.on('test:pass', (event) => {
    if (event.details.type !== 'suite' && event.skip === undefined && event.todo === undefined) passed++
  })
  stream.on('test:fail', (event) => {
    if (event.details.type !== 'suite') failed++
  })
  for await (const chunk of stream.compose(spec)) process.stdout.write(String(chunk))
}

const command = developerCommand('node scripts/test.ts', 'Runs every test.')
  .argument('[WORDS...]', 'only files whose path has one of these in it')
  .addOption(new Option('--only <KIND>', 'without the other kind, and without the checks').choices(['unit', 'system']))

await runDeveloperCommand<{ only?: 'unit' | 'system' }>(command, async ({ only }, words) => {
  // What tests leave behind, or this process when it is ended, would disturb whatever runs next.
  endWithThisProcess()
  if (only === undefined && words.length === 0) {
    const check = spawnSync('npm', ['run', '--silent', 'check'], { cwd: root, stdio: 'inherit' })
    if (check.status === 0) passed++
    else failed++
  }
  if (only !== 'system') await runFiles(find('{src,test,scripts,bench}/**/*.test.ts', words), 2)
  if (only !== 'unit') await runFiles(find('test/**/*.system.ts', words), 1)

  console.log(`${passed} passed, ${failed} failed`)
  process.exitCode = failed === 0 && passed > 0 ? 0 : 1
})
