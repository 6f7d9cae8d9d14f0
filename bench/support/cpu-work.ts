/**
 * Work for a guest that only computes, without a disk and without translating much: half of it in a bytecode machine with
 * arrays and strings (awk), half in a tight loop behind a pipe (sha256sum). Each is one process for the whole piece of work,
 * in memory.
 */

import type { BenchVm } from './bench-vm.ts'

/**
 * A function of the guest's shell: `work N` does N units between two lines. The lines are put together by printf, so that
 * the echo of this text is none of them.
 */
export const cpuWorkScript = [
  "work() { printf '@%sbegin\\n' @;",
  "r=$(awk -v n=$1 'BEGIN { for (u = 0; u < n; u++) for (i = 0; i < 4000; i++)",
  "{ x = (x * 31 + i) % 1000003; a[i % 997] += x; s = substr(s x, 1, 40); l += index(s, i % 97) } print x, a[5], l, s }'",
  '| md5sum; head -c $(($1 * 400000)) /dev/zero | sha256sum);',
  'printf \'@%send %s\\n\' @ "$(echo $r)"; }',
].join(' ')

const warmUpUnits = 20
const steadyWithin = 0.03

/** Pieces of work. */
export interface WarmUp {
  readonly least: number
  readonly most: number
}

/** Until the hart runs translated code. What V8 compiles beside it, for the hart and for a backup's, goes on for half a minute. */
export const shortWarmUp: WarmUp = { least: 2, most: 6 }

/** @returns seconds of a unit, once two pieces of work in a row take about as long, or after so many of them */
export async function warmUpCpuWork(
  vm: BenchVm,
  say: (line: string) => void,
  { least, most }: WarmUp,
): Promise<number> {
  let last = Number.POSITIVE_INFINITY
  for (let piece = 1; piece <= most; piece++) {
    const { hart } = await vm.time(`work ${warmUpUnits}`)
    const isSteady = Math.abs(hart / last - 1) < steadyWithin
    last = hart
    say(`  ${vm.mode}, warming up: ${warmUpUnits} units in ${hart.toFixed(2)} s`)
    if (isSteady && piece >= least) break
  }
  return last / warmUpUnits
}
