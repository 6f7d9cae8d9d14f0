/**
 * What the processes of a VM wrote down, for `understudy logs`: the traces of replicas, disk server and LAN, merged by
 * time, and what the guest printed.
 *
 * A trace line begins with its time (ISO 8601, UTC). A line without one, as of a stack trace, belongs to the line before
 * it. Following means looking again: a file that is not there yet may come, and one that was replaced begins anew.
 */

import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { consoleLogName } from './console-log.ts'
import { type ProcessTrace, processTraces, type VmFolder } from './vm-folder.ts'

export type TraceSource = ProcessTrace | 'console'

export const traceSources: readonly TraceSource[] = [...processTraces, 'console']

export interface TraceLine {
  readonly source: TraceSource
  readonly text: string
}

/** A chunk so large is read at once; of a longer file, the first look takes only the end. */
const longestChunkBytes = 4 << 20
const followIntervalMs = 200
const timePattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /

/** One growing file, read from where the last look stopped. */
export class GrowingFile {
  readonly #path: string
  #inode: bigint | undefined
  #offsetBytes = 0
  #rest = ''

  constructor(path: string) {
    this.#path = path
  }

  /** What was added since the last call, in whole lines; `isLast` gives an unfinished line too. */
  readLines(isLast = false): string[] {
    this.#rest += this.readBytes().toString('utf8')
    const lines = this.#rest.split('\n')
    this.#rest = lines.pop()!
    if (isLast && this.#rest !== '') lines.push(this.#rest)
    return lines
  }

  readBytes(): Buffer {
    let descriptor: number
    try {
      descriptor = openSync(this.#path, 'r')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0)
      throw error
    }
    try {
      const { ino, size } = fstatSync(descriptor, { bigint: true })
      const sizeBytes = Number(size)
      if (this.#inode !== ino || sizeBytes < this.#offsetBytes) {
        const isFirst = this.#inode === undefined
        this.#inode = ino
        this.#offsetBytes = isFirst ? Math.max(0, sizeBytes - longestChunkBytes) : 0
      }
      const chunk = Buffer.alloc(Math.min(sizeBytes - this.#offsetBytes, longestChunkBytes))
      const read = readSync(descriptor, chunk, 0, chunk.length, this.#offsetBytes)
      this.#offsetBytes += read
      return chunk.subarray(0, read)
    } finally {
      closeSync(descriptor)
    }
  }
}

export class TraceReader {
  readonly #files: ReadonlyMap<TraceSource, GrowingFile>

  constructor(folder: VmFolder, sources: readonly TraceSource[]) {
    this.#files = new Map(sources.map((source) => [source, new GrowingFile(pathOf(folder, source))]))
  }

  /** Everything since the last call, the lines of several files merged by their times. */
  read(isLast = false): TraceLine[] {
    const timed: { readonly time: string; readonly line: TraceLine }[] = []
    for (const [source, file] of this.#files) {
      let time = ''
      for (const text of file.readLines(isLast)) {
        time = timePattern.exec(text)?.[0] ?? time
        timed.push({ time, line: { source, text } })
      }
    }
    // The sort is stable: lines of one file keep their order.
    timed.sort((x, y) => (x.time < y.time ? -1 : x.time > y.time ? 1 : 0))
    return timed.map(({ line }) => line)
  }

  /** Calls `onLines` with what comes, until `signal` is aborted. */
  follow(onLines: (lines: TraceLine[]) => void, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const timer = setInterval(() => {
        const lines = this.read()
        if (lines.length > 0) onLines(lines)
      }, followIntervalMs)
      signal.addEventListener('abort', () => {
        clearInterval(timer)
        resolve()
      })
    })
  }
}

function pathOf(folder: VmFolder, source: TraceSource): string {
  return source === 'console' ? folder.file(consoleLogName) : folder.tracePath(source)
}

/** Whether this VM ever ran here. */
export function hasTraces(folder: VmFolder): boolean {
  return traceSources.some((source) => statSync(pathOf(folder, source), { throwIfNoEntry: false }) !== undefined)
}
