/**
 * Which code becomes one region: from a hot place on, along branches and jumps whose targets are known, as long as they stay
 * in the page and the region stays small. Calls are followed into the function, and the place behind them belongs to the
 * region too, so that a return can find it without leaving.
 *
 * Only code that has run is taken: what the interpreter never decoded is the cold side of its branches.
 *
 * A region knows offsets in its page and nothing of virtual addresses: whoever maps the page anywhere can run it.
 */

import { pageBytes } from '../../base/units.ts'
import { type Decoded, decode, isCompressed } from '../../riscv/decoder.ts'

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
  /** JALR: wherever it says. `returns` are blocks behind calls, where a return may lead. */
  | { readonly kind: 'dynamic'; readonly returns: readonly number[] }
  /** The last instruction's semantics leave the region. */
  | { readonly kind: 'system' }

export interface Block {
  readonly offset: number
  readonly instructions: readonly PlacedInstruction[]
  readonly terminator: Terminator
}

/** Blocks[0] is where the region starts. */
export interface RegionPlan {
  readonly blocks: readonly Block[]
}

const systemNames = new Set(['ecall', 'ebreak', 'mret', 'sret', 'wfi', 'fence.i', 'sfence.vma'])
const linkRegister = 1

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

/**
 * @param page the bytes of the physical page
 * @param hasRun whether the instruction at an offset has ever run
 * @returns undefined where the first instruction is not one for a region
 */
export function discover(page: DataView, entry: number, hasRun: (offset: number) => boolean): RegionPlan | undefined {
  const found = new Map<number, Decoded>()
  const leaders = new Set<number>([entry])
  const behindCalls = new Set<number>()
  const queue = [entry]
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
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
        break
      }
      offset = following
    }
  }
  if (!found.has(entry)) return undefined
  return { blocks: blocksOf(found, leaders, behindCalls, entry) }
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
  const returns = [...behindCalls].flatMap((offset) => numberOf.get(offset) ?? [])
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
