/** Ways to get translated code a little wrong: by one instruction, one flag, one store that nobody heeds. */

import type { Mutation } from './mutations.ts'

const file = 'src/engine/regions/regions.test.ts'
const noticedBy = { file, test: 'in supervisor mode, seed 1' } as const
const mappings = 'src/engine/regions/mappings.test.ts'

export const translationMutations: readonly Mutation[] = [
  {
    name: 'a block of translated code takes one instruction too few off the budget',
    file: 'src/engine/regions/region-function.ts',
    from: 'f.set(left, left.sub(instructions.length))',
    to: 'f.set(left, left.sub(instructions.length - 1))',
    noticedBy,
  },
  {
    name: 'a fault in translated code comes one instruction early',
    file: 'src/engine/regions/region-context.ts',
    from: 'this.#region.faultIf(after.eqz(), this.#offset, this.#remaining)',
    to: 'this.#region.faultIf(after.eqz(), this.#offset, this.#remaining + 1)',
    noticedBy: { file, test: 'the count is exact at a fault, and the registers are those in front of it' },
  },
  {
    name: 'translated code forgets that it made the floating-point registers dirty',
    file: 'src/engine/regions/region-function.ts',
    from: 'floatIsDirty: false',
    to: 'floatIsDirty: true',
    noticedBy: { file, test: 'a floating-point result makes FS Dirty in the instruction that writes it' },
  },
  {
    name: 'translated code goes on behind a store into itself',
    file: 'src/engine/regions/translator.ts',
    from: '    this.#parts.leaveRegion()\n',
    to: '',
    noticedBy: { file, test: 'a store into the region that is running counts from the next instruction on' },
  },
  {
    name: 'a store into code leaves the regions made from it',
    file: 'src/engine/regions/translator.ts',
    from: 'if (!covers(region.coverage, first, last)) continue',
    to: 'if (covers(region.coverage, first, last)) continue',
    noticedBy: { file, test: 'a region is forgotten when its code changes while others run' },
  },
  {
    name: 'the dispatch of a region takes its entries for each other',
    file: 'src/engine/regions/region-function.ts',
    from: 'this.#entries.map((block) =>',
    to: '[...this.#entries].reverse().map((block) =>',
    noticedBy: { file, test: 'computed jumps, and returns to many places, go where they should inside one region' },
  },
  {
    name: 'translated code keeps a rounding mode that was changed',
    file: 'src/engine/regions/region-context.ts',
    from: 'this.#facts.floatStateIsKnown = false',
    to: 'this.#facts.floatStateIsKnown = true',
    noticedBy: { file, test: 'a rounding mode that changes within a block counts from the next instruction on' },
  },
  {
    name: 'translated code rounds to nearest where an instruction names another mode',
    file: 'src/engine/regions/region-context.ts',
    from: 'if (rm <= 4) return emitFloat(f, operation, format, values, rm, () => call(i32(rm)), this.#floatState)',
    to: 'if (rm <= 4) return emitFloat(f, operation, format, values, 0, () => call(i32(0)), this.#floatState)',
    noticedBy: { file, test: 'an instruction that names a rounding mode rounds by it' },
  },
  {
    name: 'translated code goes on behind a CSR write that changes whose rights its loads have',
    file: 'src/engine/regions/region-context.ts',
    from: 'f.if(effect, () => this.#region.finish(this.#following, this.#remaining))',
    to: 'f.if(effect, () => {})',
    noticedBy: {
      file: mappings,
      test: 'MPRV lends translated loads and stores the rights and the mappings of MPP, from the next instruction on',
    },
  },
  {
    name: 'translated code goes on in an address space that it has left',
    file: 'src/engine/core/csr-file.ts',
    from: `            f.do(core.flushTranslations)
            f.do(core.updateMode)`,
    to: '            f.do(core.updateMode)',
    noticedBy: {
      file: mappings,
      test: 'code at one virtual address in two address spaces runs as what is mapped there, without fences',
    },
  },
  {
    name: 'translated code goes on in a page that its store has mapped elsewhere',
    file: 'src/engine/core/tracked-pages.ts',
    from: "put(f, 'attention', get('attention').or(attention.lookUpAfresh))",
    to: '',
    noticedBy: {
      file: mappings,
      test: 'a superpage is split under the code that it maps, and merged again, without fences',
    },
  },
  {
    name: 'a block of translated code gives back one instruction too many when its budget is short',
    file: 'src/engine/regions/region-function.ts',
    from: "this.#atSite('resume', block.offset, instructions.length)",
    to: "this.#atSite('resume', block.offset, instructions.length + 1)",
    noticedBy: { file: mappings, test: 'in machine mode, seed 21' },
  },
]
