/**
 * The soft-float library as the instruction table uses it: each operation accrues its exception flags in fcsr, which makes
 * mstatus.FS Dirty when they change.
 */

import type { FloatFormat, FloatOperation } from '../../riscv/float-operations.ts'
import { defineSoftFloat } from '../soft-float/soft-float.ts'
import type { FunctionReference } from '../wasm/function-builder.ts'
import type { Core } from './core.ts'

/** One function per format and operation: (operands: i64…, rm: i32 if the operation rounds) → i64. */
export type FloatFunctions = Readonly<Record<FloatFormat, Readonly<Record<FloatOperation, FunctionReference>>>>

export function defineFloat(core: Core): FloatFunctions {
  const { module } = core
  const { functions, flags } = defineSoftFloat(module)
  const accruing = (format: FloatFormat): Record<FloatOperation, FunctionReference> => {
    const define = ([name, operation]: [string, FunctionReference]): [string, FunctionReference] => [
      name,
      module.function(`${format}.${name}.accruing`, operation.params, operation.results, (f, ...params) => {
        const result = f.let(f.call(operation, ...params))
        const raised = f.getGlobal(flags)
        f.if(raised, () => {
          f.do(core.accrueFlags, raised)
          f.setGlobal(flags, 0)
        })
        f.return(result)
      }),
    ]
    return Object.fromEntries(Object.entries(functions[format]).map(define)) as Record<
      FloatOperation,
      FunctionReference
    >
  }
  return { single: accruing('single'), double: accruing('double') }
}
