/** Puts the core module together: declares every function, lets each part define its own, and gives the bytes. */

import { ModuleBuilder } from '../wasm/module-builder.ts'
import { defineAddressTranslation } from './address-translation.ts'
import { defineCodePages } from './code-pages.ts'
import { declareCore } from './core.ts'
import { defineCsrFile } from './csr-file.ts'
import { defineFloat } from './float.ts'
import { defineInterpreter } from './interpreter.ts'
import type { Layout } from './layout.ts'
import { defineMemoryAccess } from './memory-access.ts'
import { exportForRegions, type RegionExports } from './region-imports.ts'
import { defineTrackedPages } from './tracked-pages.ts'
import { defineTraps } from './traps.ts'

export interface CoreModule {
  readonly bytes: Uint8Array<ArrayBuffer>
  /** What the CSR index in memory must hold: address → index. */
  readonly csrIndex: ReadonlyMap<number, number>
  /** What regions import from the core's instance. */
  readonly exported: RegionExports
}

export function buildCoreModule(layout: Layout): CoreModule {
  const module = new ModuleBuilder()
  module.importMemory(layout.memoryPages)
  const core = declareCore(module, layout)
  const float = defineFloat(core)
  defineTrackedPages(core)
  defineMemoryAccess(core)
  defineAddressTranslation(core)
  defineTraps(core)
  const csrIndex = defineCsrFile(core)
  defineInterpreter(core, defineCodePages(core), float)
  for (const name of ['readCsr', 'writeCsr', 'prepareWrite', 'updateMode', 'flushTranslations', 'ticksAt'] as const) {
    module.exportFunction(name, core[name])
  }
  const exported = exportForRegions(core, float)
  return { bytes: module.finish(), csrIndex, exported }
}
