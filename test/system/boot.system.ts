/**
 * Debian boots: the default guest serves through the gateway, unprotected and protected; a full Debian with systemd gives
 * a login on its console (issue "the spine", Must show 3). How long it takes beside QEMU is bench/boot.ts's question.
 */

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type PairStatus, pairStatus } from '../../src/host/local-pair.ts'
import { answersPing } from '../../src/host/redis-load.ts'
import { freePort, writeRedisVm } from '../../src/host/redis-vm.ts'
import { isAlive, VmFolder } from '../../src/host/vm-folder.ts'
import { bootWithinMs, ConsoleProcess } from './console-process.ts'

const launcher = fileURLToPath(new URL('../../bin/understudy', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'understudy-boot-'))
process.env.XDG_STATE_HOME = join(folder, 'state')
after(() => rmSync(folder, { recursive: true, force: true }))

function understudy(...args: string[]): string {
  return execFileSync(launcher, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: 120_000 })
}

async function becomesTrue(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + bootWithinMs
  while (!(await holds())) {
    assert.ok(performance.now() < deadline, what)
    await sleep(100)
  }
}

function processesOf(name: string): number[] {
  const { diskServerPid, lanPid, replicas } = new VmFolder(name).requireRun()
  return [diskServerPid, lanPid, replicas.a.pid, replicas.b.pid].filter((pid) => pid > 0)
}

for (const protection of ['not protected', 'protected'] as const) {
  test(`the default guest, ${protection}, answers PING through the gateway; down leaves no process behind`, async () => {
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
      const pids = processesOf(name)
      assert.equal(pids.length, protection === 'protected' ? 4 : 3)
      understudy('down', vm)
      assert.deepEqual(pids.filter(isAlive), [])
      assert.equal(await answersPing(port, 500), false)
    } finally {
      spawnSync(launcher, ['down', vm])
    }
  })
}

test('a full Debian with systemd reaches login:, runs without a failed unit, and powers off', async (context) => {
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
    const pids = processesOf(name)
    console.type('poweroff')
    assert.equal(await console.ended(), 0)
    assert.deepEqual(pids.filter(isAlive), [])
  } finally {
    await console.end()
  }
})
