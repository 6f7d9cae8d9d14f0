/** The process of the shared disk: exports, arbiter, and nothing else. Outlives every replica. */

import { runAsProcess, trace } from '../child-process.ts'
import { type DiskServerSettings, serveDisks } from '../disk-process.ts'

runAsProcess<DiskServerSettings, void>(async (settings) => {
  await serveDisks(settings, trace)
})
