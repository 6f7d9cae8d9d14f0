/** CPU time of processes, from proc(5). Unlike wall time it says nearly the same on a busy host. */

import { readdirSync, readFileSync } from 'node:fs'

/** Linux counts CPU time in these (sysconf(_SC_CLK_TCK) on every architecture it supports today). */
const clockTicksPerSecond = 100

function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  )
}

/** Of a process and those it started, in seconds; 0 for one that has ended. */
export function cpuSeconds(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ')
    // utime and stime are fields 14 and 15 of proc(5); the first two are gone here.
    const own = (Number(fields[11]) + Number(fields[12])) / clockTicksPerSecond
    return own + childrenOf(pid).reduce((sum, child) => sum + cpuSeconds(child), 0)
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return 0
    throw error
  }
}
