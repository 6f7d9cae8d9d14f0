import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ByteReader, ByteWriter } from '../../base/bytes.ts'
import type { Engine } from '../../engine/types.ts'
import { RealTimeClock } from './goldfish-rtc.ts'

const secondNs = 1_000_000_000n
const bootNs = 1_700_000_000n * secondNs

function clock() {
  const engine = { ticks: 0n }
  const device = new RealTimeClock(engine as Engine)
  const read = (from = device) => {
    const low = from.load(0, 4)!
    return (from.load(4, 4)! << 32n) | low
  }
  const write = (ns: bigint) => {
    device.store(4, 4, ns >> 32n)
    device.store(0, 4, ns & 0xffff_ffffn)
  }
  return { engine, device, read, write }
}

test('what Linux makes of its first readings, the middle of the whole second, is what the clock shows from then on', () => {
  const firstReadings = [0, 1, 380, 499, 500, 501, 931, 999, 1000, 3123]
  for (const [readAtMs, againAfterMs] of firstReadings.flatMap((at) => [0, 1, 20, 499].map((after) => [at, after]))) {
    const { engine, device, read } = clock()
    device.start(bootNs + 7n)
    engine.ticks = BigInt(readAtMs!) * 10_000n
    read()
    engine.ticks += BigInt(againAfterMs!) * 10_000n
    const truthNs = bootNs + 7n + engine.ticks * 100n
    const shownNs = read()
    const linuxNs = (shownNs / secondNs) * secondNs + secondNs / 2n
    assert.equal(shownNs, linuxNs)
    assert.ok(
      linuxNs <= truthNs && truthNs - linuxNs < 2n * secondNs,
      'behind by less than a second each time, never ahead',
    )
    const { wallClockNs, ticks } = device.anchor!
    assert.equal(wallClockNs + (engine.ticks - ticks) * 100n, linuxNs, 'and the anchor knows')
    engine.ticks += 5_000_000n
    assert.equal(read(), linuxNs + secondNs / 2n, 'half a second later no reading moves it')
  }
})

test('a clock that the guest sets shows what was set, and leaves the anchor alone', () => {
  const { engine, device, read, write } = clock()
  device.start(bootNs)
  read()
  const { anchor } = device
  write(bootNs + 3600n * secondNs)
  engine.ticks = 10n
  assert.equal(read(), bootNs + 3600n * secondNs + 1000n)
  assert.deepEqual(device.anchor, anchor)
})

test('every boot has its own first reading', () => {
  const { device, read } = clock()
  for (const startNs of [bootNs, bootNs + 60n * secondNs + 250n]) {
    device.reset()
    assert.equal(device.anchor, undefined)
    device.start(startNs)
    assert.equal(read() % secondNs, secondNs / 2n)
  }
})

test('a restored clock remembers whether it was read', () => {
  for (const wasRead of [false, true]) {
    const { engine, device, read } = clock()
    device.start(bootNs)
    if (wasRead) read()
    engine.ticks = 3_333n
    const writer = new ByteWriter(64)
    device.saveState(writer)
    const copy = new RealTimeClock(engine as Engine)
    copy.loadState(new ByteReader(writer.view()))
    assert.deepEqual(copy.anchor, device.anchor)
    assert.equal(read(copy), read(device))
  }
})
