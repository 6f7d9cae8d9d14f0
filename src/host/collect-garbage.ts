/**
 * A collection of garbage, now. V8 chooses its time by the size of its own objects; what hangs on some of them, as on a
 * WebAssembly module, is much more and outside of its heap (src/engine/regions/translator.ts).
 *
 * Node gives programs the function only by a flag of V8, and only to realms made after the flag was set.
 */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

let collect: (() => void) | undefined

/** Of this thread: everything that nothing reaches is freed when it returns. Takes milliseconds. */
export function collectGarbage(): void {
  if (!collect) {
    setFlagsFromString('--expose-gc')
    collect = runInNewContext('gc') as () => void
    // Code that Node kept compiled (NODE_COMPILE_CACHE) counts only under the flags that it was made with.
    setFlagsFromString('--no-expose-gc')
  }
  collect()
}
