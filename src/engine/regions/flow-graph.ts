/**
 * Order and dominators of a region's blocks, as structured control flow needs them (N. Ramsey, "Beyond Relooper: Recursive
 * Translation of Unstructured Control Flow to Structured Control Flow", ICFP 2022; dominators after Cooper, Harvey and
 * Kennedy, "A Simple, Fast Dominance Algorithm").
 *
 * A graph with several entries begins with a node of its own in front of them, the dispatch. It is the root then, and loops
 * may be closed through it from anywhere, as it dominates all.
 *
 * Blocks that cannot be reached from the root are not in the order. An edge back to a block that does not dominate its
 * source makes the graph irreducible: `isIrreducible` names such edges.
 */

export interface FlowGraph {
  /** The only entry, or the dispatch: the number behind those of the blocks. */
  readonly root: number
  /** Of the blocks, and behind them of the dispatch. */
  readonly successors: readonly (readonly number[])[]
  /** Reverse postorder. */
  readonly order: readonly number[]
  /** Position in the order, −1: unreachable. */
  readonly position: readonly number[]
  readonly immediateDominator: readonly number[]
  /** Blocks that this one dominates immediately, in order. */
  readonly children: readonly (readonly number[])[]
  readonly isLoopHeader: readonly boolean[]
  /** Reached by several forward edges, or from the dispatch. */
  readonly isMerge: readonly boolean[]
  isBackEdge(from: number, to: number): boolean
  isIrreducible(from: number, to: number): boolean
}

function reversePostorder(successors: readonly (readonly number[])[], root: number): number[] {
  const seen = new Set([root])
  const order: number[] = []
  const stack = [{ node: root, next: 0 }]
  while (stack.length > 0) {
    const top = stack.at(-1)!
    const successor = successors[top.node]![top.next++]
    if (successor === undefined) {
      order.push(top.node)
      stack.pop()
    } else if (!seen.has(successor)) {
      seen.add(successor)
      stack.push({ node: successor, next: 0 })
    }
  }
  return order.reverse()
}

export function analyzeFlow(blockSuccessors: readonly (readonly number[])[], entries: readonly number[]): FlowGraph {
  const hasDispatch = entries.length > 1
  const successors = hasDispatch ? [...blockSuccessors, entries] : blockSuccessors
  const root = hasDispatch ? blockSuccessors.length : entries[0]!
  const size = successors.length
  const order = reversePostorder(successors, root)
  const position: number[] = Array(size).fill(-1)
  order.forEach((node, index) => {
    position[node] = index
  })
  const predecessors: number[][] = Array.from({ length: size }, () => [])
  for (const node of order) for (const successor of successors[node]!) predecessors[successor]!.push(node)

  const immediateDominator: number[] = Array(size).fill(-1)
  immediateDominator[root] = root
  const common = (left: number, right: number): number => {
    let a = left
    let b = right
    while (a !== b) {
      while (position[a]! > position[b]!) a = immediateDominator[a]!
      while (position[b]! > position[a]!) b = immediateDominator[b]!
    }
    return a
  }
  for (let changed = true; changed; ) {
    changed = false
    for (const node of order.slice(1)) {
      const next = predecessors[node]!.filter((from) => immediateDominator[from] !== -1).reduce(common)
      if (immediateDominator[node] !== next) {
        immediateDominator[node] = next
        changed = true
      }
    }
  }

  const dominates = (a: number, b: number): boolean => {
    let node = b
    while (position[node]! > position[a]!) node = immediateDominator[node]!
    return node === a
  }
  const isBackEdge = (from: number, to: number): boolean => position[to]! <= position[from]!
  const isIrreducible = (from: number, to: number): boolean => isBackEdge(from, to) && !dominates(to, from)
  const children: number[][] = Array.from({ length: size }, () => [])
  const isLoopHeader: boolean[] = Array(size).fill(false)
  const isMerge: boolean[] = Array(size).fill(false)
  for (const node of order) {
    if (node !== root) children[immediateDominator[node]!]!.push(node)
    const sources = predecessors[node]!
    isLoopHeader[node] = sources.some((from) => isBackEdge(from, node) && !isIrreducible(from, node))
    isMerge[node] = sources.filter((from) => !isBackEdge(from, node)).length > 1
  }
  if (hasDispatch) for (const entry of entries) isMerge[entry] = true
  return {
    root,
    successors,
    order,
    position,
    immediateDominator,
    children,
    isLoopHeader,
    isMerge,
    isBackEdge,
    isIrreducible,
  }
}
