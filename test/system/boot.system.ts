/**
 * Debian boots: the default guest serves through the gateway, unprotected and protected; a full Debian with systemd gives
 * a login on its console. How long it takes beside QEMU is bench/boot.ts's question.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { type PairStatus, pairStatus, processesOf } from '../../src/host/local-pair.ts'
import { answersPing, IncrementLoad } from '../../src/host/redis-load.ts'
import { freePort, writeRedisVm } from '../../src/host/redis-vm.ts'
import { isAlive, VmFolder } from '../../src/host/vm-folder.ts'
import { becomesTrue } from '../support/becomes-true.ts'
import { launcher, understudy } from '../support/launcher.ts'
import { ownFolder } from '../support/own-folder.ts'
import { ConsoleProcess } from './console-process.ts'

const folder = ownFolder('boot')

function pidsOf(name: string): number[] {
  return processesOf(new VmFolder(name).requireRun()).filter((pid) => pid > 0)
}

/** The backup leaves while a client increments; nothing of the client's is lost, and the arbiter was told first. */
async function unprotectUnderLoad(vm: string, port: number): Promise<void> {
  const load = await IncrementLoad.start(port, 'unprotected')
  await becomesTrue('the load runs', () => load.acknowledged > 20)
  const [before] = (await pairStatus(vm)).replicas.filter(({ role }) => role === 'primary')
  const status = JSON.parse(understudy('unprotect', '--json', vm)) as PairStatus
  assert.deepEqual(
    status.replicas.map(({ name, role, state, generation }) => [name, role, state, generation]),
    [['a', 'primary', 'alone', before!.generation + 1]],
  )
  const acknowledged = load.acknowledged
  await becomesTrue('the load goes on', () => load.acknowledged > acknowledged + 20)
  const { connectionsReset, skipped, wentBack } = await load.stop(5000)
  assert.deepEqual([connectionsReset, skipped, wentBack], [0, 0, 0])
}

/** What e2fsck finds wrong, without mending it. */
function fileSystemErrors(imagePath: string): string[] {
  const { status, stdout } = spawnSync('/sbin/e2fsck', ['-fn', imagePath], { encoding: 'utf8' })
  return status === 0 ? [] : stdout.split('\n')
}

for (const protection of ['not protected', 'protected'] as const) {
  test(`the default guest, ${protection}, answers PING through the gateway; down presses its power button, leaves a clean disk and no process`, async () => {
    const name = `boot-${protection === 'protected' ? 'pair' : 'alone'}-${process.pid}`
    const port = await freePort()
    const vm = await writeRedisVm(join(folder, name), name, port)
    try {
      const up = understudy('up', '--json', ...(protection === 'protected' ? [] : ['--unprotected']), vm)
      const status = JSON.parse(up) as PairStatus
      assert.equal(status.protection, protection)
      assert.equal(status.replicas.length, protection === 'protected' ? 2 : 1)
      await becomesTrue('Redis answers', () => answersPing(port, 2000))
      const consolePath = new VmFolder(name).file('console.log')
      await becomesTrue(
        'the console says so',
        () => existsSync(consolePath) && /GUEST-READY \d/.test(readFileSync(consolePath, 'latin1')),
      )
      assert.equal((await pairStatus(vm)).protection, protection)
      const pids = pidsOf(name)
      assert.equal(pids.length, protection === 'protected' ? 4 : 3)
      if (protection === 'protected') await unprotectUnderLoad(vm, port)
      assert.deepEqual(JSON.parse(understudy('down', '--json', vm)), { end: 'poweredOff' })
      assert.deepEqual(pids.filter(isAlive), [])
      assert.deepEqual(fileSystemErrors(join(folder, name, 'root.ext4')), [])
      assert.equal(await answersPing(port, 500), false)
    } finally {
      spawnSync(launcher, ['down', '--force', vm])
    }
  })
}

test('a full Debian with systemd reaches login:, runs without a failed unit, and powers off at its power button', async (context) => {
  const name = `boot-systemd-${process.pid}`
  const port = await freePort()
  const vm = await writeRedisVm(join(folder, name), name, port, { flavour: 'systemd', memory: '512M' })
  const console = new ConsoleProcess(launcher, ['run', vm])
  try {
    await console.shows(/login: /)
    const instructions = (await pairStatus(vm)).replicas[0]!.instructions
    const seconds = (performance.now() - console.startedAt) / 1000
    context.diagnostic(`login: after ${seconds.toFixed(0)} s and ${(instructions / 1e9).toFixed(2)} G instructions`)
    console.type('root')
    await console.shows(/:~# /)
    console.type('uname -srm')
    await console.shows(/^Linux 6\.\S+ riscv64/m)
    console.type('echo state=$(systemctl is-system-running --wait) failed=$(systemctl --failed --plain --no-legend)')
    const [, state, failed] = await console.shows(/state=(\w+) failed=(.*)\r/)
    assert.deepEqual([state, failed], ['running', ''])
    await becomesTrue('Redis answers', () => answersPing(port, 2000))
    const pids = pidsOf(name)
    understudy('power', vm)
    assert.equal(await console.ended(), 0)
    assert.deepEqual(pids.filter(isAlive), [])
  } finally {
    await console.end()
  }
})
