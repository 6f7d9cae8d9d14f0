/**
 * What an engine takes of its host's memory, beside guest RAM. Two processes are compared, by the most memory that the kernel
 * ever saw in each (VmHWM: nothing between two looks is missed): one whose thread, with the limits of a hart's, churns
 * through regions in an engine, and one whose thread loads the same code and makes no engine, which is bare Node. The
 * difference, less guest RAM, all of which was written to, is the engine: predecoded code, translated code and V8's part
 * of it, tables, objects.
 *
 *     node [V8 FLAGS] test/regions/engine-memory.ts REGIONS      one of the two processes; 0: makes no engine
 */

import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { hartResourceLimits } from '../../src/host/hart-thread.ts'
import { type ChurnFigures, churn, churnRamBytes } from './churn.ts'

interface ProcessReport {
  readonly peakBytes: number
  readonly figures: ChurnFigures | undefined
}

export interface EngineMemory extends ChurnFigures {
  readonly engineBytes: number
  /** Of bare Node. */
  readonly baselineBytes: number
}

const thisFile = fileURLToPath(import.meta.url)

/** @param flags of V8 */
export function measureEngineMemory(regions: number, flags: readonly string[] = []): EngineMemory {
  const report = (wanted: number): ProcessReport => {
    const text = execFileSync(process.execPath, [...flags, thisFile, `${wanted}`], { encoding: 'utf8' })
    return JSON.parse(text) as ProcessReport
  }
  const baseline = report(0)
  const { peakBytes, figures } = report(regions)
  if (!figures) throw new Error('the process with an engine has nothing to say of it')
  const engineBytes = peakBytes - baseline.peakBytes - churnRamBytes
  return { ...figures, engineBytes, baselineBytes: baseline.peakBytes }
}

/** The most resident memory that this process ever had (proc(5), "VmHWM"). */
function peakBytes(): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024
}

if (!isMainThread && workerData === thisFile) {
  parentPort!.once('message', (regions: number) => {
    parentPort!.postMessage({ figures: regions > 0 ? churn(regions) : undefined })
  })
} else if (import.meta.main) {
  const worker = new Worker(thisFile, { workerData: thisFile, resourceLimits: hartResourceLimits })
  worker.postMessage(Number(process.argv[2]))
  const [{ figures }] = (await once(worker, 'message')) as [{ figures: ChurnFigures | undefined }]
  console.log(JSON.stringify({ peakBytes: peakBytes(), figures } satisfies ProcessReport))
}
