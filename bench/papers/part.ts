/** What `npm run bench:papers` is made of: each part measures something that one of the papers has a table of, and shows ours beside theirs. */

import type { BenchVm, BenchVms } from '../support/bench-vm.ts'
import type { Samples } from './samples.ts'

/** What a part measures with. */
export interface Session {
  readonly isQuick: boolean
  /** For its files; gone at the end. */
  readonly folder: string
  readonly samples: Samples
  /** A protected and an unprotected VM with the benchmarks' guest. Every part that asks gets the same two. */
  vms(): Promise<BenchVms>
  /** Another protected one, whose backup reads the disk itself. */
  readingVm(): Promise<BenchVm>
  /** To standard error, as things go on. */
  say(line: string): void
}

export interface Report {
  /** Markdown, from the third level of headings on. */
  readonly text: string
  /** What `--json` says under the part's name. Times and rates have their unit in the name. */
  readonly figures: object
}

export interface Part {
  readonly name: string
  readonly title: string
  /** Measures everything once more and adds to the samples, whose names begin with the part's. */
  measure(session: Session, round: number): Promise<void>
  /** From the samples of all rounds; undefined when there are none. */
  report(samples: Samples): Report | undefined
}
