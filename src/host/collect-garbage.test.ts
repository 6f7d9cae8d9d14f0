import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cachedDataVersionTag } from 'node:v8'
import { collectGarbage } from './collect-garbage.ts'

test('a collection frees what nothing reaches, before it returns', () => {
  const before = process.memoryUsage().heapUsed
  ;(() => new Array(2_000_000).fill(0).map((_, index) => ({ index })))()
  const grown = process.memoryUsage().heapUsed
  collectGarbage()
  const after = process.memoryUsage().heapUsed
  assert.ok(grown - before > 20_000_000 && after - before < 5_000_000, `${before}, ${grown}, ${after}`)
})

test('code that was kept compiled holds after it: V8 has the flags it had', () => {
  const tag = cachedDataVersionTag()
  collectGarbage()
  assert.equal(cachedDataVersionTag(), tag)
  assert.equal('gc' in globalThis, false)
})
