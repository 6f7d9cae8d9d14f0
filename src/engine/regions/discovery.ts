/**
 * Which code becomes one region: from a hot place on, along branches and jumps whose targets are known, as long as they stay
 * in the page and the region stays small. Calls are followed into the function, and the place behind them belongs to the
 * region too, so that a return can find it without leaving. Where a jump table leads nobody can tell from the code: places
 * nearby that were reached from afar are taken for its targets.
 *
 * A region has several entries: wherever else control came in from afar, and where its own jumps of unknown target may
 * lead. One copy of the code serves all of them.
 *
 * Only code that has run is taken: what the interpreter never decoded is the cold side of its branches.
 *
 * A region knows offsets in its page and nothing of virtual addresses: whoever maps the page anywhere can run it.
 */

import { pageBytes } from '../../base/units.ts'
import { type Decoded, decode, isCompressed } from '../../riscv/decoder.ts'
import { analyzeFlow, type FlowGraph } from './flow-graph.ts'

/** TurboFan's time grows faster than the region; beyond this many instructions a region is several. */
export const mostInstructions = 256

export interface PlacedInstruction {
  /** Offset in the page. */
  readonly offset: number
  readonly decoded: Decoded
}

/** Where control goes: to a block of the region, or out of it, to an offset that may be outside the page. */
export type Target =
  | { readonly kind: 'block'; readonly block: number }
  | { readonly kind: 'outside'; readonly offset: number }

export type Terminator =
  | { readonly kind: 'goto'; readonly target: Target }
  | { readonly kind: 'branch'; readonly taken: Target; readonly otherwise: Target }
  /** JALR: wherever it says. `returns` are blocks behind calls, if there are only a few where a return may lead. */
  | { readonly kind: 'dynamic'; readonly returns: readonly number[] }
  /** The last instruction's semantics leave the region. */
  | { readonly kind: 'system' }

export interface Block {
  readonly offset: number
  readonly instructions: readonly PlacedInstruction[]
  readonly terminator: Terminator
}

export interface RegionPlan {
  /** The first one is where the hot place is. */
  readonly blocks: readonly Block[]
  /** Blocks that can be entered; more than one: there is a dispatch in front of them. */
  readonly entries: readonly number[]
  readonly graph: FlowGraph
}

/** What is known of a place in the page. */
export interface KnownPlaces {
  /** The instruction there has run. */
  readonly hasRun: (offset: number) => boolean
  /** Control came there from afar. */
  readonly isReached: (offset: number) => boolean
}

const systemNames = new Set(['ecall', 'ebreak', 'mret', 'sret', 'wfi', 'fence.i', 'sfence.vma'])
const linkRegister = 1
/** So many compares find a return's target sooner than the dispatch. */
const mostReturns = 3
/** How far from its jump a jump table's targets are looked for. */
const jumpTableReachBytes = 1024

function decodeAt(page: DataView, offset: number): Decoded | undefined {
  const low = page.getUint16(offset, true)
  if (isCompressed(low)) return decode(low)
  // An instruction across two pages is the interpreter's.
  return offset + 4 <= pageBytes ? decode(page.getInt32(offset, true)) : undefined
}

function endsBlock({ instruction }: Decoded): boolean {
  return (
    instruction.format === 'B' ||
    instruction.format === 'J' ||
    instruction.name === 'jalr' ||
    systemNames.has(instruction.name)
  )
}

/** Places that control may reach next, this page's or not; calls also name the place behind them. */
function successors(offset: number, decoded: Decoded): number[] {
  const { instruction, immediate, rd, lengthBytes } = decoded
  const following = offset + lengthBytes
  if (instruction.format === 'B') return [following, offset + immediate]
  if (instruction.format === 'J') {
    return rd === linkRegister ? [offset + immediate, following] : [offset + immediate]
  }
  if (instruction.name === 'jalr' && rd === linkRegister) return [following]
  return []
}

/** A jump through a table, or of a function to its successor; no call and no return. */
function isComputedJump({ instruction, rd, rs1 }: Decoded): boolean {
  return instruction.name === 'jalr' && rd === 0 && rs1 !== linkRegister
}

/**
 * @param page the bytes of the physical page
 * @returns undefined where the first instruction is not one for a region
 */
export function discover(page: DataView, entry: number, { hasRun, isReached }: KnownPlaces): RegionPlan | undefined {
  const found = new Map<number, Decoded>()
  const leaders = new Set<number>([entry])
  const behindCalls = new Set<number>()
  const queue = [entry]
  /** Where jump tables may lead; after everything that is certain. */
  const uncertain: number[] = []
  const takeNext = (): number | undefined => queue.shift() ?? uncertain.shift()
  for (let next = takeNext(); next !== undefined; next = takeNext()) {
    for (let offset = next; offset < pageBytes && !found.has(offset) && found.size < mostInstructions; ) {
      const decoded = hasRun(offset) ? decodeAt(page, offset) : undefined
      if (!decoded) break
      found.set(offset, decoded)
      const following = offset + decoded.lengthBytes
      if (endsBlock(decoded)) {
        const isCall = decoded.rd === linkRegister && decoded.instruction.format !== 'B'
        for (const successor of successors(offset, decoded)) {
          if (successor < 0 || successor >= pageBytes) continue
          if (isCall && successor === following) behindCalls.add(successor)
          if (!leaders.has(successor)) queue.push(successor)
          leaders.add(successor)
        }
        if (isComputedJump(decoded)) {
          const last = Math.min(offset + jumpTableReachBytes, pageBytes - 2)
          for (let place = Math.max(offset - jumpTableReachBytes, 0); place <= last; place += 2) {
            if (isReached(place)) uncertain.push(place)
          }
        }
        break
      }
      offset = following
    }
  }
  if (!found.has(entry)) return undefined
  const entries = new Set([entry])
  for (const offset of found.keys()) {
    if (!isReached(offset)) continue
    leaders.add(offset)
    entries.add(offset)
  }
  const blocks = blocksOf(found, leaders, behindCalls, entry)
  const numbers = blocks.flatMap(({ offset }, number) => (entries.has(offset) ? [number] : []))
  return withEntries(blocks, numbers)
}

/** Where irreducible control flow would leave the region, it goes through the dispatch: its targets become entries. */
function withEntries(blocks: readonly Block[], entries: readonly number[]): RegionPlan {
  const successors = blocks.map(blockSuccessors)
  const all = new Set(entries)
  for (;;) {
    const graph = analyzeFlow(successors, [...all])
    const before = all.size
    for (const from of graph.order) {
      for (const to of successors[from] ?? []) if (graph.isIrreducible(from, to)) all.add(to)
    }
    if (all.size === before) return { blocks, entries: [...all], graph }
  }
}

/** Blocks that control may go to without leaving, where that is known. */
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

function blocksOf(
  found: ReadonlyMap<number, Decoded>,
  leaders: ReadonlySet<number>,
  behindCalls: ReadonlySet<number>,
  entry: number,
): Block[] {
  const starts = [entry, ...[...leaders].filter((offset) => offset !== entry && found.has(offset))]
  const numberOf = new Map(starts.map((offset, index) => [offset, index]))
  const targetAt = (offset: number): Target => {
    const block = numberOf.get(offset)
    return block === undefined ? { kind: 'outside', offset } : { kind: 'block', block }
  }
  const behind = [...behindCalls].flatMap((offset) => numberOf.get(offset) ?? [])
  const returns = behind.length <= mostReturns ? behind : []
  return starts.map((start) => {
    const instructions: PlacedInstruction[] = []
    for (let offset = start; ; ) {
      const decoded = found.get(offset)
      if (!decoded) return { offset: start, instructions, terminator: { kind: 'goto', target: targetAt(offset) } }
      instructions.push({ offset, decoded })
      const following = offset + decoded.lengthBytes
      if (endsBlock(decoded)) {
        return { offset: start, instructions, terminator: terminatorOf(offset, decoded, targetAt, returns) }
      }
      offset = following
      if (numberOf.has(offset))
        return { offset: start, instructions, terminator: { kind: 'goto', target: targetAt(offset) } }
    }
  })
}

function terminatorOf(
  offset: number,
  { instruction, immediate, lengthBytes, rd, rs1 }: Decoded,
  targetAt: (offset: number) => Target,
  returns: readonly number[],
): Terminator {
  if (instruction.format === 'B') {
    return { kind: 'branch', taken: targetAt(offset + immediate), otherwise: targetAt(offset + lengthBytes) }
  }
  if (instruction.format === 'J') return { kind: 'goto', target: targetAt(offset + immediate) }
  if (instruction.name === 'jalr') return { kind: 'dynamic', returns: rd === 0 && rs1 === linkRegister ? returns : [] }
  return { kind: 'system' }
}
