/** The soft-float library as an instance that tests can call. */

import { type FloatFormat, type FloatOperation, floatOperations } from '../../../riscv/float-operations.ts'
import { ModuleBuilder } from '../../wasm/module-builder.ts'
import { defineSoftFloat } from '../soft-float.ts'
import type { Outcome } from './exact-reference.ts'

export const formats: readonly FloatFormat[] = ['single', 'double']
export const operations = Object.keys(floatOperations) as FloatOperation[]

type SoftFloatFunction = (...params: (bigint | number)[]) => bigint

export class SoftFloatInstance {
  readonly flags: WebAssembly.Global
  readonly #exports: Readonly<Record<string, SoftFloatFunction>>

  constructor() {
    const module = new ModuleBuilder()
    const library = defineSoftFloat(module)
    for (const format of formats) {
      for (const operation of operations) {
        module.exportFunction(`${format}.${operation}`, library.functions[format][operation])
      }
    }
    module.exportGlobal('flags', library.flags)
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.finish()), {})
    this.#exports = exports as Record<string, SoftFloatFunction>
    this.flags = exports.flags as WebAssembly.Global
  }

  raw(operation: FloatOperation, format: FloatFormat): SoftFloatFunction {
    return this.#exports[`${format}.${operation}`]!
  }

  /** Result and the flags that this one call raised. */
  run(operation: FloatOperation, format: FloatFormat, operands: readonly bigint[], rm: number): Outcome {
    this.flags.value = 0
    const params = floatOperations[operation].rounds ? [...operands, rm] : operands
    const bits = BigInt.asUintN(64, this.raw(operation, format)(...params))
    return { bits, flags: Number(this.flags.value) }
  }
}

/** A case as a failing test prints it. */
export function describeCase(
  operation: FloatOperation,
  format: FloatFormat,
  operands: readonly bigint[],
  rm: number,
  { bits, flags }: Outcome,
): string {
  const hex = (value: bigint): string => `0x${value.toString(16)}`
  return `${format}.${operation}(${operands.map(hex).join(', ')}) rm ${rm} = ${hex(bits)} flags ${flags}`
}
