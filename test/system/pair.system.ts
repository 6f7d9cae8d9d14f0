/**
 * The pair as its users meet it: real processes, a real Debian guest, Redis in it, a real kill. Nothing here is timed but
 * the bound that the product promises.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ask } from '../../src/host/control.ts'
import { type DemoReport, demoHolds, isUndisturbed } from '../../src/host/demo.ts'
import { failReplica, type PairStatus, pairStatus, processesOf } from '../../src/host/local-pair.ts'
import { IncrementLoad, waitForRedis } from '../../src/host/redis-load.ts'
import { freePort, writeRedisVm } from '../../src/host/redis-vm.ts'
import { isAlive, type ReplicaName, VmFolder } from '../../src/host/vm-folder.ts'
import { launcher, understudy } from '../support/launcher.ts'
import { ownFolder } from '../support/own-folder.ts'

const folder = ownFolder('pair')
const name = `pair-${process.pid}`
let vm = ''
let port = 0

const bootWithinMs = 180_000

/** Ids of every process of the VM. */
function processes(): number[] {
  return processesOf(new VmFolder(name).requireRun()).filter((pid) => pid > 0)
}

before(async () => {
  port = await freePort()
  vm = await writeRedisVm(folder, name, port)
})

test('the demo: a client of a killed primary keeps its connection, and every acknowledged INCR is there once', (t) => {
  const { status, stdout } = spawnSync(launcher, ['demo', '--json'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 600_000,
  })
  const report = JSON.parse(stdout.trim().split('\n').at(-1)!) as DemoReport
  const { connections_reset, lost, duplicated, divergences } = report
  assert.deepEqual(
    { connections_reset, lost, duplicated, divergences },
    { connections_reset: 0, lost: 0, duplicated: 0, divergences: 0 },
  )
  assert.ok(isUndisturbed(report), JSON.stringify(report))
  // How long the client waited depends on what else this host has to do: the demo judges that, a test does not.
  t.diagnostic(`stall ${report.stall_ms} ms`)
  assert.equal(status === 0, demoHolds(report))
})

test('up starts a protected VM, and a second up is refused', async () => {
  const status = JSON.parse(understudy('up', vm, '--json')) as PairStatus
  assert.equal(status.protection, 'protected')
  assert.deepEqual(status.replicas.map(({ role }) => role).sort(), ['backup', 'primary'])
  const second = spawnSync(launcher, ['up', vm], { encoding: 'utf8' })
  assert.equal(second.status, 4)
  assert.match(second.stderr, /^understudy: VM .* is running/m)
  await waitForRedis(port, bootWithinMs)
})

/** Ports on which these processes listen. */
function listeningPorts(pids: readonly number[]): number[] {
  const inodes = new Set<string>()
  for (const pid of pids) {
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      try {
        const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1]
        if (inode) inodes.add(inode)
      } catch {
        // It was closed in between.
      }
    }
  }
  const rows = ['tcp', 'tcp6'].flatMap((file) => readFileSync(`/proc/net/${file}`, 'utf8').split('\n').slice(1))
  const listening = rows.map((row) => row.trim().split(/\s+/)).filter((row) => row[3] === '0A' && inodes.has(row[9]!))
  return listening.map((row) => Number.parseInt(row[1]!.split(':')[1]!, 16))
}

test('no process of a local pair listens on TCP: only the gateway does, on the ports that the VM’s file forwards', async () => {
  assert.equal(processes().length, 4)
  assert.deepEqual(listeningPorts(processes()), [])
  const seen = createServer().listen(0, '127.0.0.1')
  await once(seen, 'listening')
  assert.deepEqual(listeningPorts([process.pid]), [(seen.address() as AddressInfo).port], 'this would be seen')
  seen.close()
})

test('killing the backup disturbs no client: the primary goes on alone, after the arbiter dropped the backup', async () => {
  const load = await IncrementLoad.start(port, 'backup-killed')
  await sleep(500)
  const { generation } = (await pairStatus(vm)).replicas[0]!
  understudy('fail', 'backup', vm)
  await sleep(1500)
  const report = await load.stop(5000)
  assert.deepEqual([report.connectionsReset, report.skipped, report.wentBack], [0, 0, 0])
  assert.ok(report.acknowledged > 0)
  const status = await pairStatus(vm)
  assert.equal(status.protection, 'not protected')
  assert.equal(status.replicas.find(({ role }) => role === 'primary')?.generation, generation + 1)
})

test('protect gives a running VM a backup: the guest runs on, no client notices, and the backup can take over', async () => {
  const load = await IncrementLoad.start(port, 'protect')
  const before = (await pairStatus(vm)).replicas[0]!
  const status = JSON.parse(understudy('protect', '--json', vm)) as PairStatus
  assert.equal(status.protection, 'protected')
  const primary = status.replicas.find(({ role }) => role === 'primary')!
  assert.deepEqual([primary.name, primary.pid], [before.name, before.pid], 'the same process goes on')
  assert.ok(primary.generation > before.generation)
  assert.equal((JSON.parse(understudy('protect', '--json', vm)) as PairStatus).protection, 'protected', 'nothing to do')
  await sleep(1500)
  const backup = (await pairStatus(vm)).replicas.find(({ role }) => role === 'backup')!
  assert.ok(backup.digestChecks > 0, 'the new backup compares digests')
  understudy('fail', 'primary', vm)
  await sleep(1500)
  const report = await load.stop(10_000)
  assert.deepEqual([report.connectionsReset, report.skipped, report.wentBack], [0, 0, 0])
  const survivor = (await pairStatus(vm)).replicas.find(({ role }) => role === 'primary')!
  assert.deepEqual([survivor.pid, survivor.divergences], [backup.pid, 0])
  assert.equal((JSON.parse(understudy('protect', '--json', vm)) as PairStatus).protection, 'protected', 'and again')
})

/** Session of a process: proc(5), `stat`, behind the name in parentheses. */
function sessionOf(pid: number | 'self'): string {
  return readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')[3]!
}

test('the processes of a VM share a session of their own, and those that came later belong to it', () => {
  const sessions = new Set(processes().map(sessionOf))
  assert.equal(sessions.size, 1, [...sessions].join(', '))
  assert.ok(!sessions.has(sessionOf('self')))
})

test('a guest that reboots stays protected: no failover, no divergence, and Redis answers again', async () => {
  const vmFolder = new VmFolder(name)
  const boots = (): number => readFileSync(vmFolder.file('console.log'), 'latin1').split('GUEST-READY').length
  const before = (await pairStatus(vm)).replicas
  const primary = before.find(({ role }) => role === 'primary')!
  const bootsBefore = boots()
  await ask(vmFolder.controlPath(primary.name), 'consoleInput', { text: '\nreboot\n' })
  const deadline = performance.now() + 180_000
  while (boots() === bootsBefore && performance.now() < deadline) await sleep(200)
  await waitForRedis(port, bootWithinMs)
  const status = await pairStatus(vm)
  assert.equal(status.protection, 'protected')
  assert.deepEqual(
    status.replicas.map(({ name: replica, role, pid, generation, divergences }) => [
      replica,
      role,
      pid,
      generation,
      divergences,
    ]),
    before.map(({ name: replica, role, pid, generation }) => [replica, role, pid, generation, 0]),
  )
  const checksOf = (replicas: PairStatus['replicas']): number =>
    replicas.find(({ role }) => role === 'backup')!.digestChecks
  assert.ok(checksOf(status.replicas) > checksOf(before), 'digests are compared after the reboot too')
})

test('down presses the power button: the guest powers off, every process of its VM ends, and nobody fails over', async () => {
  const vmFolder = new VmFolder(name)
  const pids = processes()
  const primary = (await pairStatus(vm)).replicas.find(({ role }) => role === 'primary')!.name
  const started = new Date().toISOString()
  assert.deepEqual(JSON.parse(understudy('down', '--json', '--timeout', '60s', vm)), { end: 'poweredOff' })
  assert.deepEqual(pids.filter(isAlive), [])
  const linesSince = (replica: ReplicaName): string =>
    readFileSync(vmFolder.tracePath(replica), 'utf8')
      .split('\n')
      .filter((line) => line > started)
      .join('\n')
  assert.match(linesSince(primary), /the guest is off/)
  assert.doesNotMatch(linesSince(primary === 'a' ? 'b' : 'a'), /test-and-set/, 'nobody asked to take over')
  assert.equal((await pairStatus(vm)).protection, 'not running')
  const { status, stdout } = spawnSync('/sbin/e2fsck', ['-fn', join(folder, 'root.ext4')], { encoding: 'utf8' })
  assert.equal(status, 0, stdout)
})

test('failing a replica of a VM that is off is refused', async () => {
  await assert.rejects(failReplica(vm, 'primary'), { code: 'not-running' })
})
