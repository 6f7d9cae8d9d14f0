/** Pairs in Bressoud & Schneider's epoch discipline, in any interleaving: what holds for the exact discipline holds for theirs. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeBatch } from '../../src/log/batch.ts'
import { type EpochProtocol, epochProtocols } from '../../src/log/discipline.ts'
import type { DiskBus } from '../../src/machine/types.ts'
import { forSeeds } from '../support/for-seeds.ts'
import { type Faults, ToyPair } from '../support/toy-pair.ts'
import type { ToyReplica } from '../support/toy-replica.ts'

function runPair(seed: number, protocol: EpochProtocol, faults: Faults, bus: DiskBus = 'scsi', backups = 1) {
  const pair = new ToyPair(seed, faults, { backups, bus, epochs: { kind: 'epoch', protocol, instructions: 1000 } })
  pair.run(600)
  const live = pair.replicas.filter((replica) => replica.isLive)
  assert.ok(live.length <= 1, 'two live machines')
  return { pair, live }
}

const entriesOf = ({ batches }: ToyReplica) => batches.flatMap((batch) => decodeBatch(batch.bytes))

for (const protocol of epochProtocols) {
  test(`no fault: the backup follows from epoch to epoch, to the end (${protocol})`, () => {
    let epochs = 0
    forSeeds(40, (seed) => {
      const { pair, live } = runPair(seed, protocol, { isPatient: true })
      assert.deepEqual(live, [pair.a])
      assert.equal(pair.check(pair.a).repeated, 0)
      assert.equal(pair.b.machine.digest(), pair.a.machine.digest())
      epochs += entriesOf(pair.a).filter(({ body }) => body.kind === 'epochEnd').length
    })
    assert.ok(epochs > 50, `${epochs} epochs`)
  })

  for (const bus of ['scsi', 'blk'] as const) {
    test(`primary killed at any point: the failover epoch ends, and no released output is lost or contradicted (${protocol}, ${bus})`, () => {
      const seen = { failovers: 0, repeated: 0, uncertain: 0, finished: 0 }
      forSeeds(150, (seed) => {
        const { pair, live } = runPair(seed, protocol, { kill: 'primary' }, bus)
        if (pair.b.halted === 'neverPaired' || pair.a.primary?.state === 'asking') return
        assert.deepEqual(live, [pair.b])
        seen.failovers += pair.goneLive
        seen.repeated += pair.check(pair.b).repeated
        const entries = entriesOf(pair.b)
        const { failoverEpoch } = pair.b
        const end = entries.findIndex(({ body }) => body.kind === 'epochEnd' && body.epoch === failoverEpoch)
        if (end >= 0) seen.finished++
        const before = entries.findLastIndex(({ body }, index) => index < end && body.kind === 'epochEnd')
        const times = entries.slice(before + 1, end).filter(({ body }) => body.kind === 'clock')
        if (end >= 0) assert.equal(times.length, 1, 'one [Tme]: that of the primary, or its own')
        const uncertain = entries.filter(({ body }) => body.kind === 'diskCompletion' && body.status === 'uncertain')
        assert.ok(uncertain.every(({ index }) => end < 0 || index < entries[end]!.index))
        seen.uncertain += uncertain.length
      })
      assert.ok(seen.failovers > 100 && seen.finished > 100 && seen.repeated > 0, JSON.stringify(seen))
      assert.equal(seen.uncertain > 0, bus === 'scsi', JSON.stringify(seen))
    })
  }

  test(`one after the other is killed, several times: never two live, nothing contradicted (${protocol})`, () => {
    let failovers = 0
    forSeeds(60, (seed) => {
      const { pair, live } = runPair(seed, protocol, { killLive: 2, isPatient: true }, 'scsi', 2)
      failovers += pair.goneLive
      if (live[0] && live[0].primary?.state !== 'starting') pair.check(live[0])
    })
    assert.ok(failovers > 60, `${failovers} failovers`)
  })

  test(`channel cut while both live: exactly one wins, and the world sees one machine (${protocol})`, () => {
    forSeeds(80, (seed) => {
      const { pair, live } = runPair(seed, protocol, { partition: 'a' })
      if (pair.b.halted === 'neverPaired' || pair.a.primary?.state === 'starting') return
      assert.equal(live.length, 1)
      pair.check(live[0]!)
    })
  })
}
