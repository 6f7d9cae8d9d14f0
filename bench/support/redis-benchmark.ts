/** Debian's redis-benchmark on the host, against the Redis of a guest. */

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

export interface RedisBenchmark {
  readonly requests: number
  /** Without the start of the program. */
  readonly seconds: number
  /** Of its tests: the greatest. */
  readonly medianMs: number
}

/** @param tests as its `-t` has them: each does `requests`, one after the other */
export async function runRedisBenchmark(
  port: number,
  tests: readonly string[],
  clients: number,
  requests: number,
): Promise<RedisBenchmark> {
  const { stdout } = await promisify(execFile)('redis-benchmark', [
    ...['-p', `${port}`, '-c', `${clients}`, '-n', `${requests}`, '-t', tests.join(','), '--csv'],
  ])
  // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms",…
  const rows = stdout
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(',').map((field) => Number(field.replaceAll('"', ''))))
  if (rows.length !== tests.length) throw new Error(`redis-benchmark wrote ${stdout.slice(0, 300)}`)
  return {
    requests: requests * rows.length,
    seconds: rows.reduce((sum, [, perSecond]) => sum + requests / perSecond!, 0),
    medianMs: Math.max(...rows.map((row) => row[4]!)),
  }
}
