/**
 * A VM with two backups, as real processes with a real Debian guest: its primary is killed, the winner of the two goes on
 * with the other one as its backup, and is killed too. One client connection lives through both.
 */

import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { bringUp, failReplica, type PairStatus } from '../../src/host/local-pair.ts'
import { IncrementLoad, waitForRedis } from '../../src/host/redis-load.ts'
import { freePort, writeRedisVm } from '../../src/host/redis-vm.ts'
import { becomesTrue } from '../support/becomes-true.ts'
import { ownFolder } from '../support/own-folder.ts'
import { primaryOf, statusWhen } from '../support/vm-status.ts'

const folder = ownFolder('several')
let vm = ''
let port = 0
let load: IncrementLoad

const listedOf = (status: PairStatus) => primaryOf(status)?.backups.filter(({ isListed }) => isListed) ?? []

async function moreAnswers(): Promise<void> {
  const target = load.acknowledged + 50
  await becomesTrue('the client gets answers', () => load.acknowledged >= target)
}

before(async () => {
  port = await freePort()
  vm = await writeRedisVm(folder, `several-${process.pid}`, port, { backups: 2 })
})

test('up starts two backups, both listed, and outputs wait for both', async () => {
  const status = await bringUp(vm, { protect: true, onProgress: () => {} })
  assert.equal(status.protection, 'protected')
  assert.deepEqual(status.replicas.map(({ role }) => role).sort(), ['backup', 'backup', 'primary'])
  assert.equal(listedOf(status).length, 2)
  await waitForRedis(port, 240_000)
  load = await IncrementLoad.start(port, 'several')
  await moreAnswers()
})

test('the primary is killed: one backup goes live, the other follows it, and the machine is protected at once', async (t) => {
  load.startMeasuring()
  const victim = await failReplica(vm, 'primary')
  const status = await statusWhen(vm, 'protected by the other backup', (seen) => {
    return seen.protection === 'protected' && primaryOf(seen)?.name !== victim.name
  })
  assert.deepEqual(
    listedOf(status).map(({ name }) => name),
    status.replicas.filter(({ role }) => role === 'backup').map(({ name }) => name),
  )
  const checksBefore = status.replicas.find(({ role }) => role === 'backup')!.digestChecks
  await statusWhen(vm, 'the follower agrees with its new primary', ({ replicas }) =>
    replicas.some(({ role, digestChecks }) => role === 'backup' && digestChecks > checksBefore + 1),
  )
  await moreAnswers()
  t.diagnostic(`failover by ${primaryOf(status)!.name}`)
})

test('the survivor is killed too: the last replica goes live alone, and the client has lost nothing', async (t) => {
  const victim = await failReplica(vm, 'primary')
  const status = await statusWhen(vm, 'the last one is live', (seen) => {
    const primary = primaryOf(seen)
    return primary !== undefined && primary.name !== victim.name && primary.state === 'alone'
  })
  await moreAnswers()
  const report = await load.stop(10_000)
  assert.deepEqual([report.connectionsReset, report.skipped, report.wentBack], [0, 0, 0])
  assert.equal(primaryOf(status)!.divergences, 0)
  t.diagnostic(`${report.acknowledged} answers, longest stall ${Math.round(report.longestStallMs)} ms`)
})
