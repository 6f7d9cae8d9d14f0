/** CPU time of processes, from proc(5). Unlike wall time it says nearly the same on a busy host. */

import { readdirSync, readFileSync } from 'node:fs'

/** Linux counts CPU time in these (sysconf(_SC_CLK_TCK) on every architecture it supports today). */
const clockTicksPerSecond = 100

function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  )
}

/** Of these processes and those they started, in seconds, each once; 0 for one that has ended. */
export function cpuSeconds(...pids: readonly number[]): number {
  const counted = new Map<number, number>()
  for (const pid of pids) count(pid, counted)
  return [...counted.values()].reduce((sum, seconds) => sum + seconds, 0)
}

function count(pid: number, counted: Map<number, number>): void {
  if (counted.has(pid)) return
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ')
    // utime and stime are fields 14 and 15 of proc(5); the first two are gone here.
    counted.set(pid, (Number(fields[11]) + Number(fields[12])) / clockTicksPerSecond)
    for (const child of childrenOf(pid)) count(child, counted)
  } catch (error) {
    if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
  }
}

/** Of the threads with this name in a process, in seconds, to the nanosecond; 0 when there is none. */
export function threadCpuSeconds(pid: number, name: string): number {
  const file = (task: string, what: string): string => readFileSync(`/proc/${pid}/task/${task}/${what}`, 'utf8')
  let nanoseconds = 0
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      // The first number of schedstat is the time on a processor.
      if (file(task, 'comm').trim() === name) nanoseconds += Number(file(task, 'schedstat').split(' ')[0])
    } catch (error) {
      if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    }
  }
  return nanoseconds / 1e9
}
