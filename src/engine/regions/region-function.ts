/**
 * The WebAssembly function of one region: (record, left), like an interpreter's handler. Guest registers are loaded into
 * locals at entry and written back where the region leaves; control flow inside is structured (flow-graph.ts).
 *
 * A region with several entries begins with a dispatch: a dense jump table over the numbers that the records of its entries
 * carry. Jumps of unknown target inside the page, and control flow that cannot be structured, go through it too.
 *
 * Each block first takes its instructions off `left`; when that does not suffice, the region leaves in front of the block
 * and the interpreter runs the rest one by one. Ways out share their code behind the body, to keep the function small.
 */

import { pageBytes } from '../../base/units.ts'
import type { SystemOperation } from '../../riscv/semantics.ts'
import { emitGoFar, emitGoNear } from '../core/code-pages.ts'
import {
  counterAddress,
  emitCount,
  fBase,
  get,
  type RegionLeave,
  recordBytesPerByte,
  recordField,
  xBase,
} from '../core/layout.ts'
import type { RegionCore } from '../core/region-imports.ts'
import { type Expression, i32, i64, load } from '../wasm/expression.ts'
import { FunctionBuilder, type Label, type Local } from '../wasm/function-builder.ts'
import type { Block, RegionPlan, Target } from './discovery.ts'
import type { FlowGraph } from './flow-graph.ts'
import { RegionContext } from './region-context.ts'
import { namedBy, type RegisterMask, registersIn, union, writtenBy } from './region-registers.ts'

/** Ways out that are rare: they share one piece of code, which learns from a number, the site, why and where. */
const rareExits = ['fault', 'stop', 'resume', 'illegal', 'finish'] as const
type RareExit = (typeof rareExits)[number]

/** A site: which rare exit, the offset in the page (up to the page's end), and what `left` gets back. */
const siteOffsetShift = 3
const siteOffsetMask = 0x1fff
const siteRemainingShift = 16

export interface RegionSettings {
  readonly ramStart: number
  /** Counts instructions and ways out. */
  readonly isProfiled: boolean
  /** The number of the first entry; the others follow. */
  readonly firstNumber: number
}

const leaveNames: Readonly<Record<RareExit, RegionLeave>> = {
  fault: 'fault',
  stop: 'attention',
  resume: 'budget',
  illegal: 'illegal',
  finish: 'csrWrite',
}

export class RegionFunction {
  readonly f: FunctionBuilder
  readonly core: RegionCore
  readonly ramStart: number
  readonly dataSet: Local
  readonly left: Local
  /** Where to go on: the entry at first. */
  readonly #record: Local
  /** Records of the page. */
  readonly #records: Local
  readonly #pagePc: Local
  readonly #exitPc: Local
  readonly #site: Local
  readonly #blocks: readonly Block[]
  readonly #entries: readonly number[]
  readonly #firstNumber: number
  readonly #graph: FlowGraph
  readonly #x = new Map<number, Local>()
  readonly #floats = new Map<number, Local>()
  readonly #written: RegisterMask
  /** Registers that may differ from memory when a block ends. */
  readonly #dirty: readonly RegisterMask[]
  /** Behind the body: goes on at `exitPc`, at `record`, or does what `site` says. */
  readonly #labels: { jump?: Label; near?: Label; rare?: Label } = {}
  readonly #blockEnds = new Map<number, Label>()
  readonly #loopStarts = new Map<number, Label>()

  #floatState: Local | undefined
  /** `left` at entry, if the region counts what it runs. */
  readonly #entryLeft: Local | undefined

  constructor(f: FunctionBuilder, core: RegionCore, settings: RegionSettings, { blocks, entries, graph }: RegionPlan) {
    const { ramStart, isProfiled, firstNumber } = settings
    this.f = f
    this.core = core
    this.ramStart = ramStart
    this.#blocks = blocks
    this.#entries = entries
    this.#firstNumber = firstNumber
    this.#graph = graph
    this.#record = f.params[0]!
    this.#records = f.local('i32')
    this.left = f.params[1]!
    this.dataSet = f.local('i32')
    this.#pagePc = f.local('i64')
    this.#exitPc = f.local('i64')
    this.#site = f.local('i32')
    this.#entryLeft = isProfiled ? f.local('i32') : undefined
    const all = this.#graph.order.flatMap((block) => blocks[block]?.instructions ?? [])
    this.#written = writtenBy(all)
    this.#dirty = this.#dirtyAtEnd()
    const named = namedBy(all)
    for (const register of registersIn(named.x)) this.#x.set(register, f.local('i64'))
    for (const register of registersIn(named.f)) this.#floats.set(register, f.local('i64'))
  }

  get #hasDispatch(): boolean {
    return this.#entries.length > 1
  }

  /** With a dispatch there is a way from nearly everywhere to everywhere. */
  #dirtyAtEnd(): RegisterMask[] {
    const dirty = this.#blocks.map(({ instructions }) => writtenBy(instructions))
    if (this.#hasDispatch) return dirty.fill(this.#written)
    const { order, successors } = this.#graph
    for (let changed = true; changed; ) {
      changed = false
      for (const block of order) {
        for (const successor of successors[block]!) {
          const next = union(dirty[successor]!, dirty[block]!)
          if (next.x === dirty[successor]!.x && next.f === dirty[successor]!.f) continue
          dirty[successor] = next
          changed = true
        }
      }
    }
    return dirty
  }

  emit(): void {
    const { f } = this
    if (this.#entryLeft) f.set(this.#entryLeft, this.left)
    f.set(this.dataSet, get('dataSet'))
    f.set(this.#pagePc, get('pagePc'))
    f.set(this.#records, get('pageRecords'))
    for (const [register, local] of this.#x) f.set(local, load('i64', 'load', i32(0), xBase + register * 8))
    for (const [register, local] of this.#floats) f.set(local, load('i64', 'load', i32(0), fBase + register * 8))
    f.block((jump) => {
      f.block((near) => {
        f.block((rare) => {
          Object.assign(this.#labels, { jump, near, rare })
          this.#emitNode(this.#graph.root)
        })
        this.#emitRareExits()
      })
      this.#count('outside')
      this.#spill()
      emitGoNear(f, this.core, this.#record, this.left)
    })
    this.#spill()
    emitGoFar(f, this.core, this.#exitPc, this.left)
  }

  #emitRareExits(): void {
    const { f, core } = this
    const site = this.#site
    this.#spill()
    const offset = f.let(site.shrU(siteOffsetShift).and(siteOffsetMask))
    f.set(this.left, this.left.add(site.shrU(siteRemainingShift)))
    f.set(this.#exitPc, this.#pagePc.add(offset.toI64U()))
    const record = this.#records.add(offset.mul(recordBytesPerByte))
    const leave: Readonly<Record<RareExit, () => void>> = {
      fault: () => f.returnCall(core.raiseAt, this.#exitPc, this.left),
      stop: () => f.returnCall(core.stopAt, this.#exitPc),
      resume: () => f.returnCall(core.resumeOut, this.#exitPc, this.left),
      illegal: () => f.returnCall(core.raiseIllegal, record, this.left),
      finish: () => f.returnCall(core.finish, this.#exitPc, this.left),
    }
    rareExits.forEach((exit, number) => {
      f.if(site.and((1 << siteOffsetShift) - 1).eq(number), () => {
        this.#count(leaveNames[exit])
        leave[exit]()
      })
    })
    f.unreachable()
  }

  // Structured control flow

  #emitNode(node: number): void {
    const merges = this.#graph.children[node]!.filter((child) => this.#graph.isMerge[child])
    const within = (index: number): void => {
      const merge = merges[index]
      if (merge === undefined) {
        this.#emitBlock(node)
        return
      }
      this.f.block((end) => {
        this.#blockEnds.set(merge, end)
        within(index - 1)
      })
      this.#emitNode(merge)
    }
    if (this.#graph.isLoopHeader[node] || node === this.#blocks.length) {
      this.f.loop((start) => {
        this.#loopStarts.set(node, start)
        within(merges.length - 1)
      })
    } else within(merges.length - 1)
  }

  /** Goes to the entry whose number stands in `record`; what is no entry is not here. */
  #emitDispatch(): void {
    const { f } = this
    const state = load('i32', 'load16u', this.#record, recordField.region).sub(this.#firstNumber)
    const labels = this.#entries.map((block) => this.#blockEnds.get(block)!)
    f.brTable(state, labels, this.#labels.near!)
  }

  #emitBlock(number: number): void {
    const { f, left } = this
    const block = this.#blocks[number]
    if (!block) {
      this.#emitDispatch()
      return
    }
    const { instructions, terminator } = block
    const facts = { floatIsOn: false, floatIsDirty: false, floatStateIsKnown: false, frmIsValid: false }
    f.set(left, left.sub(instructions.length))
    this.#atSite('resume', block.offset, instructions.length)
    f.brIf(this.#labels.rare!, left.ltS(0), 'unlikely')
    let last: RegionContext | undefined
    instructions.forEach(({ offset, decoded }, index) => {
      f.reuseLocals(() => {
        last = new RegionContext(this, { offset, decoded, remaining: instructions.length - index, facts })
        decoded.instruction.semantics(last)
        if (index < instructions.length - 1) return
        switch (terminator.kind) {
          case 'goto':
            this.#go(number, terminator.target)
            break
          case 'branch':
            f.if(
              last.condition!,
              () => this.#go(number, terminator.taken),
              () => this.#go(number, terminator.otherwise),
            )
            break
          case 'dynamic':
            this.#goDynamic(number, last.target!, terminator.returns)
            break
          case 'system':
            break
        }
      })
    })
  }

  #go(from: number, target: Target): void {
    if (target.kind === 'outside') {
      this.#leaveTo(target.offset)
      return
    }
    const to = target.block
    if (this.#graph.isIrreducible(from, to)) this.#dispatch(this.#recordAt(this.#blocks[to]!.offset))
    else if (this.#graph.isBackEdge(from, to)) this.f.br(this.#loopStarts.get(to)!)
    else if (this.#graph.isMerge[to]) this.f.br(this.#blockEnds.get(to)!)
    else this.#emitNode(to)
  }

  #goDynamic(from: number, target: Expression, returns: readonly number[]): void {
    const { f } = this
    const pc = f.let(target)
    for (const block of returns) {
      f.if(pc.eq(this.pcAt(this.#blocks[block]!.offset)), () => this.#go(from, { kind: 'block', block }))
    }
    if (this.#hasDispatch) {
      f.if(pc.xor(this.#pagePc).ltU(pageBytes), () =>
        this.#dispatch(
          this.#records.add(
            pc
              .toI32()
              .and(pageBytes - 2)
              .mul(recordBytesPerByte),
          ),
        ),
      )
    }
    // Most ways out are returns, and few a region: worth code of their own, which writes back only what may have changed.
    this.#count('indirectJump')
    this.#spill(this.#dirty[from]!)
    emitGoFar(f, this.core, pc, this.left)
  }

  #dispatch(record: Expression): void {
    this.f.set(this.#record, record)
    this.f.br(this.#loopStarts.get(this.#graph.root)!)
  }

  #leaveTo(offset: number): void {
    const { f } = this
    if (offset >= 0 && offset < pageBytes) {
      f.set(this.#record, this.#recordAt(offset))
      f.br(this.#labels.near!)
    } else {
      this.#count('otherPage')
      f.set(this.#exitPc, this.pcAt(offset))
      f.br(this.#labels.jump!)
    }
  }

  /** Counts a way out, if somebody wants to know; `left` is exact here. */
  #count(reason: RegionLeave): void {
    if (!this.#entryLeft) return
    emitCount(this.f, counterAddress(reason))
    emitCount(this.f, counterAddress('regionInstructions'), this.#entryLeft.sub(this.left).toI64U())
  }

  /** Writes registers back. */
  #spill(registers = this.#written): void {
    const { f } = this
    for (const register of registersIn(registers.x)) {
      f.store(8, i32(0), this.#x.get(register)!, xBase + register * 8)
    }
    for (const register of registersIn(registers.f)) {
      f.store(8, i32(0), this.#floats.get(register)!, fBase + register * 8)
    }
  }

  // What instructions ask for

  readX(register: number): Expression {
    return register === 0 ? i64(0) : this.#x.get(register)!
  }
  writeX(register: number, value: Expression): void {
    if (register !== 0) this.f.set(this.#x.get(register)!, value)
  }
  readF(register: number): Expression {
    return this.#floats.get(register)!
  }
  /** The float state as it was when last read: see RegionContext. */
  get floatState(): Local {
    this.#floatState ??= this.f.lastingLocal('i32')
    return this.#floatState
  }
  writeF(register: number, value: Expression): void {
    this.f.set(this.#floats.get(register)!, value)
  }

  pcAt(offset: number): Expression {
    return offset === 0 ? this.#pagePc : this.#pagePc.add(offset)
  }

  /** The record at an offset in the page. */
  #recordAt(offset: number): Expression {
    return this.#records.add(offset * recordBytesPerByte)
  }

  #atSite(exit: RareExit, offset: number, remaining: number): void {
    const number = rareExits.indexOf(exit)
    this.f.set(this.#site, number | (offset << siteOffsetShift) | (remaining << siteRemainingShift))
  }

  #rare(exit: RareExit, offset: number, remaining: number): void {
    this.#atSite(exit, offset, remaining)
    this.f.br(this.#labels.rare!)
  }

  /** If `condition`, the instruction faulted; cause and value are in their cells. */
  faultIf(condition: Expression, offset: number, remaining: number): void {
    this.#atSite('fault', offset, remaining)
    this.f.brIf(this.#labels.rare!, condition, 'unlikely')
  }

  /** The instruction in front of this offset is complete, and something needs a look. */
  stop(offset: number, remaining: number): void {
    this.#rare('stop', offset, remaining)
  }

  /** The instruction in front of this offset may have changed mode, mappings or interrupts. */
  finish(offset: number, remaining: number): void {
    this.#rare('finish', offset, remaining)
  }

  illegal(offset: number, remaining: number): void {
    this.#rare('illegal', offset, remaining)
  }

  system(operation: SystemOperation, offset: number): void {
    this.#count('system')
    this.#spill()
    this.f.returnCall(this.core.systemOperations[operation], this.#recordAt(offset), this.left.add(1))
  }
}

/** The function of a region, for a module that imports from `core`. */
export function buildRegion(core: RegionCore, plan: RegionPlan, settings: RegionSettings): FunctionBuilder {
  const f = new FunctionBuilder(['i32', 'i32'], [])
  new RegionFunction(f, core, settings, plan).emit()
  return f
}
