/** Bressoud & Schneider, "Hypervisor-based Fault Tolerance": the rules of the backup, P3 to P7. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Interrupt } from '../../../src/hypervisor/epoch/interrupts.ts'
import { decodeBatch } from '../../../src/log/batch.ts'
import { acknowledges, EpochPair, type EpochPairOptions, epochInstructions } from './epoch-pair.ts'

const frame = (id: bigint): Interrupt => ({ kind: 'frame', frameId: id, bytes: Uint8Array.of(1) })
const length = BigInt(epochInstructions)

test('P0: the backup waits at that instruction for Val, and uses the one that comes', () => {
  const pair = new EpochPair({ protocol: 'revised', habits: { entropyEvery: 200 } })
  pair.epoch()
  pair.replay()
  // The primary dies between the request and the value: that much of the log has arrived.
  const { outputs } = pair.hart.run(1n << 40n)
  assert.equal(outputs[0]?.output.kind, 'entropyRequest')
  pair.send([])
  pair.letToBackup()
  pair.replay()
  assert.equal(pair.backupMachine.count, pair.machine.count, 'it stands where its guest asked')
  const unlike = new Uint8Array(16).fill(0x5a)
  pair.hart.environmentValue({ kind: 'entropy', bytes: unlike })
  pair.send([])
  pair.runTo('epochEnd')
  pair.endEpoch()
  assert.ok(pair.backupMachine.count < pair.machine.count)
  pair.letToBackup()
  pair.replay()
  assert.equal(pair.backupMachine.digest(), pair.machine.digest())
})

test("P3: an interrupt meant for the backup's own machine is ignored, until it is the primary", () => {
  const pair = new EpochPair({ protocol: 'revised' })
  pair.epoch()
  pair.follower.onInterrupt(frame(99n))
  pair.replay()
  assert.equal(pair.backupMachine.digest(), pair.machine.digest())
  const { primary } = pair.failover()
  assert.equal(primary.bufferedInterrupts, 0, 'nor is it kept for later')
  const other = new EpochPair({ protocol: 'revised' })
  other.epoch()
  assert.equal(other.failover([frame(99n)]).primary.bufferedInterrupts, 1, 'promoted, it hears the world')
})

test('P4: [E, Int] is acknowledged on receipt, and buffered: it is delivered at the end of E', () => {
  const pair = new EpochPair({ protocol: 'original' })
  pair.epoch()
  pair.exchange()
  pair.replay()
  const atStart = pair.backupMachine.count
  pair.hart.onInterrupt(frame(1n))
  pair.runTo('epochEnd')
  const atTheEnd = pair.machine.digest()
  pair.endEpoch()
  pair.letToBackup()
  assert.ok(acknowledges(pair.toPrimary, pair.hart.recorder.nextIndex))
  assert.equal(pair.backupMachine.count, atStart, 'acknowledged without an instruction of E being run')
  pair.follower.run(length - 1n)
  assert.equal(pair.backupMachine.count, atStart + length - 1n)
  assert.notEqual(pair.backupMachine.digest(), pair.machine.digest())
  assert.equal(pair.machine.count, atStart + length)
  pair.replay()
  assert.equal(pair.backupMachine.count, atStart + length)
  assert.equal(pair.backupMachine.digest(), pair.machine.digest(), 'delivered at the end of E')
  assert.notEqual(pair.backupMachine.digest(), atTheEnd)
})

test('P5: the backup runs one epoch behind: no instruction of E before the end of E is known, none of E + 1 before [end, E]', () => {
  const pair = new EpochPair({ protocol: 'original' })
  for (let epoch = 1n; epoch < 6n; epoch++) {
    pair.runTo('epochEnd')
    pair.replay()
    assert.equal(pair.backupMachine.count, (epoch - 1n) * length, 'the primary is in E, the backup awaits [Tme]')
    pair.endEpoch()
    pair.letToBackup()
    pair.replay()
    assert.equal(pair.backupMachine.count, epoch * length, '[Tme] came: the backup ran E')
    assert.equal(pair.run().kind, 'awaiting')
    pair.exchange()
  }
})

test('P5: the backup adopts [Tme]: its guest has the time of the primary', () => {
  const pair = new EpochPair({ protocol: 'revised' })
  for (const ticks of [500n, 501n, 90_000n]) {
    pair.runTo('epochEnd')
    pair.nowTicks = ticks
    pair.endEpoch()
    pair.exchange()
    pair.replay()
    assert.equal(pair.backupMachine.ticks, ticks)
  }
})

/** A pair whose primary has died in some epoch, and what its successor does up to the end of that epoch. */
function failOverAt(options: EpochPairOptions, prepare: (pair: EpochPair) => void, clock: bigint) {
  const pair = new EpochPair(options)
  pair.epoch()
  pair.epoch()
  prepare(pair)
  const { primary, outputs, reissue } = pair.failover()
  primary.onAcknowledged(undefined)
  let stop = primary.run(1n << 40n).stop
  while (stop.kind === 'outputs' || stop.kind === 'slice') stop = primary.run(1n << 40n).stop
  const endCount = pair.backupMachine.count
  primary.endEpoch(clock)
  return { pair, primary, outputs, reissue, stop, endCount, epoch: primary.epoch }
}

for (const protocol of ['original', 'revised'] as const) {
  test(`P6: the primary fails in the middle of E: E, the failover epoch, runs to its end, by the backup's own clock (${protocol})`, () => {
    const { pair, endCount, stop } = failOverAt(
      { protocol, habits: { entropyEvery: 150 } },
      (pair) => {
        pair.run()
        assert.ok(pair.machine.count > 2n * length && pair.machine.count < 3n * length)
        pair.letToBackup()
      },
      12_345n,
    )
    assert.equal(stop.kind, 'epochEnd')
    assert.equal(endCount, 3n * length)
    assert.equal(pair.backupMachine.ticks, 12_345n)
  })

  test(`P6: it becomes the primary of E + 1 (${protocol})`, () => {
    const { pair, primary } = failOverAt({ protocol }, (pair) => pair.letToBackup(), 12_345n)
    primary.run(1n << 40n)
    assert.equal(primary.epoch, 3n)
    assert.equal(pair.backupMachine.count, 4n * length)
  })
}

test('P6: its own clock is not used if it lies behind the last time adopted: guest time never goes back', () => {
  const { pair } = failOverAt({ protocol: 'revised' }, (pair) => pair.letToBackup(), 3n)
  assert.equal(pair.nowTicks, 200n)
  assert.equal(pair.backupMachine.ticks, 200n)
})

test('P6: [Tme] of the failover epoch came, [end, E] did not: that Tme is used, and not the own clock', () => {
  const { pair, endCount, primary } = failOverAt(
    { protocol: 'original' },
    (pair) => {
      pair.hart.onInterrupt(frame(1n))
      pair.runTo('epochEnd')
      pair.nowTicks = 777n
      pair.endEpoch()
      pair.letToBackup()
    },
    999_999n,
  )
  assert.equal(pair.backupMachine.ticks, 777n)
  assert.equal(endCount, 3n * length, 'E had ended')
  primary.run(1n << 40n)
  assert.equal(primary.epoch, 3n)
  assert.equal(pair.backupMachine.count, 4n * length)
})

test('P6: what was buffered for the failover epoch is delivered at its end: what came with the log, and what came since', () => {
  const pair = new EpochPair({ protocol: 'original' })
  pair.epoch()
  pair.hart.onInterrupt(frame(1n))
  pair.runTo('epochEnd')
  pair.endEpoch()
  pair.letToBackup()
  const { primary } = pair.failover([frame(2n)])
  primary.onAcknowledged(undefined)
  primary.endEpoch(0n)
  primary.run(1n)
  const entries = primary.recorder.takeBatches()
  assert.equal(entries.length, 1)
  assert.equal(entries[0]!.lastFrameId, 2n)
  assert.equal(pair.log.findLast(({ body }) => body.kind === 'frame')!.count, pair.machine.count)
  assert.equal(primary.epoch, 2n)
})

test('P6: an interrupt came in the failover epoch, its [Tme] did not: E has ended all the same', () => {
  const pair = new EpochPair({ protocol: 'revised' })
  pair.epoch()
  // A short epoch, of a hart that waited, and a batch that was cut behind [E, Int]: a long one is, when it is full.
  pair.run(300n)
  pair.hart.recorder.apply(frame(1n))
  pair.send([])
  pair.letToBackup()
  const { count } = pair.machine
  const { primary } = pair.failover()
  assert.equal(primary.run(1n << 40n).stop.kind, 'epochEnd')
  assert.equal(pair.backupMachine.count, count)
})

/** Kills a primary that has writes and reads under way on a disk of this bus. */
function failOverWithRequests(bus: 'blk' | 'scsi') {
  const options = { protocol: 'revised', habits: { diskEvery: 60 }, bus } as const
  let outstanding: bigint[] = []
  const failed = failOverAt(
    options,
    (pair) => {
      while (pair.machine.inFlightDiskRequests().length < 2) {
        const { kind } = pair.run()
        if (kind === 'epochEnd') {
          pair.answerDisk()
          pair.endEpoch()
        }
        pair.exchange()
      }
      pair.letToBackup()
      pair.replay()
      outstanding = pair.backupMachine.inFlightDiskRequests().map(({ sequence }) => sequence)
      assert.ok(outstanding.length > 0)
    },
    5000n,
  )
  return { ...failed, outstanding }
}

test('P7: at the end of the failover epoch every I/O operation outstanding gets an uncertain interrupt, once, and its driver tries again', () => {
  const { pair, reissue, outstanding, primary, endCount } = failOverWithRequests('scsi')
  assert.deepEqual(reissue, [], 'nothing is done behind the driver: it decides')
  const inFlight = pair.backupMachine.inFlightDiskRequests()
  for (const sequence of outstanding) {
    assert.ok(!inFlight.some((request) => request.sequence === sequence), `request ${sequence} is still outstanding`)
  }
  assert.ok(
    inFlight.filter(({ sequence }) => sequence > outstanding.at(-1)!).length >= outstanding.length,
    'tried again',
  )
  const written = primary.recorder.takeBatches()
  assert.equal(written.length, 1)
  const uncertain = decodeBatch(written[0]!.bytes).filter(
    ({ body }) => body.kind === 'diskCompletion' && body.status === 'uncertain',
  )
  assert.deepEqual(
    uncertain.map(({ body, count }) => ({ sequence: body.kind === 'diskCompletion' && body.sequence, count })),
    outstanding.map((sequence) => ({ sequence, count: endCount })),
  )
})

test('P7: where the bus has no word for it the operation is issued again, and the driver sees nothing: our deviation', () => {
  const { pair, reissue, outstanding } = failOverWithRequests('blk')
  assert.deepEqual(
    reissue.map(({ output }) => output.sequence),
    outstanding,
  )
  const inFlight = pair.backupMachine.inFlightDiskRequests().map(({ sequence }) => sequence)
  for (const sequence of outstanding) assert.ok(inFlight.includes(sequence))
})
