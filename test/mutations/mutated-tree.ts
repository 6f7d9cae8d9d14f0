/**
 * A copy of the sources to break: `src/`, `test/` and what their tests read, in a temporary folder, with the installed
 * packages linked. Nothing in the repository changes, and a crash leaves nothing behind but that folder.
 */

import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Mutation, Noticer } from './mutations.ts'

const root = join(import.meta.dirname, '../..')
const copied = ['src', 'test', 'scripts', 'package.json', 'tsconfig.json']
/** A mutant may run in circles. */
const testLimitMs = 60_000

export type Verdict =
  /** The named test ran and failed. */
  | 'failed'
  | 'passed'
  /** Its file ended without running it, or it has another name now. */
  | 'notRun'

export interface TestRun {
  readonly verdict: Verdict
  /** What the test runner printed, for the report of a surprise. */
  readonly output: string
  /** The simulator's first seed that failed. */
  readonly seed?: number
}

export class MutatedTree implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'understudy-mutation-'))

  constructor() {
    for (const name of copied) cpSync(join(root, name), join(this.#folder, name), { recursive: true })
    symlinkSync(join(root, 'node_modules'), join(this.#folder, 'node_modules'))
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** Runs `work` while the mutation is in place. */
  during<T>({ name, file, from, to }: Mutation, work: () => T): T {
    const path = join(this.#folder, file)
    const original = readFileSync(path, 'utf8')
    const places = original.split(from).length - 1
    if (places !== 1) {
      throw new Error(`mutation "${name}": its text occurs ${places} times in ${file}; it must occur exactly once`)
    }
    writeFileSync(
      path,
      original.replace(from, () => to),
    )
    try {
      return work()
    } finally {
      writeFileSync(path, original)
    }
  }

  run(noticer: Noticer): TestRun {
    return 'seeds' in noticer ? this.#simulate(noticer.seeds) : this.#test(noticer)
  }

  #simulate(seeds: number): TestRun {
    const { stdout, stderr } = this.#node(['scripts/sim.ts', '--seeds', `${seeds}`, '--until-failure', '--json'])
    const report = stdout.trim().split('\n').at(-1) ?? ''
    const output = `${stderr}${report.slice(0, 300)}`
    if (!report.startsWith('{')) return { verdict: 'notRun', output }
    const { first_failed: seed } = JSON.parse(report) as { readonly first_failed: number | null }
    return seed === null ? { verdict: 'passed', output } : { verdict: 'failed', output, seed }
  }

  /** Runs one test of a file, by its name. */
  #test({ file, test }: Extract<Noticer, { file: string }>): TestRun {
    const pattern = `${test.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')}$`
    const options = ['--test-reporter=tap', `--test-timeout=${testLimitMs}`, `--test-name-pattern=${pattern}`]
    const { stdout, stderr } = this.#node(['--test', ...options, file])
    const lines = stdout.split('\n').map((line) => /^\s*(not ok|ok) \d+ - (.*)$/.exec(line))
    const found = lines.filter((line) => line?.[2]?.replaceAll('\\', '') === test && !line[0].includes('# SKIP'))
    const verdict = found.length === 0 ? 'notRun' : found.some((line) => line?.[1] === 'not ok') ? 'failed' : 'passed'
    return { verdict, output: stdout + stderr }
  }

  #node(options: readonly string[]): { readonly stdout: string; readonly stderr: string } {
    const { NODE_TEST_CONTEXT: _, ...env } = process.env
    const timeout = 2 * testLimitMs
    return spawnSync(process.execPath, options, { cwd: this.#folder, env, encoding: 'utf8', timeout })
  }
}
