/** This check can fail: every mutation of mutations.ts makes its test fail, and the test passes without it. */

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { MutatedTree } from './mutated-tree.ts'
import { describeNoticer, mutations } from './mutations.ts'

let tree: MutatedTree
before(() => {
  tree = new MutatedTree()
})
after(() => {
  tree[Symbol.dispose]()
})

describe('the tests that are to notice pass on the sources as they are', () => {
  const tests = new Map(mutations.map(({ noticedBy }) => [describeNoticer(noticedBy), noticedBy]))
  for (const [name, noticedBy] of tests) {
    test(name, () => {
      const { verdict, output } = tree.run(noticedBy)
      assert.equal(verdict, 'passed', output)
    })
  }
})

describe('a mutation makes its test fail', () => {
  for (const mutation of mutations) {
    test(mutation.name, () => {
      const { verdict, output } = tree.during(mutation, () => tree.run(mutation.noticedBy))
      assert.equal(verdict, 'failed', output)
    })
  }
})

test('a mutation whose text is gone from the source, or stands there twice, is an error', () => {
  const mutation = mutations[0]!
  assert.throws(() => tree.during({ ...mutation, from: 'text that is gone' }, () => 0), /occurs 0 times/)
  assert.throws(() => tree.during({ ...mutation, from: 'entry' }, () => 0), /occurs \d+ times/)
})
