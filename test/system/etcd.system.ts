/**
 * A protected Debian guest whose arbiter is etcd, three members: one member is killed, then the primary, under load. The
 * disk server fences by what the survivor shows it. And `down` and `up` again, with a member less.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseRecord } from '../../src/disk/record-text.ts'
import { EtcdClient } from '../../src/etcd/etcd-client.ts'
import { EtcdCluster, needsEtcd } from '../../src/etcd/etcd-cluster.test-support.ts'
import { failReplica, type PairStatus, pairStatus } from '../../src/host/local-pair.ts'
import { IncrementLoad, waitForRedis } from '../../src/host/redis-load.ts'
import { freePort, writeRedisVm } from '../../src/host/redis-vm.ts'
import { VmFolder } from '../../src/host/vm-folder.ts'
import { understudy } from '../support/launcher.ts'
import { ownFolder } from '../support/own-folder.ts'

const folder = ownFolder('etcd-vm')

const bootWithinMs = 180_000

test(
  'etcd as the arbiter: a member dies, then the primary; the backup is granted the machine and fences the disk',
  needsEtcd,
  async (t) => {
    const cluster = await (await EtcdCluster.start()).ready()
    t.after(() => cluster.end())
    const name = `etcd-${process.pid}`
    const port = await freePort()
    const vm = await writeRedisVm(folder, name, port, { etcd: cluster.settings.endpoints })
    const client = new EtcdClient(cluster.settings)
    t.after(() => client.close())
    const recordKey = `${cluster.settings.prefix}machines/${name}/record`
    const recordInEtcd = async () => {
      const [entry] = await client.read([recordKey], 20_000)
      return parseRecord(entry!.value, name, recordKey).fields
    }
    const recordOfDiskServer = () => {
      const path = join(new VmFolder(name).file('arbiter'), `${name}.json`)
      return parseRecord(readFileSync(path, 'utf8'), name, path).fields
    }

    const { protection } = JSON.parse(understudy('up', vm, '--json')) as PairStatus
    assert.equal(protection, 'protected')
    assert.deepEqual((await recordInEtcd()).eligible, ['b'])
    assert.equal(recordOfDiskServer().takenBy, 'elsewhere')
    await waitForRedis(port, bootWithinMs)

    const load = await IncrementLoad.start(port, 'etcd')
    await sleep(500)
    const victim = cluster.members[await cluster.leader()]!
    await victim.kill()
    await sleep(500)
    assert.equal((await pairStatus(vm)).protection, 'protected', 'a member less is no fault of the pair')
    await failReplica(vm, 'primary')
    await sleep(2000)
    const report = await load.stop(20_000)
    assert.deepEqual([report.connectionsReset, report.skipped, report.wentBack], [0, 0, 0])
    assert.ok(report.acknowledged > 0)
    const survivor = (await pairStatus(vm)).replicas.find(({ role }) => role === 'primary')!
    assert.equal(survivor.name, 'b')
    t.diagnostic(`failover ${JSON.stringify(survivor.failover)}`)
    const { holder, generation, takenBy } = await recordInEtcd()
    assert.deepEqual(
      { holder, generation, takenBy },
      { holder: 'b', generation: survivor.generation, takenBy: 'testAndSet' },
    )
    const fenced = recordOfDiskServer()
    assert.deepEqual([fenced.holder, fenced.generation], ['b', survivor.generation])

    understudy('down', vm)
    assert.equal((await recordInEtcd()).holder, null)
    assert.equal(recordOfDiskServer().holder, null, 'tools may use the disk of the stopped machine')
    assert.equal((JSON.parse(understudy('up', vm, '--json')) as PairStatus).protection, 'protected')
    assert.equal((await recordInEtcd()).holder, 'a')
    understudy('down', '--force', vm)
  },
)
