/**
 * Rows of the long property test, kept in a file: a run that was ended goes on where it was. Rows count only for the code
 * that made them: each is kept under a digest of all sources below the host.
 */

import { appendFileSync, existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { formatDigest, hash64 } from '../../src/base/digest.ts'
import type { DigestJob } from './digest-work.ts'
import type { EngineVariant, VariantRows } from './engine-variants.ts'

export interface VariantJob {
  readonly variant: EngineVariant
  readonly job: DigestJob
}

/** What decides the digests. */
const sourceFolders = ['base', 'riscv', 'engine', 'machine', 'log', 'hypervisor']

function digestOfSources(): string {
  const parts = sourceFolders.flatMap((name) => {
    const folder = fileURLToPath(new URL(`../../src/${name}/`, import.meta.url))
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
    return files.sort().map((file) => `${name}/${file}\n${readFileSync(folder + file, 'utf8')}`)
  })
  return formatDigest(hash64(Buffer.from(parts.join('\n'))))
}

export class KeptResults {
  readonly #path: string | undefined
  readonly #rows = new Map<string, VariantRows>()
  readonly #sources = digestOfSources()

  /** @param path of the file; undefined: nothing is kept */
  constructor(path: string | undefined) {
    this.#path = path
    if (path === undefined || !existsSync(path)) return
    for (const line of readFileSync(path, 'utf8').split('\n')) {
      if (line === '') continue
      const { key, ...rows } = JSON.parse(line) as VariantRows & { readonly key: string }
      this.#rows.set(key, rows)
    }
  }

  #keyOf({ variant, job }: VariantJob): string {
    return `${this.#sources} ${variant.name} ${JSON.stringify(job)}`
  }

  of(job: VariantJob): VariantRows | undefined {
    return this.#rows.get(this.#keyOf(job))
  }

  add(job: VariantJob, rows: VariantRows): void {
    const key = this.#keyOf(job)
    this.#rows.set(key, rows)
    if (this.#path !== undefined) appendFileSync(this.#path, `${JSON.stringify({ key, ...rows })}\n`)
  }
}
