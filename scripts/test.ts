/**
 * Runs every test and closes with one line, `N passed, N failed`.
 *
 *   node scripts/test.ts [--only unit|system] [PATTERN …]
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
import { parseArgs } from 'node:util'
import { endWithThisProcess } from '../test/support/reaper.ts'

// What tests leave behind, or this process when it is ended, would disturb whatever runs next.
endWithThisProcess()
const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const { values, positionals } = parseArgs({ options: { only: { type: 'string' } }, allowPositionals: true })

const selected = (path: string): boolean => positionals.length === 0 || positionals.some((part) => path.includes(part))
const find = (pattern: string): string[] =>
  globSync(pattern, { cwd: root })
    .filter(selected)
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

if (values.only === undefined && positionals.length === 0) {
  const check = spawnSync('npm', ['run', '--silent', 'check'], { cwd: root, stdio: 'inherit' })
  if (check.status === 0) passed++
  else failed++
}
if (values.only !== 'system') await runFiles(find('{src,test,scripts,bench}/**/*.test.ts'), 2)
if (values.only !== 'unit') await runFiles(find('test/**/*.system.ts'), 1)

console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 && passed > 0 ? 0 : 1
