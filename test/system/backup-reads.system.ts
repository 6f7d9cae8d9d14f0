/**
 * A guest whose backup reads the disk itself: what it reads is not in the log, and neither a failover in the middle of a cold
 * read nor a new backup makes a difference to what it has read.
 */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { MiB } from '../../src/base/units.ts'
import { failReplica, type PairStatus, pairStatus } from '../../src/host/local-pair.ts'
import { waitForRedis } from '../../src/host/redis-load.ts'
import { freePort, writeRedisVm } from '../../src/host/redis-vm.ts'
import { launcher, understudy } from '../support/launcher.ts'
import { ownFolder } from '../support/own-folder.ts'
import { ConsoleProcess } from './console-process.ts'

const folder = ownFolder('reads')
let vm = ''

const bootWithinMs = 180_000
const fileMiB = 16
const forgetCaches = 'echo 3 > /proc/sys/vm/drop_caches'

const sumIn = (text: string): string => /[0-9a-f]{64}/.exec(text)?.[0] ?? assert.fail(`no checksum in: ${text}`)

const primaryNow = async () => {
  return (await pairStatus(vm)).replicas.find(({ role }) => role === 'primary') ?? assert.fail('no primary')
}

test('the backup reads the disk itself: cold reads leave the log, through a failover in their middle', async (t) => {
  const port = await freePort()
  vm = await writeRedisVm(folder, `reads-${process.pid}`, port, { automatic: true, backupReads: true })
  assert.equal((JSON.parse(understudy('up', vm, '--json')) as PairStatus).protection, 'protected')
  await waitForRedis(port, bootWithinMs)
  const guest = new ConsoleProcess(launcher, ['console', vm])
  t.after(() => guest.end())
  const begin = (command: string): void => guest.type(`${command}; echo "end"=$?`)
  const end = async (): Promise<string> => (await guest.shows(/\r\n([\s\S]*?)end=\d+\r\n/))[1]!
  const run = async (command: string): Promise<string> => {
    begin(command)
    return await end()
  }
  const written = sumIn(
    await run(`dd if=/dev/urandom of=/data bs=1M count=${fileMiB} 2>/dev/null; sync; sha256sum < /data`),
  )

  await run(forgetCaches)
  const before = (await primaryNow()).logBytesByCause.disk
  assert.equal(sumIn(await run('sha256sum < /data')), written)
  const after = (await primaryNow()).logBytesByCause.disk
  const share = (after - before) / (fileMiB * MiB)
  t.diagnostic(`${fileMiB} MiB read, ${after - before} bytes of log for it`)
  assert.ok(share < 0.01, `the log has ${share} of what was read`)

  begin(`${forgetCaches}; sha256sum < /data`)
  await sleep(300)
  await failReplica(vm, 'primary')
  assert.equal(sumIn(await end()), written, 'the failover came in the middle of the read')
  const survivor = await primaryNow()
  assert.equal(survivor.name, 'b')

  while ((await pairStatus(vm)).protection !== 'protected') await sleep(50)
  // Reads and changes of the same blocks, with a backup that joined a machine that runs.
  const mixed =
    'for i in 1 2; do dd if=/data of=/more bs=64k count=64 conv=notrunc 2>/dev/null; sync; cat /more | sha256sum; done'
  const sums = [...(await run(`${forgetCaches}; ${mixed}`)).matchAll(/[0-9a-f]{64}/g)].map(([sum]) => sum)
  assert.equal(new Set(sums).size, 1)
  await failReplica(vm, 'primary')
  await sleep(500)
  assert.equal(sumIn(await run(`${forgetCaches}; sha256sum < /data`)), written)
  const last = await primaryNow()
  assert.deepEqual([last.name, last.divergences], ['a', 0])
  await guest.end()
  understudy('down', vm)
  assert.match(execFileSync('e2fsck', ['-f', '-n', join(folder, 'root.ext4')], { encoding: 'utf8' }), /clean|Pass 5/)
})
