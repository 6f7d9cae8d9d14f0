/**
 * A backup that is 50 ms away, there and back, and one that is too slow: both with real processes and a real Debian guest.
 * Times are only bounded from below: that an output waits for its acknowledgement is the Output Rule, not a measurement.
 */

import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ask } from '../../src/host/control.ts'
import { bringUp, failReplica, type PairStatus, pairStatus } from '../../src/host/local-pair.ts'
import { IncrementLoad, RedisConnection, waitForRedis } from '../../src/host/redis-load.ts'
import { freePort, writeRedisVm } from '../../src/host/redis-vm.ts'
import type { ReplicaFault } from '../../src/host/replica-settings.ts'
import { VmFolder } from '../../src/host/vm-folder.ts'
import { ownFolder } from '../support/own-folder.ts'
import { primaryOf, statusWhen } from '../support/vm-status.ts'
import { typeOnConsole } from './guest-console.ts'

const oneWayMs = 25
const folder = ownFolder('distant')
process.env.UNDERSTUDY_FAULTS = '1'
const name = `distant-${process.pid}`
let vm = ''
let port = 0

async function fault(role: 'primary' | 'backup', what: ReplicaFault): Promise<void> {
  const { replicas } = await pairStatus(vm)
  await ask(new VmFolder(name).controlPath(replicas.find((replica) => replica.role === role)!.name), 'fault', what)
}

const cpuPercentOf = (status: PairStatus) => primaryOf(status)?.flow?.cpuPercent ?? Number.NaN

/** Milliseconds of each of `count` pings, one after the other, shortest first. */
async function pings(count: number): Promise<number[]> {
  const connection = await RedisConnection.connect(port)
  const times: number[] = []
  for (let index = 0; index < count; index++) {
    const startedAt = performance.now()
    assert.equal(await connection.command('PING'), '+PONG')
    times.push(performance.now() - startedAt)
  }
  connection.close()
  return times.sort((a, b) => a - b)
}

async function instructionsPerSecond(seconds: number): Promise<number> {
  const before = primaryOf(await pairStatus(vm))!.instructions
  await sleep(seconds * 1000)
  return (primaryOf(await pairStatus(vm))!.instructions - before) / seconds
}

before(async () => {
  port = await freePort()
  vm = await writeRedisVm(folder, name, port)
  await bringUp(vm, { protect: true, onProgress: () => {} })
  await waitForRedis(port, 240_000)
})

test('a backup that does not keep up slows the primary in small steps, and gives the time back when it keeps up again', async (t) => {
  await typeOnConsole(vm, 'while :; do :; done & spinner=$!')
  await fault('backup', { kind: 'slowHart', percent: 20 })
  const slowed = await statusWhen(vm, 'the primary is slowed', (status) => cpuPercentOf(status) <= 70)
  t.diagnostic(`slowed to ${cpuPercentOf(slowed)} %, lag ${primaryOf(slowed)?.lagMs} ms`)
  assert.equal(slowed.protection, 'protected')
  await fault('backup', { kind: 'slowHart', percent: 100 })
  await typeOnConsole(vm, 'kill $spinner')
  await statusWhen(vm, 'it is given back', (status) => cpuPercentOf(status) === 100)
})

test('a backup 50 ms away: every output waits for its acknowledgement, a guest that only computes does not', async (t) => {
  const near = await pings(50)
  await typeOnConsole(vm, 'while :; do :; done & spinner=$!')
  await sleep(2000)
  const mipsNear = (await instructionsPerSecond(5)) / 1e6
  await typeOnConsole(vm, 'kill $spinner')
  await fault('backup', { kind: 'delayChannel', oneWayMs })
  const far = await pings(50)
  assert.ok(far[0]! >= 2 * oneWayMs - 1, `an answer after ${far[0]} ms: it cannot be acknowledged yet`)
  await typeOnConsole(vm, 'while :; do :; done & spinner=$!')
  await sleep(2000)
  const mipsFar = (await instructionsPerSecond(5)) / 1e6
  await typeOnConsole(vm, 'kill $spinner')
  const status = await pairStatus(vm)
  assert.equal(status.protection, 'protected')
  assert.equal(primaryOf(status)!.divergences, 0)
  t.diagnostic(`median ping ${near[25]!.toFixed(1)} ms, ${far[25]!.toFixed(1)} ms with the distance`)
  t.diagnostic(`computing: ${mipsNear.toFixed(0)} MIPS, ${mipsFar.toFixed(0)} MIPS with the distance`)
})

test('a failover to a backup 50 ms away loses nothing', async () => {
  const load = await IncrementLoad.start(port, 'distant')
  await sleep(2000)
  await failReplica(vm, 'primary')
  await statusWhen(vm, 'the backup is live', (status) => primaryOf(status)?.state === 'alone')
  await sleep(2000)
  const report = await load.stop(10_000)
  assert.ok(report.acknowledged > 10)
  assert.deepEqual([report.connectionsReset, report.skipped, report.wentBack], [0, 0, 0])
})
