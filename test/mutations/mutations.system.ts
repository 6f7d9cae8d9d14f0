/** This check can fail: every mutation of mutations.ts makes its test fail, and the test passes without it. */

import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { MutatedTree } from './mutated-tree.ts'
import { type Mutation, mutations, noticersOf } from './mutations.ts'

/** One for each core: most of a mutant's time is that of one process. */
const trees = [new MutatedTree(), new MutatedTree()]
const concurrency = trees.length
after(() => {
  for (const tree of trees) tree[Symbol.dispose]()
})

/** With a tree that nobody else uses meanwhile. */
async function withTree<T>(work: (tree: MutatedTree) => Promise<T>): Promise<T> {
  const tree = trees.pop()
  assert.ok(tree, 'there is a tree for each of those that run at the same time')
  try {
    return await work(tree)
  } finally {
    trees.push(tree)
  }
}

const { testsByFile, seeds } = noticersOf(mutations)

describe('the tests that are to notice pass on the sources as they are', { concurrency }, () => {
  for (const [file, tests] of testsByFile) {
    test(file, async () => {
      const runs = await withTree((tree) => tree.runTests(file, tests))
      const wrong = tests.filter((name) => runs.verdicts.get(name) !== 'passed')
      assert.deepEqual(wrong, [], runs.output)
    })
  }
  test(`the simulator, ${seeds} seeds`, async () => {
    const { verdict, output } = await withTree((tree) => tree.run({ seeds }))
    assert.equal(verdict, 'passed', output)
  })
})

describe('a mutation makes its test fail', { concurrency }, () => {
  for (const mutation of mutations) {
    test(mutation.name, async () => {
      const { verdict, output } = await withTree((tree) => tree.runMutant(mutation))
      assert.equal(verdict, 'failed', output)
    })
  }
})

test('a mutation whose text is gone from the source, or stands there twice, is an error', async () => {
  const mutation: Mutation = mutations[0]!
  await withTree(async (tree) => {
    await assert.rejects(tree.runMutant({ ...mutation, from: 'text that is gone' }), /occurs 0 times/)
    await assert.rejects(tree.runMutant({ ...mutation, from: 'entry' }), /occurs \d+ times/)
  })
})
