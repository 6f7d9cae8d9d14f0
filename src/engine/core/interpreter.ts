/**
 * The interpreter, generated from the instruction table: one loop over predecoded records with one branch of a jump table
 * per form of an instruction (its length; for branches and jumps also whether the target is in the same page).
 *
 * Frequent instructions are branches of the loop itself, so that record and count stay in machine registers: that is 1.5
 * to 2.5 times as fast as one tail-called function per instruction. The others are functions in the table, called from the
 * loop's default branch and tail-calling it again: that keeps the loop small enough for the optimizing compiler.
 */

import type { Instruction } from '../../riscv/instruction.ts'
import { instructions } from '../../riscv/instructions.ts'
import { type Expression, load } from '../wasm/expression.ts'
import type { FunctionReference, Label } from '../wasm/function-builder.ts'
import { type CodeHandlers, fitsRegion } from './code-pages.ts'
import { type Core, entryAt } from './core.ts'
import type { FloatFunctions } from './float.ts'
import {
  firstInstructionHandler,
  formsPerInstruction,
  handlerCount,
  handlerIndex,
  regionTableBase,
} from './handler-numbers.ts'
import { type HandlerForm, InterpreterContext } from './interpreter-context.ts'
import { firstRegion, get, hotCounters, regionLimit, regionShift } from './layout.ts'

/** Branches and jumps have two handlers per length. */
export function hasTarget(instruction: Instruction): boolean {
  return instruction.format === 'B' || instruction.format === 'J'
}

const floatMoves = new Set(['fld', 'fsd', 'flw', 'fsw', 'fmv.x.d', 'fmv.d.x', 'fsgnj.d'])

/** Instructions that the loop does itself; system instructions and float arithmetic are not worth their size there. */
function isFrequent(instruction: Instruction): boolean {
  return (
    (['I', 'M', 'A'].includes(instruction.extension) && instruction.format !== 'none') ||
    instruction.name === 'fence' ||
    floatMoves.has(instruction.name)
  )
}

/** Spreads records over the counters (Knuth's multiplicative hashing). */
const hashMultiplier = 0x9e37_79b1 | 0

const rowOf = new Map(instructions.map((instruction, index) => [instruction, index]))

/** Number of the handler that a record names. */
export function handlerOf({ instruction, lengthBytes, withinPage }: HandlerForm): number {
  const row = rowOf.get(instruction)!
  return firstInstructionHandler + row * formsPerInstruction + (lengthBytes === 4 ? 1 : 0) + (withinPage ? 2 : 0)
}

function allForms(): HandlerForm[] {
  return instructions.flatMap((instruction) =>
    (hasTarget(instruction) ? [false, true] : [false]).flatMap((withinPage) =>
      ([2, 4] as const).map((lengthBytes) => ({ instruction, lengthBytes, withinPage })),
    ),
  )
}

export function defineInterpreter(core: Core, code: CodeHandlers, float: FloatFunctions): void {
  const { module } = core
  const forms = allForms()
  const inLoop = forms.filter(({ instruction }) => isFrequent(instruction))

  // No record leads to the table with a number that has no function of its own.
  const table: FunctionReference[] = Array.from({ length: handlerCount }, () => core.raiseIllegal)
  table[handlerIndex.decodeHere] = code.decodeHere
  table[handlerIndex.nextPage] = code.nextPage
  table[handlerIndex.nextPageBehindStraddling] = code.nextPageBehindStraddling
  table[handlerIndex.straddling] = code.straddling
  for (const form of forms) if (!inLoop.includes(form)) table[handlerOf(form)] = handlerFunction(form)
  module.table(table, regionTableBase + regionLimit)
  module.exportTable('functions')

  function handlerFunction(form: HandlerForm): FunctionReference {
    return module.function(`${form.instruction.name}/${form.lengthBytes}`, ['i32', 'i32'], [], (f) => {
      const context = new InterpreterContext(f, core, float, form)
      form.instruction.semantics(context)
      context.finish()
    })
  }

  const regionOf = (number: Expression): Expression => number.shrU(regionShift)
  /** Counts that a place was reached; the one that makes it hot nominates it for translation. */
  const count = module.function('count', ['i32'], [], (f, record) => {
    const index = record!
      .shrU(2)
      .mul(hashMultiplier)
      .shrU(32 - Math.log2(hotCounters))
    const counter = f.let(entryAt(core.layout.hotCountersBase, index, 2))
    const reached = f.let(load('i32', 'load16u', counter).add(1))
    f.if(reached.geU(get('hotThreshold')), () => {
      f.set(reached, 0)
      f.do(core.imports.nominate, record!)
    })
    f.store(2, counter, reached)
  })

  module.define(core.interpret, (f, record, left) => {
    const number = f.local('i32')
    f.loop((again) => {
      f.if(left!.eqz(), () => f.returnCall(core.leave, record!), undefined, 'unlikely')
      f.set(number, load('i32', 'load', record!))
      f.loop((dispatch) => {
        f.block((otherwise) => {
          const targets: Label[] = Array.from({ length: handlerCount }, () => otherwise)
          // Nested blocks, the first form innermost: a branch to its label lands at its code, behind its block.
          const nest = (index: number): void => {
            const form = inLoop[index]
            if (!form) {
              f.brTable(number, targets, otherwise)
              return
            }
            f.block((label) => {
              targets[handlerOf(form)] = label
              nest(index - 1)
            })
            f.reuseLocals(() => {
              const context = new InterpreterContext(f, core, float, form, again)
              form.instruction.semantics(context)
              context.finish()
            })
          }
          nest(inLoop.length - 1)
        })
        f.if(regionOf(number).eqz(), () => f.returnCallIndirect(core.raise, number, record!, left!))
        // A region starts here, or may start here one day. Otherwise the instruction is one like others.
        f.if(
          regionOf(number).ltU(firstRegion),
          () => f.do(count, record!),
          () =>
            f.if(fitsRegion(core, regionOf(number), left!), () =>
              f.returnCallIndirect(core.raise, regionOf(number).add(regionTableBase), record!, left!),
            ),
        )
        f.set(number, number.and((1 << regionShift) - 1))
        f.br(dispatch)
      })
    })
  })
}
