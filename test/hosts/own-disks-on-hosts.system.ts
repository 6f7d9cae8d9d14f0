/**
 * Two hosts that share no disk: each has a disk server with a copy of its own, and a third host only decides and switches. No
 * etcd, so an operator starts replicas by hand: the primary is moved, the other host comes back as its backup, a whole host
 * is lost with its disk, and comes back with a disk that is new.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { copyRootDisk } from '../../src/guest/guest-builder.ts'
import { statusOf } from '../../src/host/local-pair.ts'
import { IncrementLoad, waitForRedis } from '../../src/host/redis-load.ts'
import { freePort, readyGuest } from '../../src/host/redis-vm.ts'
import { becomesTrue } from '../support/becomes-true.ts'
import { ownFolder } from '../support/own-folder.ts'
import { LoopbackHost } from './loopback-host.ts'

const scratch = ownFolder('two')

/** Both hosts, the tables of their files that differ, and the ports that all share. */
async function furnish(hosts: Readonly<Record<'a' | 'b' | 'c', LoopbackHost>>) {
  const guest = await readyGuest({ guestFolder: process.env.UNDERSTUDY_TEST_GUEST }, 'test-guest')
  const ports = await Promise.all(Array.from({ length: 9 }, freePort))
  const [redis, nbdA, nbdB, nbdC, arbiterA, arbiterB, arbiterC, lan, channelA] = ports.map(
    (port) => `127.0.0.1:${port}`,
  )
  const channelB = `127.0.0.1:${await freePort()}`
  assert.match(await hosts.c.tell('keygen', 'shop.key'), /^0/)
  const vm = `name = "shop"
memory = "128M"
kernel = ${JSON.stringify(guest.kernelPath)}
initrd = ${JSON.stringify(guest.initrdPath)}
append = "quiet redis.appendfsync=always"

[[disks]]
path = "root.ext4"
shared = false

[network]
forward = ["${redis}:6379"]
`
  const sides = {
    a: { nbd: nbdA, arbiter: arbiterA, peer: nbdB, listen: channelA, connect: channelB },
    b: { nbd: nbdB, arbiter: arbiterB, peer: nbdA, listen: channelB, connect: channelA },
  }
  for (const name of ['a', 'b', 'c'] as const) {
    const { folder } = hosts[name]
    const write = (file: string, text: string): void => writeFileSync(join(folder, file), text)
    if (name !== 'c') copyFileSync(join(hosts.c.folder, 'shop.key'), join(folder, 'shop.key'))
    write('vm.toml', vm)
    if (name === 'c') {
      write('disk.toml', `vm = "vm.toml"\nkey = "shop.key"\nnbd = "${nbdC}"\narbiter = "${arbiterC}"\n`)
      write('switch.toml', `vm = "vm.toml"\nkey = "shop.key"\nlisten = "${lan}"\n`)
      continue
    }
    const { nbd, arbiter, peer, listen, connect } = sides[name]
    write(
      'disk.toml',
      `vm = "vm.toml"\nkey = "shop.key"\nreplica = "${name}"\nnbd = "${nbd}"\narbiter = "${arbiter}"\n`,
    )
    for (const role of ['primary', 'backup']) {
      write(
        `${role}.toml`,
        `name = "${name}"
role = "${role}"
${role === 'primary' ? 'vm = "vm.toml"' : 'machine = "shop"'}
key = "shop.key"

[channel]
listen = "${listen}"
${role === 'backup' ? `connect = "${connect}"` : ''}

[disk]
nbd = "${nbd}"
peer = "${peer}"
arbiter = "${arbiterC}"

[network]
switch = "${lan}"
`,
      )
    }
  }
  await copyRootDisk(guest, join(hosts.a.folder, 'root.ext4'))
  return { redis: Number(redis!.split(':')[1]), bytes: statSync(join(hosts.a.folder, 'root.ext4')).size }
}

/** A disk that nobody has written to. */
function newDisk(host: LoopbackHost, bytes: number): void {
  const path = join(host.folder, 'root.ext4')
  rmSync(path, { force: true })
  writeFileSync(path, '')
  truncateSync(path, bytes)
}

test('two hosts without a shared disk: the primary moves, a host is lost with its disk, and each comes back as the backup', async (t) => {
  const hosts = {
    a: new LoopbackHost(scratch, 'a'),
    b: new LoopbackHost(scratch, 'b'),
    c: new LoopbackHost(scratch, 'c'),
  }
  const { a, b, c } = hosts
  t.after(() => Promise.all(Object.values(hosts).map((host) => host.die())))
  const { redis, bytes } = await furnish(hosts)
  newDisk(b, bytes)
  const isProtected = async (on: LoopbackHost): Promise<void> => {
    await becomesTrue('protected', async () => {
      const { protection, replicas } = await statusOf(on.vm, 1000)
      return protection === 'protected' && replicas.some(({ role }) => role === 'primary')
    })
  }
  c.understudy('disk-server', '--config', 'disk.toml')
  c.understudy('switch', '--config', 'switch.toml')
  for (const host of [a, b]) host.understudy('disk-server', '--config', 'disk.toml')
  const first = a.understudy('replica', '--config', 'primary.toml')
  b.understudy('replica', '--config', 'backup.toml')
  await isProtected(a)
  await waitForRedis(redis, 180_000)
  const load = await IncrementLoad.start(redis, 'hosts')
  await sleep(500)

  // Nobody waits to become the backup: then none is taken away.
  assert.match(await a.tell('move', 'backup', 'primary.toml'), /^4: .*no host waits to become the backup/)
  assert.equal((await statusOf(a.vm)).protection, 'protected')

  assert.match(await a.tell('move', 'primary', 'primary.toml'), /^0: /)
  assert.equal(await first.exitCode, 0, first.said)
  await becomesTrue('live on host B', async () => (await statusOf(b.vm)).replicas[0]?.role === 'primary')
  a.understudy('replica', '--config', 'backup.toml')
  await isProtected(b)

  // The host of the primary goes, with its disk server. What a had followed is all there is.
  await b.die()
  await becomesTrue('live on host A', async () => (await statusOf(a.vm)).replicas[0]?.role === 'primary')
  newDisk(b, bytes)
  rmSync(b.vm.path, { recursive: true })
  b.understudy('disk-server', '--config', 'disk.toml')
  b.understudy('replica', '--config', 'backup.toml')
  await isProtected(a)
  await sleep(500)

  const report = await load.stop(20_000)
  assert.deepEqual([report.connectionsReset, report.skipped, report.wentBack], [0, 0, 0])
  assert.ok(report.acknowledged > 20, `${report.acknowledged}`)
  t.diagnostic(`${report.acknowledged} INCRs, longest stall ${Math.round(report.longestStallMs)} ms`)
  assert.match(await a.tell('down', 'backup.toml'), /^0: [\s\S]*powered off/)
  await becomesTrue('the backup has ended', async () => (await statusOf(b.vm)).replicas.length === 0)
  for (const host of [a, b]) await host.die()
  const image = (host: LoopbackHost): string => join(host.folder, 'root.ext4')
  assert.equal(spawnSync('cmp', [image(a), image(b)]).status, 0, 'both copies are the same disk')
  const check = spawnSync('e2fsck', ['-fn', image(b)], { encoding: 'utf8' })
  if (check.error === undefined) assert.equal(check.status, 0, check.stdout)
  assert.match(readFileSync(a.vm.file('a.copies'), 'utf8'), /"live"/)
})
