/**
 * Everything below the guest that may differ between two hosts, as child processes: another Node, another of V8's
 * compilers, another processor. Each does the work of digest-work.ts, and their digests are compared here.
 */

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { otherNode, otherNodeVersion } from '../support/other-node.ts'
import type { DigestJob, DigestRow } from './digest-work.ts'

export interface EngineVariant {
  readonly name: string
  readonly node: 'pinned' | 'other'
  /** Of V8. */
  readonly flags: readonly string[]
}

/** What an x64 processor of 2008 lacks: V8 then does without, and fused multiply-add is left to soft float. */
const oldProcessor = ['avx', 'avx2', 'fma3', 'bmi1', 'bmi2', 'lzcnt', 'popcnt'].map((name) => `--no-enable-${name}`)

const pinned = `Node ${process.versions.node}`
const other = `Node ${otherNodeVersion}`

/** The first is what others are compared with. */
export const engineVariants: readonly EngineVariant[] = [
  { name: `${pinned}, V8's own tiering`, node: 'pinned', flags: [] },
  { name: `${pinned}, optimizing compiler only`, node: 'pinned', flags: ['--no-liftoff'] },
  { name: `${pinned}, baseline compiler only`, node: 'pinned', flags: ['--liftoff-only'] },
  { name: `${pinned}, an old processor`, node: 'pinned', flags: oldProcessor },
  { name: `${other}, V8's own tiering`, node: 'other', flags: [] },
  { name: `${other}, optimizing compiler only`, node: 'other', flags: ['--no-liftoff'] },
  { name: `${other}, baseline compiler only`, node: 'other', flags: ['--liftoff-only'] },
]

const workPath = fileURLToPath(new URL('digest-work.ts', import.meta.url))

/** Does a job in a process of its own. */
export function runVariant({ name, node, flags }: EngineVariant, job: DigestJob): Promise<DigestRow[]> {
  const program = node === 'other' ? otherNode() : process.execPath
  const child = spawn(program, [...flags, workPath, JSON.stringify(job)], { stdio: ['ignore', 'pipe', 'pipe'] })
  let [output, errors] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (code === 0)
        resolve(
          output
            .split('\n')
            .filter(Boolean)
            .map((line) => JSON.parse(line) as DigestRow),
        )
      else reject(new Error(`${name} ended with ${signal ?? `code ${code}`}: ${errors.slice(-2000)}`))
    })
  })
}

export interface VariantRows {
  readonly variant: string
  readonly rows: readonly DigestRow[]
}

/**
 * Does the jobs, so many at a time, and gives their rows in the order of the jobs.
 * @param mayBegin asked before each job; the others are left undone
 */
export async function runVariants<Job extends { readonly variant: EngineVariant; readonly job: DigestJob }>(
  jobs: readonly Job[],
  atOnce: number,
  onRows: (rows: VariantRows, job: Job) => void = () => {},
  mayBegin: () => boolean = () => true,
): Promise<VariantRows[]> {
  const results: VariantRows[] = []
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < jobs.length && mayBegin()) {
      const index = next++
      const { variant, job } = jobs[index]!
      const result = { variant: variant.name, rows: await runVariant(variant, job) }
      results[index] = result
      onRows(result, jobs[index]!)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return results
}

export interface DigestComparison {
  /** In words; empty if all is well. */
  readonly differences: readonly string[]
  /** How many digests had another one to be compared with. */
  readonly compared: number
}

/** Compares all rows of one subject, position by position, with the first that has the position. */
export function compareRows(results: readonly VariantRows[]): DigestComparison {
  const seen = new Map<string, { readonly digest: string; readonly by: string }>()
  const differences: string[] = []
  let compared = 0
  for (const { variant, rows } of results) {
    for (const { subject, drive, digests, divergence } of rows) {
      const by = `${variant}, ${drive}`
      if (divergence !== undefined) differences.push(`${subject}: ${by}: ${divergence}`)
      for (const [position, digest] of Object.entries(digests)) {
        const key = `${subject}, ${position}`
        const first = seen.get(key)
        if (!first) seen.set(key, { digest, by })
        else if (first.digest === digest) compared++
        else differences.push(`${key}: ${digest} with ${by}; ${first.digest} with ${first.by}`)
      }
    }
  }
  return { differences, compared }
}
