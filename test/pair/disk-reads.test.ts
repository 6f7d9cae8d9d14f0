/** VMware FT's disk reads on the backup, in whole pairs: whatever comes when, every replica reads what the primary has read. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { epochProtocols } from '../../src/log/discipline.ts'
import { forSeeds } from '../support/for-seeds.ts'
import { type Faults, type Setup, ToyPair } from '../support/toy-pair.ts'

/** Runs replicas that read for themselves; one that reads something else fails the run as a divergence. */
function run(seed: number, faults: Faults, backups = 1, setup: Setup = {}) {
  const pair = new ToyPair(seed, faults, { ...setup, backups, backupReads: true })
  pair.run(600)
  const live = pair.replicas.filter(({ isLive }) => isLive)
  assert.ok(live.length <= 1, 'two live machines')
  return { pair, live }
}

test('no fault: the backup reads the disk itself, and follows to the end', () => {
  forSeeds(60, (seed) => {
    const { pair, live } = run(seed, { isPatient: true })
    assert.deepEqual(live, [pair.a])
    assert.equal(pair.check(pair.a).repeated, 0)
    assert.equal(pair.b.machine.digest(), pair.a.machine.digest())
  })
})

test('primary killed at any point, also before the backup has read what it has to replay', () => {
  let failovers = 0
  forSeeds(150, (seed) => {
    const { pair, live } = run(seed, { kill: 'primary' })
    if (pair.b.halted === 'neverPaired' || pair.a.primary?.state === 'asking') return
    assert.deepEqual(live, [pair.b])
    failovers += pair.goneLive
    pair.check(pair.b)
  })
  assert.ok(failovers > 100, `${failovers} failovers`)
})

test('several backups: the winner and those that follow it read what the first primary read, one failover after the other', () => {
  let failovers = 0
  forSeeds(150, (seed) => {
    const { pair, live } = run(seed, { killLive: 2 }, 2)
    failovers += pair.goneLive
    if (live[0]) pair.check(live[0])
  })
  assert.ok(failovers > 150, `${failovers} failovers`)
})

test('channel cut, disk out of reach of one side: nobody takes other data for what the primary read', () => {
  forSeeds(100, (seed) => {
    const cases: readonly [Faults, number][] = [
      [{ partition: 'a' }, 2],
      [{ outOfReach: { who: 'backup', what: 'disk' } }, 1],
      [{ outOfReach: { who: 'primary', what: 'disk' } }, 1],
    ]
    for (const [faults, backups] of cases) {
      const { pair, live } = run(seed, faults, backups)
      if (live[0]) pair.check(live[0])
    }
  })
})

for (const protocol of epochProtocols) {
  test(`in epochs, primary killed at any point: the backup has read what the log leaves out (${protocol})`, () => {
    let failovers = 0
    const epochs = { kind: 'epoch', protocol, instructions: 1000 } as const
    forSeeds(80, (seed) => {
      const { pair, live } = run(seed, { kill: 'primary' }, 1, { epochs, bus: 'scsi' })
      if (pair.b.halted === 'neverPaired' || pair.a.primary?.state === 'asking') return
      assert.deepEqual(live, [pair.b])
      failovers += pair.goneLive
      pair.check(pair.b)
    })
    assert.ok(failovers > 50, `${failovers} failovers`)
  })
}
