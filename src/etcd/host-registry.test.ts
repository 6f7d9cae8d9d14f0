/** Spare hosts: who could take a replica, what becomes of a dead host, and how a host is asked. */

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Cable } from '../net/cable.ts'
import { EtcdClient } from './etcd-client.ts'
import { EtcdCluster, needsEtcd } from './etcd-cluster.test-support.ts'
import { type HostRecord, HostRegistry, hostText, type Need, type Placement, spareOf } from './host-registry.ts'

const GiB = 1024 ** 3
const host = (name: string, freeMemoryBytes: number): HostRecord => {
  return { name, address: `192.0.2.${name.charCodeAt(0)}:7110`, freeMemoryBytes, machines: ['shop'] }
}
const hosts = [host('a', GiB), host('b', 4 * GiB), host('c', 2 * GiB), host('d', 4 * GiB)]

function names(of: readonly HostRecord[], need: Partial<Need>): string[] {
  return spareOf(of, { machine: 'shop', memoryBytes: 1, taken: [], ...need }).map(({ name }) => name)
}

test('spare is who has the key, room, and no replica of the machine; the one with the most room comes first', () => {
  assert.deepEqual(names(hosts, {}), ['b', 'd', 'c', 'a'])
  assert.deepEqual(names(hosts, { memoryBytes: 2 * GiB }), ['b', 'd', 'c'])
  assert.deepEqual(names(hosts, { taken: ['b', 'a'] }), ['d', 'c'])
  assert.deepEqual(names(hosts, { memoryBytes: 5 * GiB }), [])
  assert.deepEqual(names(hosts, { machine: 'web' }), [])
})

if (needsEtcd.skip) test('hosts that register in etcd', needsEtcd, () => {})
else {
  let cluster: EtcdCluster
  before(async () => {
    cluster = await (await EtcdCluster.start(1)).ready()
  })
  after(() => cluster.end())

  async function until(condition: () => Promise<boolean>): Promise<void> {
    while (!(await condition())) await sleep(20)
  }

  const placement: Placement = {
    id: 'question-1',
    machine: 'shop',
    replica: 'c',
    primary: '192.0.2.1:7101',
    disk: { nbd: '192.0.2.9:7103', arbiter: '192.0.2.9:7104' },
    network: { switch: '192.0.2.9:7105' },
  }

  test('a host offers itself while it lives: one that dies is gone with its lease, one that says goodbye at once', async (t) => {
    const observer = new HostRegistry(cluster.settings)
    t.after(() => observer.close())
    const offers = hosts.map((record) => {
      const cable = new Cable()
      const registry = new HostRegistry({ ...cluster.settings, cable })
      const offer = registry.offer(record.name)
      offer.set(hostText(record))
      t.after(async () => {
        await offer.close()
        registry.close()
      })
      return { offer, cable }
    })
    // What says that it is there can be counted on.
    assert.ok(offers.every(({ offer }) => !offer.isThere))
    const client = new EtcdClient(cluster.settings)
    t.after(() => client.close())
    // What another version of us has put there.
    await client.transact([], [{ put: `${cluster.settings.prefix}hosts/x`, value: '{"version":9}' }], 20_000)
    await until(async () => offers.every(({ offer }) => offer.isThere))
    assert.deepEqual([...(await observer.hosts())], hosts)
    await offers[0]!.offer.close()
    assert.deepEqual(names(await observer.hosts(), {}), ['b', 'd', 'c'])
    offers[1]!.cable.cut()
    await until(async () => !names(await observer.hosts(), {}).includes('b'))
    assert.deepEqual(names(await observer.hosts(), {}), ['d', 'c'], 'those who live keep their leases')
    offers[1]!.cable.mend()
    await until(async () => names(await observer.hosts(), {}).includes('b'))
  })

  test('a question is seen by the host it is for, answered by its id, and gone with who asked', async (t) => {
    const [primary, agent] = [new HostRegistry(cluster.settings), new HostRegistry(cluster.settings)]
    t.after(() => [primary, agent].map((registry) => registry.close()))
    const question = primary.place('host-c', placement)
    await until(async () => (await agent.placementsOn('host-c')).length === 1)
    assert.deepEqual(await agent.placementsOn('host-d'), [])
    const [asked] = await agent.placementsOn('host-c')
    assert.deepEqual(asked!.placement, placement)
    assert.equal(await primary.answerOf('host-c', placement), undefined)
    await agent.answer('host-c', asked!, { state: 'failed', detail: 'no room' })
    assert.deepEqual(await primary.answerOf('host-c', placement), {
      id: 'question-1',
      state: 'failed',
      detail: 'no room',
    })
    assert.equal(await primary.answerOf('host-c', { ...placement, id: 'question-2' }), undefined, 'of another question')
    await question.close()
    assert.deepEqual(await agent.placementsOn('host-c'), [])
    assert.equal(await primary.answerOf('host-c', placement), undefined, 'the answer goes with it')
  })

  test('replicas say on which host they are, and the operator whether a backup is wanted', async (t) => {
    const registry = new HostRegistry(cluster.settings)
    t.after(() => registry.close())
    const entries = [registry.announce('shop', 'a', 'host-a'), registry.announce('shop', 'b', 'host-b')]
    registry.announce('shop-2', 'a', 'host-z')
    await until(async () => (await registry.replicaHosts('shop')).size === 2)
    assert.deepEqual(Object.fromEntries(await registry.replicaHosts('shop')), { a: 'host-a', b: 'host-b' })
    await entries[0]!.close()
    assert.deepEqual(Object.fromEntries(await registry.replicaHosts('shop')), { b: 'host-b' })
    await entries[1]!.close()
    assert.equal(await registry.wantsBackup('shop'), true)
    await registry.setWantsBackup('shop', false)
    assert.deepEqual([await registry.wantsBackup('shop'), await registry.wantsBackup('shop-2')], [false, true])
    await registry.setWantsBackup('shop', true)
    assert.equal(await registry.wantsBackup('shop'), true)
  })
}
