/**
 * The frame around every benchmark: it runs with a folder of its own for all it writes, and ends with its figures for
 * people and, if asked for, in docs/BENCHMARKS.md and as one object on the last line.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { endWithThisProcess } from '../../test/support/reaper.ts'
import { writeIntoDocument } from './document.ts'
import { describeCommit, describeHost, quietLoad } from './host.ts'

export interface Conclusion {
  /** Of the npm script, as `bench:engine`. */
  readonly name: string
  /** Markdown that a terminal shows well, too. */
  readonly text: string
  /** What the last line holds, besides where and when it was measured. */
  readonly figures: object
  /** When it began. */
  readonly load: number
}

/** What every table needs said of it. @param details how much was measured: `3 rounds of 50 units` */
export function conditions(load: number, details: string): string {
  const quiet = load < quietLoad ? '' : ' (NOT quiet)'
  return `Commit ${describeCommit()}; ${describeHost()}; ${details}; load at the start ${load.toFixed(1)}${quiet}`
}

export function conclude(
  { name, text, figures, load }: Conclusion,
  options: { readonly json: boolean; readonly write: boolean },
): void {
  if (options.write) writeIntoDocument(name, text)
  console.log(text)
  if (!options.json) return
  const where = { load_at_start: load, host: describeHost(), commit: describeCommit() }
  console.log(JSON.stringify({ ...figures, ...where }))
}

/** Runs a benchmark in a folder that is gone afterwards; its VMs have their state there too, and end with it. */
export async function inBenchFolder(main: (folder: string) => Promise<void>): Promise<void> {
  endWithThisProcess()
  const folder = mkdtempSync(join(tmpdir(), 'understudy-bench-'))
  process.env.XDG_STATE_HOME = join(folder, 'state')
  try {
    await main(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
