/**
 * What translated code calls: functions of the core module, exported by it and imported by every module of regions, under
 * the same names. The list stands once.
 */

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

/** What a module of regions may import: each is declared when it is asked for, as a region needs a few of a hundred. */
export function importForRegions(module: ModuleBuilder, exported: RegionExports): RegionCore {
  const made = new Map<string, FunctionReference>()
  const imported = (name: string): FunctionReference => {
    const known = made.get(name)
    if (known) return known
    const { params, results } = exported.get(name)!
    const reference = module.importFunction('core', name, params, results)
    made.set(name, reference)
    return reference
  }
  const group = <Group extends object>(prefix: string, others: Partial<Group> = {}): Group =>
    new Proxy(others as Group, {
      get: (own, name) => Reflect.get(own, name) ?? imported(`${prefix}.${String(name)}`),
    })
  return group<RegionCore>('core', {
    systemOperations: group('system'),
    float: { single: group('single'), double: group('double') },
  })
}
