import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forSeeds } from '../support/for-seeds.ts'
import { type Faults, ToyPair } from '../support/toy-pair.ts'

/** Runs one pair from a seed, and returns who lives at the end. */
function survivors(seed: number, faults: Faults) {
  const pair = new ToyPair(seed, faults)
  pair.run(600)
  const live = pair.replicas.filter((replica) => replica.isLive)
  assert.ok(live.length <= 1, 'two live machines')
  return { pair, live }
}

test('no fault: every output reaches the world once, and the backup follows to the end', () => {
  forSeeds(40, (seed) => {
    const { pair, live } = survivors(seed, { isPatient: true })
    assert.deepEqual(live, [pair.a])
    assert.equal(pair.check(pair.a).repeated, 0)
    assert.equal(pair.b.machine.digest(), pair.a.machine.digest())
  })
})

test('primary killed at any point: the backup goes live, and no released output is lost or contradicted', () => {
  let failovers = 0
  let repeated = 0
  forSeeds(150, (seed) => {
    const { pair, live } = survivors(seed, { kill: 'primary' })
    // Before it was killed it may have had its backup dropped, for being slow.
    if (pair.b.halted === 'neverPaired' || pair.a.primary?.state === 'asking') return
    assert.deepEqual(live, [pair.b])
    failovers += pair.goneLive
    repeated += pair.check(pair.b).repeated
  })
  assert.ok(failovers > 100 && repeated > 0, `${failovers} failovers, ${repeated} repeated outputs`)
})

test('backup killed at any point: the primary goes on alone, and everything it held is released', () => {
  forSeeds(60, (seed) => {
    const { pair, live } = survivors(seed, { kill: 'backup', isPatient: true })
    if (pair.a.primary?.state === 'starting') return
    assert.deepEqual(live, [pair.a])
    assert.equal(pair.a.primary?.state, 'alone')
    assert.equal(pair.check(pair.a).repeated, 0)
  })
})

test('channel cut while both live: exactly one wins, the other halts, and the world sees one machine', () => {
  const winners = new Set<string>()
  forSeeds(150, (seed) => {
    const { pair, live } = survivors(seed, { partition: 'a' })
    if (pair.b.halted === 'neverPaired' || pair.a.primary?.state === 'starting') return
    assert.equal(live.length, 1)
    winners.add(live[0]!.name)
    pair.check(live[0]!)
    for (const replica of pair.replicas) {
      if (replica !== live[0]) assert.equal(replica.halted, 'lostArbitration')
    }
  })
  assert.deepEqual([...winners].sort(), ['a', 'b'], 'either side can win')
})

test('arbiter out of reach, answers lost, and faults on top: never two live, nothing lost', () => {
  forSeeds(100, (seed) => {
    for (const faults of [{ kill: 'primary' }, { partition: 'a' }, { kill: 'backup' }] as const) {
      const { pair, live } = survivors(seed, { ...faults, arbiterOutage: true })
      if (pair.a.primary?.state === 'starting' || pair.b.halted === 'neverPaired') continue
      if (live[0]?.primary?.state === 'asking') continue
      if (live.length === 1) pair.check(live[0]!)
    }
  })
})

test('both killed, or the survivor killed too: the world still has seen one consistent machine', () => {
  forSeeds(80, (seed) => {
    const { pair, live } = survivors(seed, { kill: 'both' })
    assert.equal(live.length, 0)
    pair.check(pair.goneLive > 0 ? pair.b : pair.a)
  })
})

const reaches = ['disk', 'lan'] as const

test('primary alone loses disk or LAN: the backup goes live, the primary hears it and halts, nothing is lost', () => {
  let failovers = 0
  forSeeds(80, (seed) => {
    for (const what of reaches) {
      const { pair, live } = survivors(seed, { outOfReach: { who: 'primary', what }, isPatient: true })
      if (pair.a.primary?.state === 'starting') continue
      failovers += pair.goneLive
      assert.deepEqual(live, [pair.b], what)
      pair.check(pair.b)
    }
  })
  assert.ok(failovers > 100, `${failovers} failovers`)
})

test('backup alone loses disk or LAN: nothing changes', () => {
  forSeeds(40, (seed) => {
    for (const what of reaches) {
      const { pair, live } = survivors(seed, { outOfReach: { who: 'backup', what }, isPatient: true })
      assert.deepEqual(live, [pair.a], what)
      assert.equal(pair.check(pair.a).repeated, 0)
      assert.equal(pair.b.machine.digest(), pair.a.machine.digest())
    }
  })
})

test('both lose disk or LAN: nothing changes', () => {
  forSeeds(40, (seed) => {
    for (const what of reaches) {
      const { pair, live } = survivors(seed, { outOfReach: { who: 'both', what }, isPatient: true })
      assert.deepEqual(live, [pair.a], what)
      assert.equal(pair.b.halted, undefined)
    }
  })
})

test('primary alone loses disk or LAN, and faults on top: never two live, nothing contradicted', () => {
  forSeeds(60, (seed) => {
    for (const what of reaches) {
      for (const faults of [
        { kill: 'primary' },
        { partition: 'a' },
        { kill: 'backup' },
        { arbiterOutage: true },
      ] as const) {
        const { pair, live } = survivors(seed, { ...faults, outOfReach: { who: 'primary', what } })
        if (live[0] === pair.b) pair.check(pair.b)
      }
    }
  })
})
