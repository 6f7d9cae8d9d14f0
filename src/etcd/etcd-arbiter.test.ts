/** etcd as the arbiter, three members: what every arbiter must do, and what happens when members die. */

import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import { acceptArbiter } from '../disk/arbiter-acceptance.test-support.ts'
import type { ArbiterAccessOptions } from '../disk/arbiter-access.ts'
import { Cable } from '../net/cable.ts'
import { EtcdArbiter } from './etcd-arbiter.ts'
import { EtcdClient } from './etcd-client.ts'
import { EtcdCluster, needsEtcd } from './etcd-cluster.test-support.ts'
import type { EtcdSettings } from './etcd-settings.ts'

const timeoutMs = 20_000
let cluster: EtcdCluster
let machines = 0

if (!needsEtcd.skip) {
  before(async () => {
    cluster = await (await EtcdCluster.start()).ready()
  })
  after(() => cluster.end())
}

/** Accesses to one machine that no other test has. */
function freshMachine(t: TestContext) {
  const machine = `web${machines++}`
  return (replica: string, changes: Partial<ArbiterAccessOptions> = {}, settings: Partial<EtcdSettings> = {}) => {
    const options = { machine, replica, ...changes }
    const access = new EtcdArbiter({ ...cluster.settings, ...settings }, options)
    t.after(() => access.close())
    return access
  }
}

if (needsEtcd.skip) test('etcd as the arbiter', needsEtcd, () => {})
else {
  acceptArbiter('etcd', async (t) => {
    const fresh = freshMachine(t)
    const cables = new Map<object, Cable>()
    return {
      access: (replica, options) => {
        const cable = new Cable()
        const access = fresh(replica, options, { cable })
        cables.set(access, cable)
        return access
      },
      crash: (access) => cables.get(access)!.cut(),
      restart: async () => {
        const leader = cluster.members[await cluster.leader()]!
        await leader.kill()
        await leader.startAgain()
      },
    }
  })

  test('one member of three is killed in the middle of a run: every question is answered, none twice', async (t) => {
    const access = freshMachine(t)
    const holder = access('a')
    await holder.start(timeoutMs)
    let generation = 1
    const victim = cluster.members[await cluster.leader()]!
    const run = (async () => {
      for (let round = 0; round < 200; round++) {
        const answer = await holder.openGeneration(generation, [round % 2 === 0 ? 'b' : 'c'], timeoutMs)
        assert.deepEqual(answer, { accepted: true, generation: generation + 1 })
        generation = answer.generation
      }
    })()
    while (generation < 20) await new Promise(setImmediate)
    await victim.kill()
    const atKill = generation
    await run
    t.diagnostic(`killed at generation ${atKill}, went on to ${generation} with two members`)
    assert.ok(atKill < generation)
    assert.equal((await access('c').testAndSet(generation, timeoutMs)).won, true)
    assert.equal((await access('b').testAndSet(generation, timeoutMs)).won, false)
    await victim.startAgain()
  })

  test('a member that is frozen is passed over', async (t) => {
    const access = freshMachine(t)
    const holder = access('a')
    await holder.start(timeoutMs)
    const frozen = cluster.members[0]!
    frozen.freeze()
    t.after(() => frozen.thaw())
    // A fresh access asks the first member first.
    const backup = access('b')
    assert.equal((await backup.read(timeoutMs)).holder, 'a')
    await holder.setEligible(1, ['b'], timeoutMs)
    assert.equal((await backup.testAndSet(1, timeoutMs)).won, true)
  })

  test('without a majority the arbiter is unreachable and nobody is granted anything; with one again, the same question is answered', async (t) => {
    const access = freshMachine(t)
    const holder = access('a')
    await holder.start(timeoutMs)
    await holder.setEligible(1, ['b'], timeoutMs)
    const backup = access('b')
    await backup.connect(timeoutMs)
    const [first, second] = [cluster.members[1]!, cluster.members[2]!]
    await Promise.all([first.kill(), second.kill()])
    await assert.rejects(backup.testAndSet(1, 1500), { reason: 'unreachable', exitCode: 69 })
    await assert.rejects(backup.read(300), { reason: 'unreachable' })
    await assert.rejects(access('c').start(300), { reason: 'unreachable' })
    await Promise.all([first.startAgain(), second.startAgain()])
    assert.deepEqual(await backup.testAndSet(1, timeoutMs), { won: true, generation: 2 })
  })

  test('a damaged record is an error, never a fresh start', async (t) => {
    const access = freshMachine(t)
    const client = new EtcdClient(cluster.settings)
    t.after(() => client.close())
    const key = `${cluster.settings.prefix}machines/web${machines - 1}/record`
    await client.transact([], [{ put: key, value: '{"version":1,"gener' }], timeoutMs)
    await assert.rejects(access('a').start(timeoutMs), { reason: 'storage', message: /damaged/ })
  })

  test('a holder whose lease ended hears it, and is the holder again when it opens another session', async (t) => {
    const access = freshMachine(t)
    const lost = Promise.withResolvers<void>()
    const holder = access('a', { onSessionLost: lost.resolve })
    await holder.start(timeoutMs)
    const client = new EtcdClient(cluster.settings)
    t.after(() => client.close())
    const [entry] = await client.read([`${cluster.settings.prefix}machines/web${machines - 1}/holder`], timeoutMs)
    await client.revokeLease(entry!.lease, timeoutMs)
    await lost.promise
    await holder.connect(timeoutMs)
    assert.equal((await access('b').start(timeoutMs)).granted, false)
    assert.deepEqual(await holder.openGeneration(1, [], timeoutMs), { accepted: true, generation: 2 })
  })
}
