/**
 * What translated code calls: functions of the core module, exported by it and imported by every module of regions, under
 * the same names. The list stands once.
 */

import type { FloatFormat, FloatOperation } from '../../riscv/float-operations.ts'
import type { SystemOperation } from '../../riscv/semantics.ts'
import type { FunctionReference } from '../wasm/function-builder.ts'
import type { ModuleBuilder } from '../wasm/module-builder.ts'
import type { Core } from './core.ts'
import type { FloatFunctions } from './float.ts'

const names = [
  'loadSlow',
  'storeSlow',
  'locateSlow',
  'enterRecord',
  'jumpOut',
  'resumeOut',
  'stopAt',
  'raiseAt',
  'raiseIllegal',
  'finish',
  'mayAccessCsr',
  'readCsr',
  'writeCsr',
] as const

/** The core as a region sees it. */
export type RegionCore = Pick<Core, (typeof names)[number] | 'systemOperations'> & { readonly float: FloatFunctions }

/** Exported name → its function in the core module. */
export type RegionExports = ReadonlyMap<string, FunctionReference>

export function exportForRegions(core: Core, float: FloatFunctions): RegionExports {
  const exported = new Map<string, FunctionReference>()
  for (const name of names) exported.set(`core.${name}`, core[name])
  for (const [name, operation] of Object.entries(core.systemOperations)) exported.set(`system.${name}`, operation)
  for (const format of ['single', 'double'] as const) {
    for (const [name, operation] of Object.entries(float[format])) exported.set(`${format}.${name}`, operation)
  }
  for (const [name, reference] of exported) core.module.exportFunction(name, reference)
  return exported
}

/** Declares the imports of a module of regions. Few modules calculate with floats: those imports are made when asked for. */
export function importForRegions(module: ModuleBuilder, exported: RegionExports, usesFloat: boolean): RegionCore {
  const imported = (name: string): FunctionReference => {
    const { params, results } = exported.get(name)!
    return module.importFunction('core', name, params, results)
  }
  const group = <Name extends string>(prefix: string): Record<Name, FunctionReference> => {
    const members = [...exported.keys()].filter((name) => name.startsWith(prefix))
    return Object.fromEntries(members.map((name) => [name.slice(prefix.length), imported(name)])) as Record<
      Name,
      FunctionReference
    >
  }
  const noFloat = {} as Record<FloatOperation, FunctionReference>
  const float = (format: FloatFormat) => (usesFloat ? group<FloatOperation>(`${format}.`) : noFloat)
  return {
    ...(Object.fromEntries(names.map((name) => [name, imported(`core.${name}`)])) as Pick<
      Core,
      (typeof names)[number]
    >),
    systemOperations: group<SystemOperation>('system.'),
    float: { single: float('single'), double: float('double') },
  }
}
