/** Places in docs/BENCHMARKS.md that a benchmark fills in by itself, between `<!-- NAME begin -->` and `<!-- NAME end -->`. */

import { readFileSync, writeFileSync } from 'node:fs'

const documentPath = new URL('../../docs/BENCHMARKS.md', import.meta.url)

/** @param name of the npm script, as `bench:engine` */
export function writeIntoDocument(name: string, text: string): void {
  const [begin, end] = [`<!-- ${name} begin -->`, `<!-- ${name} end -->`]
  const document = readFileSync(documentPath, 'utf8')
  const [from, to] = [document.indexOf(begin), document.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`docs/BENCHMARKS.md lacks the lines "${begin}" and "${end}"`)
  writeFileSync(documentPath, `${document.slice(0, from + begin.length)}\n\n${text.trimEnd()}\n\n${document.slice(to)}`)
}
