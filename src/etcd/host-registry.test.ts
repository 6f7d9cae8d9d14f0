/** Spare hosts: the same rules for a list in a file and for hosts that register in etcd; and what becomes of a dead one. */

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Cable } from '../net/cable.ts'
import { EtcdClient } from './etcd-client.ts'
import { EtcdCluster, needsEtcd } from './etcd-cluster.test-support.ts'
import { EtcdHostRegistry, type HostRecord, type HostRegistry, StaticHostRegistry } from './host-registry.ts'

const GiB = 1024 ** 3
const host = (name: string, freeMemoryBytes: number): HostRecord => {
  return { name, address: `192.0.2.${name.charCodeAt(0)}:7101`, freeMemoryBytes }
}
const hosts = [host('a', GiB), host('b', 4 * GiB), host('c', 2 * GiB), host('d', 4 * GiB)]

async function names(registry: HostRegistry, memoryBytes: number, taken: readonly string[] = []): Promise<string[]> {
  return (await registry.spareHosts({ memoryBytes, taken })).map(({ name }) => name)
}

async function acceptRegistry(registry: HostRegistry): Promise<void> {
  assert.deepEqual(await names(registry, 1), ['b', 'd', 'c', 'a'], 'most room first')
  assert.deepEqual(await names(registry, 2 * GiB), ['b', 'd', 'c'], 'who has no room is not spare')
  assert.deepEqual(await names(registry, 1, ['b', 'a']), ['d', 'c'], 'nor is one that has a replica')
  assert.deepEqual(await names(registry, 5 * GiB), [])
  assert.deepEqual((await registry.spareHosts({ memoryBytes: 4 * GiB, taken: ['d'] }))[0], hosts[1])
}

test('a list in a file: spare is who has room and no replica of the machine', async () => {
  await acceptRegistry(new StaticHostRegistry(hosts))
})

if (needsEtcd.skip) test('hosts that register in etcd', needsEtcd, () => {})
else {
  let cluster: EtcdCluster
  before(async () => {
    cluster = await (await EtcdCluster.start(1)).ready()
  })
  after(() => cluster.end())

  test('hosts that register in etcd: the same; one that dies is gone, one that says goodbye at once', async (t) => {
    const registries = hosts.map((record) => ({ record, cable: new Cable() }))
    const [first] = await Promise.all(
      registries.map(async ({ record, cable }) => {
        const registry = new EtcdHostRegistry({ ...cluster.settings, cable })
        t.after(() => registry.close())
        await registry.register(record)
        return registry
      }),
    )
    const observer = new EtcdHostRegistry(cluster.settings)
    t.after(() => observer.close())
    const client = new EtcdClient(cluster.settings)
    t.after(() => client.close())
    await client.transact([], [{ put: `${cluster.settings.prefix}hosts/x`, value: '{"version":9}' }], 20_000)
    await acceptRegistry(observer)
    first!.close()
    while ((await names(observer, 1)).includes('a')) await sleep(20)
    registries[1]!.cable.cut()
    while ((await names(observer, 1)).includes('b')) await sleep(100)
    assert.deepEqual(await names(observer, 1), ['d', 'c'], 'those who live keep their leases')
  })
}
