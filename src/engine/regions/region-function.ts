/**
 * The WebAssembly function of one region: (record, left), like an interpreter's handler. Guest registers are loaded into
 * locals at entry and written back where the region leaves; control flow inside is structured (flow-graph.ts).
 *
 * Each block first takes its instructions off `left`; when that does not suffice, the region leaves in front of the block
 * and the interpreter runs the rest one by one. Ways out that are rare share one piece of code each, behind the body.
 */

import type { SystemOperation } from '../../riscv/semantics.ts'
import { counterAddress, emitCount, fBase, get, type RegionLeave, recordBytesPerByte, xBase } from '../core/layout.ts'
import type { RegionCore } from '../core/region-imports.ts'
import { type Expression, i32, i64, load } from '../wasm/expression.ts'
import type { FunctionBuilder, Label, Local } from '../wasm/function-builder.ts'
import type { Block, RegionPlan, Target } from './discovery.ts'
import { analyzeFlow, type FlowGraph } from './flow-graph.ts'
import { RegionContext } from './region-context.ts'
import { namedBy, type RegisterMask, registersIn, union, writtenBy } from './region-registers.ts'

/** Ways out that leave through shared code: what is called there with (pc or record, left). */
const sharedExits = ['fault', 'stop', 'resume', 'illegal', 'finish'] as const
type SharedExit = (typeof sharedExits)[number]

function blockSuccessors({ terminator }: Block): number[] {
  const inside = (target: Target): number[] => (target.kind === 'block' ? [target.block] : [])
  switch (terminator.kind) {
    case 'goto':
      return inside(terminator.target)
    case 'branch':
      return [...inside(terminator.taken), ...inside(terminator.otherwise)]
    case 'dynamic':
      return [...terminator.returns]
    case 'system':
      return []
  }
}

export interface RegionSettings {
  readonly ramStart: number
  /** Counts instructions and ways out. */
  readonly isProfiled: boolean
}

const leaveNames: Readonly<Record<SharedExit, RegionLeave>> = {
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
  readonly #record: Local
  readonly #pagePc: Local
  readonly #exitPc: Local
  readonly #blocks: readonly Block[]
  readonly #graph: FlowGraph
  readonly #x = new Map<number, Local>()
  readonly #floats = new Map<number, Local>()
  readonly #written: RegisterMask
  /** Registers that may differ from memory when a block ends. */
  readonly #dirty: readonly RegisterMask[]
  readonly #exits = new Map<SharedExit, Label>()
  readonly #blockEnds = new Map<number, Label>()
  readonly #loopStarts = new Map<number, Label>()

  /** `left` at entry, if the region counts what it runs. */
  readonly #entryLeft: Local | undefined

  constructor(f: FunctionBuilder, core: RegionCore, { ramStart, isProfiled }: RegionSettings, { blocks }: RegionPlan) {
    this.f = f
    this.core = core
    this.ramStart = ramStart
    this.#blocks = blocks
    this.#record = f.params[0]!
    this.left = f.params[1]!
    this.dataSet = f.local('i32')
    this.#pagePc = f.local('i64')
    this.#exitPc = f.local('i64')
    this.#entryLeft = isProfiled ? f.local('i32') : undefined
    const successors = blocks.map(blockSuccessors)
    this.#graph = analyzeFlow(successors)
    const all = this.#graph.order.flatMap((block) => blocks[block]!.instructions)
    this.#written = writtenBy(all)
    this.#dirty = this.#dirtyAtEnd(successors)
    const named = namedBy(all)
    for (const register of registersIn(named.x)) this.#x.set(register, f.local('i64'))
    for (const register of registersIn(named.f)) this.#floats.set(register, f.local('i64'))
  }

  #dirtyAtEnd(successors: readonly (readonly number[])[]): RegisterMask[] {
    const own = this.#blocks.map(({ instructions }) => writtenBy(instructions))
    const dirty = [...own]
    for (let changed = true; changed; ) {
      changed = false
      for (const block of this.#graph.order) {
        for (const successor of successors[block]!) {
          const next = union(dirty[successor]!, dirty[block]!)
          if (next.x !== dirty[successor]!.x || next.f !== dirty[successor]!.f) {
            dirty[successor] = next
            changed = true
          }
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
    for (const [register, local] of this.#x) f.set(local, load('i64', 'load', i32(0), xBase + register * 8))
    for (const [register, local] of this.#floats) f.set(local, load('i64', 'load', i32(0), fBase + register * 8))
    this.#withExits([...sharedExits], () => this.#emitNode(0))
  }

  /** Runs `body` inside one block per shared exit; behind each block stands the exit's code. */
  #withExits(exits: SharedExit[], body: () => void): void {
    const exit = exits.pop()
    if (!exit) {
      body()
      return
    }
    this.f.block((label) => {
      this.#exits.set(exit, label)
      this.#withExits(exits, body)
    })
    const { f, core } = this
    this.#leave(leaveNames[exit], this.#written)
    const leave: Readonly<Record<SharedExit, () => void>> = {
      fault: () => f.returnCall(core.raiseAt, this.#exitPc, this.left),
      stop: () => f.returnCall(core.stopAt, this.#exitPc),
      resume: () => f.returnCall(core.resumeOut, this.#exitPc, this.left),
      illegal: () => f.returnCall(core.raiseIllegal, this.#record, this.left),
      finish: () => f.returnCall(core.finish, this.#exitPc, this.left),
    }
    leave[exit]()
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
    if (this.#graph.isLoopHeader[node]) {
      this.f.loop((start) => {
        this.#loopStarts.set(node, start)
        within(merges.length - 1)
      })
    } else within(merges.length - 1)
  }

  #emitBlock(number: number): void {
    const { f, left } = this
    const block = this.#blocks[number]!
    const { instructions, terminator } = block
    const facts = { floatIsOn: false, floatIsDirty: false }
    f.set(left, left.sub(instructions.length))
    f.if(left.ltS(0), () => {
      f.set(left, left.add(instructions.length))
      f.set(this.#exitPc, this.pcAt(block.offset))
      f.br(this.#exits.get('resume')!)
    })
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
      this.#leaveTo(from, target.offset)
      return
    }
    const to = target.block
    if (this.#graph.isIrreducible(from, to)) this.#leaveTo(from, this.#blocks[to]!.offset)
    else if (this.#graph.isBackEdge(from, to)) this.f.br(this.#loopStarts.get(to)!)
    else if (this.#graph.isMerge[to]) this.f.br(this.#blockEnds.get(to)!)
    else this.#emitNode(to)
  }

  #goDynamic(from: number, target: Expression, returns: readonly number[]): void {
    const { f } = this
    for (const block of returns) {
      f.if(target.eq(this.pcAt(this.#blocks[block]!.offset)), () => this.#go(from, { kind: 'block', block }))
    }
    this.#leave('indirectJump', this.#dirty[from]!)
    f.returnCall(this.core.jumpOut, target, this.left)
  }

  #leaveTo(from: number, offset: number): void {
    const { f, core } = this
    const isNear = offset >= 0 && offset < 4096
    this.#leave(isNear ? 'outside' : 'otherPage', this.#dirty[from]!)
    if (isNear) f.returnCall(core.enterRecord, this.#recordAt(offset), this.left)
    else f.returnCall(core.jumpOut, this.pcAt(offset), this.left)
  }

  /** Writes registers back, and counts if somebody wants to know. */
  #leave(reason: RegionLeave, dirty: RegisterMask): void {
    if (this.#entryLeft) {
      emitCount(this.f, counterAddress(reason))
      emitCount(this.f, counterAddress('regionInstructions'), this.#entryLeft.sub(this.left).toI64U())
    }
    this.#spill(dirty)
  }

  #spill({ x, f: floats }: RegisterMask): void {
    const { f } = this
    for (const register of registersIn(x)) f.store(8, i32(0), this.#x.get(register)!, xBase + register * 8)
    for (const register of registersIn(floats)) f.store(8, i32(0), this.#floats.get(register)!, fBase + register * 8)
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
  writeF(register: number, value: Expression): void {
    this.f.set(this.#floats.get(register)!, value)
  }

  pcAt(offset: number): Expression {
    return offset === 0 ? this.#pagePc : this.#pagePc.add(offset)
  }

  /** The record at an offset in the page. */
  #recordAt(offset: number): Expression {
    return this.#record.add((offset - this.#blocks[0]!.offset) * recordBytesPerByte)
  }

  #exit(exit: SharedExit, pc: Expression, left: Expression): void {
    this.f.set(this.#exitPc, pc)
    this.f.set(this.left, left)
    this.f.br(this.#exits.get(exit)!)
  }

  /** The instruction at `pc` faulted; cause and value are in their cells. */
  fault(pc: Expression, left: Expression): void {
    this.#exit('fault', pc, left)
  }

  /** The instruction is complete, and something needs a look before the next one at `pc`. */
  stop(pc: Expression, left: Expression): void {
    this.#exit('stop', pc, left.sub(1))
  }

  /** The instruction before `pc` may have changed mode, mappings or interrupts. */
  finish(pc: Expression, left: Expression): void {
    this.#exit('finish', pc, left)
  }

  illegal(offset: number, left: Expression): void {
    const { f } = this
    f.set(this.left, left)
    f.set(this.#record, this.#recordAt(offset))
    f.br(this.#exits.get('illegal')!)
  }

  system(operation: SystemOperation, offset: number, left: Expression): void {
    this.#leave('system', this.#written)
    this.f.returnCall(this.core.systemOperations[operation], this.#recordAt(offset), left)
  }
}

/** Adds the function of a region to a module. */
export function defineRegion(f: FunctionBuilder, core: RegionCore, settings: RegionSettings, plan: RegionPlan): void {
  new RegionFunction(f, core, settings, plan).emit()
}
