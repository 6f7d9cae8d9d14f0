/** Bressoud & Schneider, "Hypervisor-based Fault Tolerance": the rules of the primary, P0 to P2 and revised P2. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Interrupt } from '../../../src/hypervisor/epoch/interrupts.ts'
import { obeysOutputRule } from '../../../src/log/output-rule.ts'
import { acknowledges, EpochPair, entriesOfEpoch, epochInstructions, kindsOfEntries } from './epoch-pair.ts'

const frame = (id: bigint): Interrupt => ({ kind: 'frame', frameId: id, bytes: Uint8Array.of(1) })
const key: Interrupt = { kind: 'consoleInput', bytes: Uint8Array.of(0x61) }

test('P0: on an environment instruction the primary sends [E, pc, Val], at that instruction, and does not wait for the end of E', () => {
  const pair = new EpochPair({ protocol: 'revised', habits: { entropyEvery: 200 } })
  pair.epoch()
  pair.epoch()
  const entries = entriesOfEpoch(pair.log, 1n)
  const values = entries.filter(({ body }) => body.kind === 'entropy')
  assert.ok(values.length > 0)
  for (const value of values) {
    const before = entries[entries.indexOf(value) - 1]!
    assert.ok(before.body.kind === 'marker' && before.body.outputKind === 'entropyRequest')
    assert.equal(value.count, before.count)
    assert.ok(value.count < entries.at(-1)!.count)
  }
  pair.replay()
  assert.equal(pair.backupMachine.digest(), pair.machine.digest(), 'the backup used the same values')
})

test('P1: an interrupt of any kind that arrives in E is buffered, and sent as [E, Int] for the end of E', () => {
  const pair = new EpochPair({ protocol: 'revised', habits: { entropyEvery: 100 } })
  pair.epoch()
  for (const interrupt of [frame(1n), key, frame(2n), key]) pair.hart.onInterrupt(interrupt)
  assert.equal(pair.hart.bufferedInterrupts, 4)
  const before = pair.log.length
  pair.runTo('epochEnd')
  const during = pair.log.slice(before)
  assert.ok(during.length > 0 && during.every(({ body }) => ['marker', 'entropy'].includes(body.kind)))
  assert.equal(pair.hart.bufferedInterrupts, 4)
  pair.endEpoch()
  assert.equal(pair.hart.bufferedInterrupts, 0)
  const interrupts = entriesOfEpoch(pair.log, 1n).filter(({ body }) => !['marker', 'entropy'].includes(body.kind))
  assert.deepEqual(kindsOfEntries(interrupts), ['frame', 'consoleInput', 'frame', 'consoleInput', 'clock', 'epochEnd'])
  for (const { count } of interrupts) assert.equal(count, BigInt(2 * epochInstructions))
})

test('P1: an interrupt that arrives in E changes nothing that the guest does before the end of E', () => {
  const digestAtTheEnd = (interrupts: readonly Interrupt[]): bigint => {
    const pair = new EpochPair({ protocol: 'revised', habits: { entropyEvery: 100 } })
    pair.epoch()
    for (const interrupt of interrupts) pair.hart.onInterrupt(interrupt)
    pair.runTo('epochEnd')
    return pair.machine.digest()
  }
  assert.equal(digestAtTheEnd([frame(1n), key]), digestAtTheEnd([]))
})

test('P1: what a disk read gave is sent with its interrupt, and is in the guest at the end of E, not before', () => {
  const pair = new EpochPair({ protocol: 'revised', habits: { diskEvery: 100 } })
  const reads = () => pair.machine.inFlightDiskRequests().filter(({ operation }) => operation === 'read')
  while (reads().length === 0) pair.epoch()
  const [read] = reads()
  const data = new Uint8Array(16).fill(0xa5)
  const before = pair.machine.digest()
  pair.hart.onInterrupt({ kind: 'diskCompletion', sequence: read!.sequence, status: 'ok', data })
  assert.equal(pair.machine.digest(), before, 'it has not touched the guest')
  pair.epoch()
  const answer = pair.log.find(({ body }) => body.kind === 'diskCompletion' && body.sequence === read!.sequence)!
  assert.ok(answer.body.kind === 'diskCompletion')
  assert.deepEqual(answer.body.data, data)
  const end = pair.log.find(({ index, body }) => index > answer.index && body.kind === 'epochEnd')!
  assert.equal(answer.count, end.count)
  pair.replay()
  assert.equal(pair.backupMachine.digest(), pair.machine.digest(), 'the backup, which has no disk, has the same')
})

test('P2: a timer that [Tme] implies is delivered at the end of E: a guest that slept runs on in E + 1', () => {
  const pair = new EpochPair({ protocol: 'original', habits: { waitEvery: 400 } })
  let stop = pair.run()
  while (stop.kind !== 'waiting') {
    if (stop.kind === 'epochEnd') pair.endEpoch()
    pair.exchange()
    stop = pair.run()
  }
  assert.ok(stop.deadline !== undefined && stop.deadline > pair.machine.ticks)
  const { count } = pair.machine
  assert.equal(pair.run().kind, 'waiting', 'nothing but an end of an epoch wakes it')
  pair.nowTicks = stop.deadline
  pair.endEpoch()
  assert.equal(pair.run().kind, 'awaiting', 'not before everything sent is acknowledged')
  assert.equal(pair.machine.count, count)
  pair.exchange()
  pair.run()
  assert.ok(pair.machine.count > count)
  assert.equal(entriesOfEpoch(pair.log, pair.hart.epoch - 1n).at(-1)!.count, count)
})

test('P2: the end of E sends [Tme], then [end, E], and every epoch has the same number of instructions', () => {
  const pair = new EpochPair({ protocol: 'original' })
  for (let epoch = 0n; epoch < 5n; epoch++) {
    pair.epoch()
    const entries = entriesOfEpoch(pair.log, epoch)
    const [tme, end] = entries.slice(-2)
    assert.ok(tme?.body.kind === 'clock' && end?.body.kind === 'epochEnd')
    assert.equal(tme.body.ticks, (epoch + 1n) * 100n)
    assert.equal(end.body.epoch, epoch)
    assert.equal(end.count, (epoch + 1n) * BigInt(epochInstructions))
  }
})

test('P2: at the end of E everything sent is awaited: no instruction runs and [end, E] is not sent before it is acknowledged', () => {
  const pair = new EpochPair({ protocol: 'original' })
  pair.epoch()
  pair.hart.onInterrupt(frame(1n))
  pair.runTo('epochEnd')
  const { count } = pair.machine
  pair.endEpoch()
  const { nextIndex } = pair.hart.recorder
  assert.equal(pair.log.at(-1)!.body.kind, 'clock', '[Tme] is sent')
  for (let attempt = 0; attempt < 3; attempt++) {
    assert.deepEqual(pair.run(), { kind: 'awaiting', end: nextIndex })
    assert.equal(pair.machine.count, count)
  }
  pair.letToBackup()
  assert.ok(acknowledges(pair.toPrimary, nextIndex))
  assert.equal(pair.run().kind, 'awaiting', 'acknowledged, but the primary has not heard it yet')
  pair.letToPrimary()
  pair.run()
  assert.equal(pair.log.at(-1)!.body.kind, 'epochEnd')
  assert.ok(pair.machine.count > count)
})

test('P2: an acknowledgement of a part of it is not enough', () => {
  const pair = new EpochPair({ protocol: 'original' })
  pair.runTo('epochEnd')
  pair.letToBackup()
  pair.letToPrimary()
  pair.hart.onInterrupt(frame(1n))
  pair.endEpoch()
  pair.letToPrimary()
  assert.equal(pair.run().kind, 'awaiting')
  pair.exchange()
  assert.notEqual(pair.run(0n).kind, 'awaiting')
})

test('P2: guest time stands still within an epoch and is Tme after it, so no timer comes due but at an end', () => {
  const pair = new EpochPair({ protocol: 'revised', habits: { entropyEvery: 50 } })
  pair.epoch()
  for (let epoch = 1; epoch < 4; epoch++) {
    const { ticks } = pair.machine
    assert.equal(ticks, pair.nowTicks)
    pair.nowTicks += 77n
    for (let stop = pair.run(); stop.kind !== 'epochEnd'; stop = pair.run()) assert.equal(pair.machine.ticks, ticks)
    assert.equal(pair.machine.ticks, ticks)
    pair.endEpoch()
    assert.equal(pair.machine.ticks, pair.nowTicks)
  }
})

test('P2 revised: nothing is awaited at the end of an epoch', () => {
  const pair = new EpochPair({ protocol: 'revised' })
  for (let epoch = 0; epoch < 10; epoch++) {
    pair.runTo('epochEnd')
    pair.hart.onInterrupt(frame(BigInt(epoch)))
    pair.endEpoch()
  }
  assert.equal(pair.machine.count, BigInt(10 * epochInstructions))
  assert.equal(pair.log.at(-1)!.body.kind, 'epochEnd')
  assert.equal(pair.toPrimary.length, 0, 'no acknowledgement has come')
})

test('P2 revised: at an I/O operation the hart stops, and the operation waits, until everything sent is acknowledged', () => {
  const pair = new EpochPair({ protocol: 'revised', habits: { frameEvery: 300 } })
  for (let operations = 0; operations < 5; ) {
    const { kind } = pair.run()
    if (kind === 'epochEnd') pair.endEpoch()
    if (kind !== 'outputs') continue
    operations++
    const { count } = pair.machine
    const { nextIndex } = pair.hart.recorder
    const releasedBefore = pair.released.length
    assert.deepEqual(pair.run(), { kind: 'awaiting', end: nextIndex })
    assert.equal(pair.machine.count, count)
    assert.equal(pair.released.length, releasedBefore, 'the operation has not been carried out')
    pair.exchange()
    assert.ok(pair.released.length > releasedBefore)
    assert.notEqual(pair.run(0n).kind, 'awaiting')
  }
})

test('P2 revised: an I/O operation that an interrupt starts at the end of an epoch is awaited as well', () => {
  const pair = new EpochPair({ protocol: 'revised', habits: { diskEvery: 20 } })
  // Requests for one sector wait for each other in the device: the answer to one starts the next, at the end of an epoch.
  for (let epoch = 0; epoch < 20; epoch++) {
    for (;;) {
      const { kind } = pair.run()
      if (kind === 'awaiting') pair.exchange()
      if (kind === 'epochEnd') break
    }
    pair.answerDisk()
    const before = pair.machine.inFlightDiskRequests().map(({ sequence }) => sequence)
    pair.endEpoch()
    const started = pair.machine.inFlightDiskRequests().filter(({ sequence }) => !before.includes(sequence))
    assert.equal(
      pair.run(0n).kind === 'awaiting',
      started.some((output) => obeysOutputRule(output)),
    )
    if (started.some((output) => obeysOutputRule(output))) return
    pair.exchange()
  }
  assert.fail('no request was started by an answer')
})

test('P2 revised: what the outside cannot see, a disk read, is not awaited', () => {
  const pair = new EpochPair({ protocol: 'revised', habits: { diskEvery: 700 } })
  const seen = { read: 0, write: 0 }
  while (seen.read < 3 || seen.write < 3) {
    const { kind } = pair.run()
    if (kind === 'epochEnd') {
      pair.answerDisk()
      pair.endEpoch()
    } else if (kind === 'outputs') {
      const { operation } = pair.machine.inFlightDiskRequests().at(-1)!
      assert.ok(operation === 'read' || operation === 'write')
      seen[operation]++
      assert.equal(pair.run(0n).kind === 'awaiting', operation === 'write')
    }
    pair.exchange()
  }
})

for (const protocol of ['original', 'revised'] as const) {
  test(`WFI with nothing pending ends an epoch early, and [end, E] carries the count (${protocol})`, () => {
    const pair = new EpochPair({ protocol, habits: { waitEvery: 400 } })
    const counts: bigint[] = []
    for (let epoch = 0n; epoch < 8n; epoch++) {
      let stop = pair.run()
      while (stop.kind === 'awaiting') {
        pair.exchange()
        stop = pair.run()
      }
      if (stop.kind === 'waiting') {
        pair.hart.onInterrupt(frame(epoch))
        assert.equal(pair.run().kind, 'epochEnd', 'something is pending now')
      }
      pair.endEpoch()
      pair.exchange()
      pair.run(0n)
      const end = entriesOfEpoch(pair.log, epoch).at(-1)!
      counts.push(end.count)
    }
    const lengths = counts.map((count, index) => Number(count - (counts[index - 1] ?? 0n)))
    assert.ok(
      lengths.some((length) => length < epochInstructions),
      `${lengths}`,
    )
    assert.ok(
      lengths.every((length) => length <= epochInstructions),
      `${lengths}`,
    )
    pair.exchange()
    pair.replay()
    assert.equal(pair.follower.replayedEnd, pair.hart.recorder.nextIndex)
    assert.equal(pair.backupMachine.digest(), pair.machine.digest())
  })
}
