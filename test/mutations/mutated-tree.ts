/**
 * A copy of the sources to break: `src/`, `test/` and what their tests read, in a temporary folder, with the installed
 * packages linked. Nothing in the repository changes, and a crash leaves nothing behind but that folder.
 */

import { spawn } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { endWithThisProcess } from '../support/reaper.ts'
import type { Mutation, Noticer } from './mutations.ts'

const root = join(import.meta.dirname, '../..')
const copied = ['src', 'test', 'scripts', 'package.json', 'tsconfig.json']
/** For one test, and for all of them until their process has ended. A mutant may run in circles. */
const mutantLimits = { testMs: 30_000, processMs: 40_000 }
/** On a machine that may be busy. */
const unbrokenLimits = { testMs: 120_000, processMs: 480_000 }
/** Thousands of seeds, on a machine that may be busy. */
const simulationLimitMs = 600_000

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
    endWithThisProcess()
    for (const name of copied) cpSync(join(root, name), join(this.#folder, name), { recursive: true })
    symlinkSync(join(root, 'node_modules'), join(this.#folder, 'node_modules'))
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** Runs the test that must notice while the mutation is in place. */
  async runMutant({ name, file, from, to, noticedBy }: Mutation): Promise<TestRun> {
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
      return await this.run(noticedBy)
    } finally {
      writeFileSync(path, original)
    }
  }

  async run(noticer: Noticer): Promise<TestRun> {
    if ('seeds' in noticer) return await this.#simulate(noticer.seeds)
    const { verdicts, output } = await this.runTests(noticer.file, [noticer.test], mutantLimits)
    return { verdict: verdicts.get(noticer.test)!, output }
  }

  /** Runs these tests of a file, by their full names. */
  async runTests(
    file: string,
    tests: readonly string[],
    { testMs, processMs } = unbrokenLimits,
  ): Promise<{ readonly verdicts: ReadonlyMap<string, Verdict>; readonly output: string }> {
    const patterns = tests.map((test) => `--test-name-pattern=${test.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')}$`)
    const options = ['--test-reporter=tap', `--test-timeout=${testMs}`, ...patterns]
    const { stdout, stderr } = await this.#node(['--test', ...options, file], processMs)
    const lines = stdout.split('\n').map((line) => /^\s*(not ok|ok) \d+ - (.*)$/.exec(line))
    const verdicts = new Map(
      tests.map((test): [string, Verdict] => {
        const found = lines.filter((line) => line?.[2]?.replaceAll('\\', '') === test && !line[0].includes('# SKIP'))
        if (found.length === 0) return [test, 'notRun']
        return [test, found.some((line) => line?.[1] === 'not ok') ? 'failed' : 'passed']
      }),
    )
    return { verdicts, output: stdout + stderr }
  }

  async #simulate(seeds: number): Promise<TestRun> {
    const command = ['scripts/sim.ts', '--seeds', `${seeds}`, '--until-failure', '--json']
    const { stdout, stderr } = await this.#node(command, simulationLimitMs)
    const report = stdout.trim().split('\n').at(-1) ?? ''
    const output = `${stderr}${report.slice(0, 300)}`
    if (!report.startsWith('{')) return { verdict: 'notRun', output }
    const { first_failed: seed } = JSON.parse(report) as { readonly first_failed: number | null }
    return seed === null ? { verdict: 'passed', output } : { verdict: 'failed', output, seed }
  }

  async #node(
    options: readonly string[],
    timeout: number,
  ): Promise<{ readonly stdout: string; readonly stderr: string }> {
    const { NODE_TEST_CONTEXT: _, ...env } = process.env
    const child = spawn(process.execPath, options, {
      cwd: this.#folder,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout,
    })
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)])
    return { stdout, stderr }
  }
}
