import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backupTransitions, moveTo, primaryTransitions } from './roles.ts'

test('a replica never leaves a state by a way that is not in the table', () => {
  for (const table of [primaryTransitions, backupTransitions] as const) {
    const states = Object.keys(table) as (keyof typeof table)[]
    for (const from of states) {
      for (const to of states) {
        const isDrawn = (table[from] as readonly string[]).includes(to)
        if (isDrawn) assert.equal(moveTo(table as never, from as never, to as never), to)
        else assert.throws(() => moveTo(table as never, from as never, to as never), /never goes from/)
      }
    }
  }
})

test('halted and live are final, and who asks never goes back to what it was in that generation', () => {
  assert.deepEqual(primaryTransitions.halted, [])
  assert.deepEqual(backupTransitions.halted, [])
  assert.deepEqual(backupTransitions.live, [])
  assert.ok(!backupTransitions.asking.includes('replaying'))
  assert.ok(!backupTransitions.goingLive.includes('replaying'))
})
