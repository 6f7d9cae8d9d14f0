import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EffectQueue } from './effect-queue.ts'

test('effects that a carried-out effect brings come after the rest of its list', () => {
  const queue = new EffectQueue()
  const seen: string[] = []
  const note = (effect: string): void => {
    seen.push(effect)
    if (effect === 'a') queue.run(['a1', 'a2'], note)
  }
  queue.run(['a', 'b'], note)
  assert.deepEqual(seen, ['a', 'b', 'a1', 'a2'])
})

test('an effect that fails does not keep later facts from being carried out', () => {
  const queue = new EffectQueue()
  const seen: string[] = []
  assert.throws(() =>
    queue.run(['bad'], () => {
      throw new Error('broken')
    }),
  )
  queue.run(['good'], (effect) => seen.push(effect))
  assert.deepEqual(seen, ['good'])
})
