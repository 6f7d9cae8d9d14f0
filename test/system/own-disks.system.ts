/**
 * A guest whose disk is not shared: each replica has its own copy, the backup writes to its own as it replays. It boots from
 * a's copy and fails over to b's; a comes back and gets a copy of the running machine's; it fails over to that; and it boots
 * again, from the newest.
 */

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { failReplica, type PairStatus, pairStatus } from '../../src/host/local-pair.ts'
import { IncrementLoad, RedisConnection, waitForRedis } from '../../src/host/redis-load.ts'
import { freePort, writeRedisVm } from '../../src/host/redis-vm.ts'
import { VmFolder } from '../../src/host/vm-folder.ts'
import { launcher, understudy } from '../support/launcher.ts'
import { ownFolder } from '../support/own-folder.ts'
import { ConsoleProcess } from './console-process.ts'

const folder = ownFolder('own')
const name = `own-${process.pid}`
const imageA = join(folder, 'root.ext4')
const imageB = join(folder, 'root-b.ext4')
let vm = ''

const bootWithinMs = 180_000

function stamp(replica: string): unknown {
  return JSON.parse(readFileSync(new VmFolder(name).file(`${replica}.copies`), 'utf8'))
}

function areEqual(): boolean {
  return spawnSync('cmp', ['--silent', imageA, imageB]).status === 0
}

test('each replica has its own copy: the backup writes as it replays, and goes live on its own', async (t) => {
  const port = await freePort()
  vm = await writeRedisVm(folder, name, port, {
    append: 'quiet redis.appendfsync=always',
    ownDisks: true,
    automatic: true,
  })
  assert.equal((JSON.parse(understudy('up', vm, '--json')) as PairStatus).protection, 'protected')
  assert.equal(statSync(imageB).size, statSync(imageA).size)
  await waitForRedis(port, bootWithinMs)
  assert.deepEqual(
    [stamp('a'), stamp('b')],
    [
      { version: 1, state: 'live', generation: 1 },
      { version: 1, state: 'follows' },
    ],
  )

  const guest = new ConsoleProcess(launcher, ['console', vm])
  t.after(() => guest.end())
  const run = async (command: string): Promise<string> => {
    guest.type(`${command}; echo "end"=$?`)
    const [, text] = await guest.shows(/\r\n([\s\S]*?)end=\d+\r\n/)
    return text!
  }
  const sumIn = (text: string): string => /[0-9a-f]{32}/.exec(text)?.[0] ?? assert.fail(`no checksum in: ${text}`)
  const protectedAgain = async (): Promise<void> => {
    while ((await pairStatus(vm)).protection !== 'protected') await sleep(50)
  }
  const primaryNow = async () => (await pairStatus(vm)).replicas.find(({ role }) => role === 'primary')!
  const load = await IncrementLoad.start(port, 'own')
  const first = sumIn(await run('dd if=/dev/urandom of=/data bs=64k count=64 2>/dev/null; sync; md5sum < /data'))
  await sleep(500)
  await failReplica(vm, 'primary')
  await sleep(500)
  assert.equal((await primaryNow()).name, 'b')
  assert.equal(sumIn(await run('echo 3 > /proc/sys/vm/drop_caches; md5sum < /data')), first, "read from b's copy")
  assert.deepEqual(stamp('b'), { version: 1, state: 'live', generation: 2 + 1 })

  await protectedAgain()
  const second = sumIn(await run('dd if=/dev/urandom of=/more bs=64k count=64 2>/dev/null; sync; md5sum < /more'))
  await sleep(500)
  await failReplica(vm, 'primary')
  await sleep(500)
  const survivor = await primaryNow()
  assert.equal(survivor.name, 'a')
  assert.equal(survivor.divergences, 0)
  const read = await run('echo 3 > /proc/sys/vm/drop_caches; cat /data /more | md5sum; md5sum < /data; md5sum < /more')
  assert.deepEqual(
    [...read.matchAll(/[0-9a-f]{32}/g)].map(([sum]) => sum).slice(1),
    [first, second],
    "read from a's copy",
  )
  const report = await load.stop(20_000)
  assert.deepEqual([report.connectionsReset, report.skipped, report.wentBack], [0, 0, 0])
  assert.ok(report.acknowledged > 0)
  await protectedAgain()
  await guest.end()

  understudy('down', vm)
  assert.match(execFileSync('e2fsck', ['-f', '-n', imageA], { encoding: 'utf8' }), /clean|Pass 5/)
  assert.equal((JSON.parse(understudy('up', vm, '--json')) as PairStatus).protection, 'protected')
  assert.equal((await primaryNow()).name, 'a', 'who has the newest copies begins')
  await waitForRedis(port, bootWithinMs)
  const connection = await RedisConnection.connect(port)
  assert.ok(Number((await connection.command('INCRBY own 0'))?.slice(1)) >= report.acknowledged)
  connection.close()
  while (!areEqual()) await sleep(200)
  understudy('down', vm)
})
