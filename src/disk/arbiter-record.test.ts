import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ArbiterRecord, type Ruling } from './arbiter-record.ts'

/** Machine web, held by a in generation 1, with b and c eligible. */
function heldByA(): ArbiterRecord {
  return ArbiterRecord.fresh('web').start('a').next.setEligible('a', 1, ['b', 'c']).next
}

test('a start takes the next generation and makes nobody eligible', () => {
  const { answer, next } = ArbiterRecord.fresh('web').start('a')
  assert.deepEqual(answer, { granted: true, generation: 1 })
  assert.deepEqual(next.fields, {
    machine: 'web',
    generation: 1,
    holder: 'a',
    heldSince: 1,
    takenBy: 'start',
    eligible: [],
    spent: [],
  })
  assert.deepEqual(heldByA().start('z').next.fields.eligible, [])
})

test('a start is refused while the holder is connected or awaited, and changes nothing', () => {
  const record = heldByA()
  for (const reason of ['holder-connected', 'holder-awaited'] as const) {
    const { answer, next } = record.start('b', reason)
    assert.deepEqual(answer, { granted: false, reason, generation: 1, holder: 'a' })
    assert.equal(next, record)
    assert.ok(ArbiterRecord.fresh('web').start('b', reason).answer.granted, 'nobody holds it: nobody is awaited')
  }
})

test('the first eligible replica wins the test-and-set, everybody else loses', () => {
  const won = heldByA().testAndSet('b', 1)
  assert.deepEqual(won.answer, { won: true, generation: 2 })
  assert.equal(won.next.fields.holder, 'b')
  assert.deepEqual(won.next.testAndSet('c', 1).answer, { won: false, generation: 2, holder: 'b', isEligible: false })
})

test('a retry by the winner is answered the same, also after it named a backup or opened a generation', () => {
  const won = heldByA().testAndSet('b', 1)
  const retry = won.next.testAndSet('b', 1)
  assert.deepEqual(retry.answer, won.answer)
  assert.equal(retry.next, won.next)
  const later = won.next.setEligible('b', 2, ['d']).next.openGeneration('b', 2, ['d']).next
  assert.deepEqual(later.testAndSet('b', 1).answer, won.answer)
})

test('a backup that asks for a generation that is over learns in which one it is eligible, and may win that', () => {
  const record = ArbiterRecord.fresh('shop').start('a').next.openGeneration('a', 1, ['b', 'c']).next
  const later = record.openGeneration('a', 2, ['b']).next
  assert.deepEqual(later.testAndSet('b', 2).answer, { won: false, generation: 3, holder: 'a', isEligible: true })
  assert.deepEqual(later.testAndSet('c', 2).answer, { won: false, generation: 3, holder: 'a', isEligible: false })
  assert.deepEqual(later.testAndSet('b', 2).next.testAndSet('b', 3).answer, { won: true, generation: 4 })
})

test('a replica that is not eligible loses, the holder too', () => {
  assert.deepEqual(heldByA().testAndSet('x', 1).answer, { won: false, generation: 1, holder: 'a', isEligible: false })
  assert.deepEqual(heldByA().testAndSet('a', 1).answer, { won: false, generation: 1, holder: 'a', isEligible: false })
})

test('a test-and-set of a generation that is not the present one loses', () => {
  assert.equal(heldByA().testAndSet('b', 0).answer.won, false)
  assert.equal(heldByA().testAndSet('b', 2).answer.won, false)
})

test('a holder by start is not taken for the winner of a test-and-set', () => {
  const startedByB = heldByA().start('b').next
  assert.deepEqual(startedByB.testAndSet('b', 1).answer, { won: false, generation: 2, holder: 'b', isEligible: false })
})

test('only the holder names backups, and only in the present generation', () => {
  const refusal = { accepted: false, reason: 'not-holder', generation: 1, holder: 'a' }
  assert.deepEqual(heldByA().setEligible('b', 1, ['b']).answer, refusal)
  assert.deepEqual(heldByA().setEligible('a', 0, ['b']).answer, refusal)
  const afterLoss = heldByA().testAndSet('b', 1).next
  assert.equal(afterLoss.setEligible('a', 1, []).answer.accepted, false)
})

test('a backup that was dropped cannot win the generation', () => {
  const record = heldByA().setEligible('a', 1, ['c']).next
  assert.equal(record.testAndSet('b', 1).answer.won, false)
  assert.equal(record.testAndSet('c', 1).answer.won, true)
})

test('a backup that was dropped or lost needs a new generation, so that its late question cannot win', () => {
  const dropped = heldByA().setEligible('a', 1, []).next
  assert.deepEqual(dropped.setEligible('a', 1, ['b']).answer, {
    accepted: false,
    reason: 'spent',
    generation: 1,
    holder: 'a',
  })
  const lost = heldByA().testAndSet('x', 1).next
  assert.equal(lost.setEligible('a', 1, ['x']).answer.accepted, false)
  const opened = dropped.openGeneration('a', 1, ['b'])
  assert.deepEqual(opened.answer, { accepted: true, generation: 2 })
  assert.equal(opened.next.testAndSet('b', 1).answer.won, false, 'the late question')
  assert.equal(opened.next.testAndSet('b', 2).answer.won, true)
})

test('opening a generation keeps the hold, and its retry is answered the same', () => {
  const opened = heldByA().openGeneration('a', 1, ['d'])
  assert.deepEqual(opened.next.openGeneration('a', 1, ['d']).answer, opened.answer)
  assert.equal(opened.next.isHeldBy('a', 1), true)
  assert.equal(opened.next.isHeldBy('a', 2), true)
  assert.equal(opened.next.isHeldBy('a', 3), false)
  assert.equal(opened.next.openGeneration('d', 2, []).answer.accepted, false)
})

test('the same name that takes the machine again does not hold the older generation', () => {
  const restarted = heldByA().start('a').next
  assert.equal(restarted.isHeldBy('a', 1), false)
  assert.equal(restarted.isHeldBy('a', 2), true)
})

test('after a release nobody holds the machine and no backup may take it', () => {
  const released = heldByA().release('a', 1)
  assert.deepEqual(released.answer, { accepted: true, generation: 1 })
  assert.equal(released.next.fields.holder, null)
  assert.deepEqual(released.next.testAndSet('b', 1).answer, {
    won: false,
    generation: 1,
    holder: null,
    isEligible: false,
  })
  assert.deepEqual(released.next.release('a', 1).answer, released.answer)
  assert.equal(heldByA().release('b', 1).answer.accepted, false)
  assert.deepEqual(released.next.start('b').answer, { granted: true, generation: 2 })
})

test('whatever is asked in whatever order, a generation is granted to one replica and never goes back', () => {
  const replica = fc.constantFrom('a', 'b', 'c')
  const generation = fc.nat(6)
  const eligible = fc.subarray(['a', 'b', 'c'])
  const operation = fc.oneof(
    fc.record({
      op: fc.constant('start' as const),
      replica,
      obstacle: fc.constantFrom(undefined, 'holder-connected' as const),
    }),
    fc.record({ op: fc.constant('testAndSet' as const), replica, generation }),
    fc.record({ op: fc.constant('setEligible' as const), replica, generation, eligible }),
    fc.record({ op: fc.constant('openGeneration' as const), replica, generation, eligible }),
    fc.record({ op: fc.constant('release' as const), replica, generation }),
  )
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 40 }), (operations) => {
      let record = ArbiterRecord.fresh('web')
      const holderOf = new Map<number, string>()
      for (const step of operations) {
        const before = record.fields
        const ruling = ((): Ruling<unknown> & { granted?: number } => {
          switch (step.op) {
            case 'start': {
              const ruled = record.start(step.replica, step.obstacle)
              return ruled.answer.granted ? { ...ruled, granted: ruled.answer.generation } : ruled
            }
            case 'testAndSet': {
              const ruled = record.testAndSet(step.replica, step.generation)
              return ruled.answer.won ? { ...ruled, granted: ruled.answer.generation } : ruled
            }
            case 'setEligible':
              return record.setEligible(step.replica, step.generation, step.eligible)
            case 'openGeneration':
              return record.openGeneration(step.replica, step.generation, step.eligible)
            case 'release':
              return record.release(step.replica, step.generation)
          }
        })()
        record = ruling.next
        assert.ok(record.fields.generation >= before.generation)
        assert.ok(record.fields.generation <= before.generation + 1)
        if (ruling.granted !== undefined) {
          const earlier = holderOf.get(ruling.granted)
          assert.ok(earlier === undefined || earlier === step.replica, 'one generation, two holders')
          holderOf.set(ruling.granted, step.replica)
        }
        const changedHands = record.fields.holder !== before.holder && record.fields.holder !== null
        if (changedHands) assert.equal(record.fields.generation, before.generation + 1)
        assert.ok(record.fields.eligible.every((name) => !record.fields.spent.includes(name)))
      }
    }),
    { numRuns: 500 },
  )
})
