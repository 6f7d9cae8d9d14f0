/**
 * Floating-point operations as the instruction table uses them: the host's where value and flags are proven the same, else
 * the soft-float library, whose exception flags accrue in fcsr and make mstatus.FS Dirty when they change.
 */

import { type FloatFormat, type FloatOperation, floatOperations } from '../../riscv/float-operations.ts'
import { emitOnHost, type HostMode, hostOperation } from '../soft-float/host-arithmetic.ts'
import { defineSoftFloat } from '../soft-float/soft-float.ts'
import { type Expression, i32 } from '../wasm/expression.ts'
import type { FunctionBuilder, FunctionReference, Local } from '../wasm/function-builder.ts'
import type { Core } from './core.ts'
import { get } from './layout.ts'

/** One function per format and operation: (operands: i64…, rm: i32 if the operation rounds) → i64. */
export type FloatFunctions = Readonly<Record<FloatFormat, Readonly<Record<FloatOperation, FunctionReference>>>>

/** The inexact flag in fcsr. */
export const inexactFlag = 1
/** frm in fcsr, and so in a float state. */
export const frmShift = 5
const modeOf: Readonly<Record<HostMode, number>> = { any: 0, toNearest: 0, towardsZero: 1 }

/**
 * Emits an operation where it is asked for; `soft` calls its function.
 *
 * @param rm a number if it is known now; `dynamic`: what `state` says
 * @param state see `floatState`
 */
export function emitFloat(
  f: FunctionBuilder,
  operation: FloatOperation,
  format: FloatFormat,
  operands: readonly Local[],
  rm: Expression | number | 'dynamic',
  soft: () => Expression,
  state = floatState(),
): Local {
  const host = hostOperation(operation, format, operands)
  if (!host) return f.let(soft())
  const wanted = modeOf[host.mode]
  if (rm === 'dynamic') return emitOnHost(f, host, state.eq((wanted << frmShift) | inexactFlag), soft)
  const isInexact = state.and(inexactFlag)
  if (typeof rm === 'number') {
    return host.mode === 'any' || rm === wanted ? emitOnHost(f, host, isInexact, soft) : f.let(soft())
  }
  return emitOnHost(f, host, isInexact.and(rm.eq(wanted)), soft)
}

/** i32: frm, and in bit 0 the inexact flag. */
export function floatState(): Expression {
  return get('fcsr')
    .toI32()
    .and((7 << frmShift) | inexactFlag)
}

export function defineFloat(core: Core): FloatFunctions {
  const { module } = core
  const { functions, flags } = defineSoftFloat(module)
  const define = (format: FloatFormat, operation: FloatOperation): FunctionReference => {
    const soft = functions[format][operation]
    return module.function(`${format}.${operation}.accruing`, soft.params, soft.results, (f, ...params) => {
      const { operands: count, rounds } = floatOperations[operation]
      const result = emitFloat(f, operation, format, params.slice(0, count), rounds ? params[count]! : i32(0), () => {
        const value = f.let(f.call(soft, ...params))
        const raised = f.getGlobal(flags)
        f.if(raised, () => {
          f.do(core.accrueFlags, raised)
          f.setGlobal(flags, 0)
        })
        return value
      })
      f.return(result)
    })
  }
  const all = (format: FloatFormat): Record<FloatOperation, FunctionReference> =>
    Object.fromEntries(
      (Object.keys(floatOperations) as FloatOperation[]).map((operation) => [operation, define(format, operation)]),
    ) as Record<FloatOperation, FunctionReference>
  return { single: all('single'), double: all('double') }
}
