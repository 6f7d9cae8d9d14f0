/**
 * The interpreter: one WebAssembly function per form of an instruction (its length; for branches and jumps also whether
 * the target is in the same page), generated from the instruction table. A handler does its instruction and tail-calls
 * the handler of the next record: threaded code, and each handler is optimized by the engine underneath on its own.
 */

import type { Instruction } from '../../riscv/instruction.ts'
import { instructions } from '../../riscv/instructions.ts'
import type { FunctionReference } from '../wasm/function-builder.ts'
import { type CodeHandlers, firstInstructionHandler, handlerIndex } from './code-pages.ts'
import type { Core } from './core.ts'
import { type FloatFunctions, type HandlerForm, InterpreterContext } from './interpreter-context.ts'

/** Branches and jumps have two handlers per length. */
export function hasTarget(instruction: Instruction): boolean {
  return instruction.format === 'B' || instruction.format === 'J'
}

const formsPerInstruction = 4

const rowOf = new Map(instructions.map((instruction, index) => [instruction, index]))

/** Index into the table of handlers. */
export function handlerOf({ instruction, lengthBytes, withinPage }: HandlerForm): number {
  const row = rowOf.get(instruction)!
  return firstInstructionHandler + row * formsPerInstruction + (lengthBytes === 4 ? 1 : 0) + (withinPage ? 2 : 0)
}

export function defineInterpreter(core: Core, code: CodeHandlers, float: FloatFunctions): void {
  const { module } = core
  const table: FunctionReference[] = []
  table[handlerIndex.decodeHere] = code.decodeHere
  table[handlerIndex.nextPage] = code.nextPage
  table[handlerIndex.nextPageBehindStraddling] = code.nextPageBehindStraddling
  table[handlerIndex.straddling] = code.straddling
  table[handlerIndex.illegal] = core.raiseIllegal
  for (const instruction of instructions) {
    for (const withinPage of [false, true]) {
      for (const lengthBytes of [2, 4] as const) {
        const form: HandlerForm = { instruction, lengthBytes, withinPage }
        // No record ever names the forms that do not exist.
        table[handlerOf(form)] = withinPage && !hasTarget(instruction) ? core.raiseIllegal : handler(form)
      }
    }
  }
  module.table(table)

  function handler(form: HandlerForm): FunctionReference {
    const name = `${form.instruction.name}/${form.lengthBytes}${form.withinPage ? '/near' : ''}`
    return module.function(name, ['i32', 'i32'], [], (f) => {
      const context = new InterpreterContext(f, core, float, form)
      form.instruction.semantics(context)
      context.finish()
    })
  }
}
