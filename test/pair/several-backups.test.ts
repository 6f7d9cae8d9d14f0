/** Three and four replicas of one machine, in every interleaving that the seeds come upon. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forSeeds } from '../support/for-seeds.ts'
import { type Faults, ToyPair } from '../support/toy-pair.ts'

function run(seed: number, faults: Faults, backups = 2, steps = 900) {
  const group = new ToyPair(seed, faults, { backups })
  group.run(steps)
  // One that asks, and has not heard yet that it lost, releases nothing.
  const live = group.replicas.filter(({ isLive, primary }) => isLive && primary?.state !== 'asking')
  assert.ok(live.length <= 1, 'two live machines')
  return { group, live, survivor: live[0] }
}

test('no fault: every output reaches the world once, and both backups follow to the end', () => {
  forSeeds(30, (seed) => {
    const { group, live } = run(seed, { isPatient: true })
    assert.deepEqual(live, [group.a])
    assert.equal(group.check(group.a).repeated, 0)
    for (const { machine } of group.replicas) assert.equal(machine.digest(), group.a.machine.digest())
  })
})

test('primary killed at any point: exactly one backup wins, the other follows it, and the machine is protected again', () => {
  const winners = new Set<string>()
  let reattached = 0
  let leftBehind = 0
  forSeeds(150, (seed) => {
    const { group, survivor } = run(seed, { killLive: 1, isPatient: true })
    if (group.goneLive === 0) return
    assert.ok(survivor)
    winners.add(survivor.name)
    group.check(survivor)
    const loser = group.replicas.find((replica) => replica !== survivor && replica !== group.a)!
    if (loser.halted === undefined) {
      reattached++
      assert.equal(survivor.primary?.state, 'protected')
      assert.equal(loser.machine.digest(), survivor.machine.digest(), 'the loser replays what the winner runs')
    } else {
      assert.equal(loser.halted, 'refused', 'the winner called it too late, and it had run past its end')
      leftBehind++
    }
  })
  assert.deepEqual([...winners].sort(), ['b', 'c'], 'either can win')
  assert.ok(reattached > 100 && leftBehind < 10, `${reattached} followed the winner, ${leftBehind} did not`)
})

test('two primaries killed, one after the other: the third replica has everything the world has seen', () => {
  let second = 0
  forSeeds(120, (seed) => {
    const { group, survivor } = run(seed, { killLive: 2, isPatient: true }, 2, 1500)
    if (group.goneLive < 2) return
    second++
    group.check(survivor!)
  })
  assert.ok(second > 60, `${second} second failovers`)
})

test('the winner killed before it has backups of its own: the other one is still eligible, and has everything the world has seen', () => {
  let second = 0
  forSeeds(200, (seed) => {
    const { group, survivor } = run(seed, { killLive: 1, killWinner: true, isPatient: true }, 2, 1500)
    if (!group.killedWinner) return
    second++
    assert.ok(survivor, 'the machine lives')
    group.check(survivor)
  })
  assert.ok(second > 60, `${second} winners killed`)
})

test('three backups, and the winner killed before it has any of its own: of two heirs one takes over, whoever is cut off besides', () => {
  let second = 0
  forSeeds(40, (seed) => {
    for (const faults of [{ isPatient: true }, { partition: 'b' }, { partition: 'c' }] as const) {
      const { group, survivor } = run(seed, { killLive: 1, killWinner: true, ...faults }, 3, 1500)
      if (!group.killedWinner) continue
      second++
      assert.ok(survivor, 'the machine lives')
      group.check(survivor)
    }
  })
  assert.ok(second > 60, `${second} winners killed`)
})

test('three backups, and the live one killed twice: whoever is left is one machine', () => {
  forSeeds(60, (seed) => {
    const { group, survivor } = run(seed, { killLive: 2, isPatient: true }, 3, 1500)
    if (survivor) group.check(survivor)
  })
})

test('slow channels and impatient detectors on top: never two live, nothing lost', () => {
  forSeeds(100, (seed) => {
    for (const faults of [{ killLive: 1 }, { partition: 'a' }, { partition: 'c' }, { kill: 'backup' }] as const) {
      const { group, survivor } = run(seed, faults)
      if (survivor && group.a.primary?.state !== 'starting') group.check(survivor)
    }
  })
})

test('one backup cut off: the record drops it, outputs go on with the other; or it takes over, and all of them agree', () => {
  let dropped = 0
  forSeeds(80, (seed) => {
    const { group, survivor } = run(seed, { partition: 'c' })
    if (group.a.primary?.state === 'starting' || !survivor) return
    group.check(survivor)
    // It asks too, and may be the first.
    if (survivor !== group.a) return
    dropped++
    assert.equal(group.replicas[2]!.halted, 'lostArbitration')
  })
  assert.ok(dropped > 5, `${dropped} times the primary went on`)
})

test('primary cut off from both: one backup wins, the other follows it, the old primary halts', () => {
  let failovers = 0
  forSeeds(80, (seed) => {
    const { group, survivor } = run(seed, { partition: 'a' })
    if (!survivor || survivor === group.a || group.goneLive === 0) return
    failovers++
    group.check(survivor)
    assert.equal(group.a.halted, 'lostArbitration')
  })
  assert.ok(failovers > 20, `${failovers} failovers`)
})

test('arbiter out of reach, answers lost, and a kill on top: never two live, nothing lost', () => {
  forSeeds(100, (seed) => {
    const { survivor, group } = run(seed, { killLive: 1, arbiterOutage: true })
    if (survivor && survivor.primary?.state !== 'asking' && survivor.primary?.state !== 'starting')
      group.check(survivor)
  })
})
