/** How much memory this process holds on to, for tests that nothing grows. */

import { collectGarbage } from '../../src/host/collect-garbage.ts'

/**
 * Bytes of the heap and of the buffers outside of it: the least of several looks, because sockets close, and V8 gives
 * buffers back, some turns of the event loop after the last reference is gone.
 */
export async function memoryInUse(): Promise<number> {
  let least = Number.POSITIVE_INFINITY
  for (let look = 0; look < 5; look++) {
    for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate)
    collectGarbage()
    const { heapUsed, external } = process.memoryUsage()
    least = Math.min(least, heapUsed + external)
  }
  return least
}
