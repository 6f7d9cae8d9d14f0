/**
 * A machine that finds its hosts by itself: etcd (three members, one killed) is arbiter and registry of hosts. Whatever host
 * is lost, the live primary chooses a spare one, and the machine is protected again; `move` takes both roles to other hosts.
 *
 * Each host is a state folder of its own and addresses of its own on loopback; it dies with all its processes at once.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseRecord } from '../../src/disk/record-text.ts'
import { EtcdClient } from '../../src/etcd/etcd-client.ts'
import { EtcdCluster, needsEtcd } from '../../src/etcd/etcd-cluster.test-support.ts'
import { HostRegistry } from '../../src/etcd/host-registry.ts'
import { type PairStatus, statusOf } from '../../src/host/local-pair.ts'
import { IncrementLoad, waitForRedis } from '../../src/host/redis-load.ts'
import { freePort, writeRedisVm } from '../../src/host/redis-vm.ts'
import { becomesTrue } from '../support/becomes-true.ts'
import { launcher } from '../support/launcher.ts'
import { ownFolder } from '../support/own-folder.ts'
import type { HostProcess } from './host-process.ts'
import { LoopbackHost } from './loopback-host.ts'

const scratch = ownFolder('spare')

type Name = 'a' | 'b' | 'c' | 'd'

/** The host whose replica is live, and what it says. */
async function findPrimary(
  hosts: Readonly<Record<Name, LoopbackHost>>,
): Promise<{ readonly on: Name; readonly status: PairStatus } | undefined> {
  for (const [name, host] of Object.entries(hosts)) {
    const status = await statusOf(host.vm, 1000)
    if (status.replicas.some(({ role }) => role === 'primary')) return { on: name as Name, status }
  }
  return undefined
}

/** Waits until the machine is protected with primary and backup there, as the primary says. */
async function isProtectedOn(
  hosts: Readonly<Record<Name, LoopbackHost>>,
  primary: Name,
  backups: readonly Name[],
): Promise<void> {
  let last = ''
  await becomesTrue(`protected on ${primary} and ${backups.join(' or ')}`, async () => {
    const found = await findPrimary(hosts)
    const replica = found?.status.replicas.find(({ role }) => role === 'primary')
    const places = (replica?.backups ?? []).map(({ name }) => replica?.keeper?.hosts[name])
    const now = `${found?.on}, ${found?.status.protection}, ${places}, ${replica?.keeper?.doing}`
    if (process.env.UNDERSTUDY_TEST_TRACE && now !== last) console.error(now)
    last = now
    const isThere = found?.on === primary && found.status.protection === 'protected'
    return isThere && places.length === 1 && backups.some((name) => places[0] === `host-${name}`)
  })
}

test(
  'whichever host is lost, a spare one is chosen, and the machine is protected again; both roles move to other hosts',
  needsEtcd,
  async (t) => {
    const cluster = await (await EtcdCluster.start()).ready()
    t.after(() => cluster.end())
    const around = new LoopbackHost(scratch, 'z')
    const hosts = Object.fromEntries(
      ['a', 'b', 'c', 'd'].map((name) => [name, new LoopbackHost(scratch, name)]),
    ) as Record<Name, LoopbackHost>
    t.after(() => Promise.all([around, ...Object.values(hosts)].map((host) => host.die())))
    const [redis, nbd, arbiter, lan, channel, ...places] = await Promise.all(Array.from({ length: 8 }, freePort))
    const at = (port: number | undefined): string => `127.0.0.1:${port}`
    const etcd = `arbiter = { etcd = ${JSON.stringify(cluster.settings.endpoints)} }`

    // Around: disks, switch, and the only copy of the guest but that of host A.
    await writeRedisVm(around.folder, 'shop', redis!, {
      memory: '128M',
      automatic: true,
      etcd: cluster.settings.endpoints,
    })
    assert.match(await around.tell('keygen', 'shop.key'), /^0/)
    const write = (host: LoopbackHost, file: string, ...lines: readonly string[]): void => {
      writeFileSync(join(host.folder, file), `${lines.join('\n')}\n`)
      copyFileSync(join(around.folder, 'shop.key'), join(host.folder, 'shop.key'))
    }
    const ofVm = ['vm = "vm.toml"', 'key = "shop.key"']
    write(around, 'disk.toml', ...ofVm, `nbd = "${at(nbd)}"`, `arbiter = "${at(arbiter)}"`)
    write(around, 'switch.toml', ...ofVm, `listen = "${at(lan)}"`)
    around.understudy('disk-server', '--config', 'disk.toml')
    around.understudy('switch', '--config', 'switch.toml')
    const agents: Partial<Record<Name, HostProcess>> = {}
    const offer = (name: Name): void => {
      agents[name] = hosts[name].understudy('host', '--config', 'host.toml')
    }
    for (const [index, name] of (['b', 'c', 'd'] as const).entries()) {
      write(
        hosts[name],
        'host.toml',
        `name = "host-${name}"`,
        `address = "${at(places[index])}"`,
        `memory = "${900 - 100 * index}M"`,
        etcd,
        '[keys]',
        'shop = "shop.key"',
      )
    }
    copyFileSync(join(around.folder, 'vm.toml'), join(hosts.a.folder, 'vm.toml'))
    write(
      hosts.a,
      'replica-a.toml',
      ...['name = "a"', 'role = "primary"', 'host = "host-a"', ...ofVm],
      `[channel]\nlisten = "${at(channel)}"`,
      `[disk]\nnbd = "${at(nbd)}"\narbiter = "${at(arbiter)}"`,
      `[network]\nswitch = "${at(lan)}"`,
    )

    // The first host runs alone, and says why; then one offers itself.
    const first = hosts.a.understudy('replica', '--config', 'replica-a.toml', '--unprotected')
    await first.says(/no spare host: no other host offers itself/)
    assert.match(await hosts.a.tell('status', 'replica-a.toml'), /not protected[\s\S]*no spare host: no other host/)
    for (const name of ['b', 'c', 'd'] as const) offer(name)
    await isProtectedOn(hosts, 'a', ['b'])
    assert.match(first.said, /asking host host-b to run replica b/)
    assert.match(await hosts.a.tell('status', '--check', 'replica-a.toml'), /^0: [\s\S]*backup b is on host-b/)
    await waitForRedis(redis!, 180_000)
    const load = await IncrementLoad.start(redis!, 'spare')

    await cluster.members[await cluster.leader()]!.kill()
    const lostAt = performance.now()
    await hosts.b.die()
    await isProtectedOn(hosts, 'a', ['c'])
    t.diagnostic(`backup's host lost: protected again after ${Math.round(performance.now() - lostAt)} ms`)

    const failedAt = performance.now()
    await hosts.a.die()
    await isProtectedOn(hosts, 'c', ['d'])
    t.diagnostic(`primary's host lost: protected again after ${Math.round(performance.now() - failedAt)} ms`)

    // Every command takes the file that the agent wrote.
    const fileOn = async (name: Name): Promise<string> => {
      const { vm } = hosts[name]
      const [replica] = (await statusOf(vm)).replicas
      return vm.file(`${replica?.name}.json`)
    }
    offer('b')
    await becomesTrue('host B is there again', () => /offers itself/.test(agents.b!.said))
    const registry = new HostRegistry(cluster.settings)
    t.after(() => registry.close())
    // The entry of the replica that died there stands as long as its lease.
    await becomesTrue('host B is spare again', async () => {
      return ![...(await registry.replicaHosts('shop')).values()].includes('host-b')
    })
    assert.match(await hosts.c.tell('move', 'backup', await fileOn('c')), /^0: /)
    await isProtectedOn(hosts, 'c', ['b'])
    assert.match(await hosts.c.tell('move', 'primary', await fileOn('c')), /^0: /)
    await isProtectedOn(hosts, 'b', ['c', 'd'])

    // Without a backup as long as the operator wants none.
    const file = await fileOn('b')
    assert.match(await hosts.b.tell('unprotect', file), /^0: /)
    await sleep(2000)
    assert.equal((await statusOf(hosts.b.vm)).protection, 'not protected')
    assert.match(await hosts.b.tell('protect', file), /^0: /)
    await isProtectedOn(hosts, 'b', ['c', 'd'])

    const report = await load.stop(20_000)
    assert.deepEqual([report.connectionsReset, report.skipped, report.wentBack], [0, 0, 0])
    assert.ok(report.acknowledged > 500, `${report.acknowledged}`)
    t.diagnostic(`${report.acknowledged} INCRs, longest stall ${Math.round(report.longestStallMs)} ms`)
    assert.match(await hosts.b.tell('down', file), /^0: /)
    const client = new EtcdClient(cluster.settings)
    const [entry] = await client.read([`${cluster.settings.prefix}machines/shop/record`], 20_000)
    client.close()
    assert.equal(parseRecord(entry!.value, 'shop', 'etcd').fields.holder, null)
  },
)

test('a host file that names no cluster of etcd, or a key that is not there, is one clear line', () => {
  const host = new LoopbackHost(scratch, 'bad')
  const says = (text: string): string => {
    writeFileSync(join(host.folder, 'host.toml'), text)
    const options = { cwd: host.folder, encoding: 'utf8' } as const
    const { status, stderr } = spawnSync(launcher, ['host', '--config', 'host.toml'], options)
    return `${status}: ${stderr}`
  }
  const keys = '[keys]\nshop = "shop.key"\n'
  assert.match(says(`address = "127.0.0.1:7110"\narbiter = "disk"\n${keys}`), /^78: .*hosts are registered in etcd/)
  const etcd = 'arbiter = { etcd = ["http://127.0.0.1:1"] }'
  assert.match(says(`address = "127.0.0.1:7110"\n${etcd}\n${keys}`), /^78: .*shop\.key/)
  assert.match(says(`address = "unix:/tmp/x"\n${etcd}\n${keys}`), /^78: .*write HOST:PORT/)
})
