import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Prng } from '../base/prng.ts'
import type { ClockAnchor, Ticks } from '../machine/types.ts'
import { type ClockInput, ClockKeeper, defaultClockPolicy, type HostTime } from './clock-keeper.ts'

const ms = 1_000_000n
const second = 1000n * ms
const bootWallNs = 1_700_000_000n * second
const anchor: ClockAnchor = { wallClockNs: bootWallNs, ticks: 0n }

/** Only what a clock sees of a hart: its count, and t(n). */
class Hart {
  count = 0n
  #clock: ClockInput & { n0: bigint } = { kind: 'clock', n0: 0n, ticks: 0n, ratePer2p32: 0n, capTicks: 0n }
  longestStepTicks = 0n

  get ticks(): Ticks {
    const { n0, ticks, ratePer2p32, capTicks } = this.#clock
    const passed = ((this.count - n0) * ratePer2p32) >> 32n
    return ticks + (passed < capTicks ? passed : capTicks)
  }

  apply(input: ClockInput): void {
    const step = input.ticks - this.ticks
    assert.ok(step >= 0n, 'guest time went back')
    if (step > this.longestStepTicks) this.longestStepTicks = step
    this.#clock = { ...input, n0: this.count }
  }
}

/** A host with its own calendar error, that runs a hart and samples how far guest time is from its calendar. */
class Host {
  readonly hart: Hart
  readonly keeper: ClockKeeper
  readonly #wallMinusMonotonicNs: bigint
  nowNs: bigint
  entries = 0
  worstErrorNs = 0n

  constructor(hart: Hart, wallClockNs: bigint, monotonicNs: bigint) {
    this.hart = hart
    this.nowNs = monotonicNs
    this.#wallMinusMonotonicNs = wallClockNs - monotonicNs
    this.keeper = new ClockKeeper(anchor, hart.ticks, this.time)
  }

  get time(): HostTime {
    return { monotonicNs: this.nowNs, wallClockNs: this.nowNs + this.#wallMinusMonotonicNs }
  }

  /** Positive: the guest is ahead. */
  get errorNs(): bigint {
    return bootWallNs + this.hart.ticks * 100n - this.time.wallClockNs
  }

  #sample(): void {
    const error = this.errorNs < 0n ? -this.errorNs : this.errorNs
    if (error > this.worstErrorNs) this.worstErrorNs = error
  }

  #apply(input: ClockInput | undefined): void {
    if (input === undefined) return
    this.entries++
    this.hart.apply(input)
    this.#sample()
  }

  /** Runs at `speed` instructions per second, and looks at the clock as often as the keeper asks for. */
  load(durationNs: bigint, speed: number): void {
    const end = this.nowNs + durationNs
    while (this.nowNs < end) {
      this.#apply(this.keeper.entryWhileRunning(this.nowNs, this.hart.ticks))
      const slice = this.keeper.sliceInstructions
      const sliceNs = (slice * second) / BigInt(speed)
      for (let quarter = 0; quarter < 4; quarter++) {
        this.hart.count += slice / 4n
        this.nowNs += sliceNs / 4n
        this.#sample()
      }
      this.keeper.onRan(slice, sliceNs)
    }
  }

  /** Waits for one deadline after the other; wakes `lateNs` late, as hosts do. */
  idle(durationNs: bigint, timerNs: bigint, lateNs: bigint): void {
    const end = this.nowNs + durationNs
    while (this.nowNs < end) {
      const deadline = this.hart.ticks + timerNs / 100n
      while (this.hart.ticks < deadline) {
        const until = this.keeper.sleepUntilNs(this.nowNs, this.hart.ticks, deadline)
        if (until > this.nowNs) this.nowNs = until + lateNs
        const before = this.hart.ticks
        const input = this.keeper.entryWhileWaiting(this.nowNs, this.hart.ticks, deadline)
        assert.ok(input, 'the time the keeper named has come')
        this.entries++
        this.hart.apply(input)
        assert.ok(this.hart.ticks > before || this.errorNs >= 0n, 'an entry that helps nobody')
      }
      this.#sample()
      this.hart.count += 1000n
      this.nowNs += 10_000n
    }
  }
}

test('guest time stays within 20 ms of the host and never goes back: 10 minutes of mixed idle and load', () => {
  for (const seed of [1, 2, 3]) {
    const prng = new Prng(seed)
    const host = new Host(new Hart(), bootWallNs, 77n * second)
    host.load(2n * second, 80_000_000)
    host.worstErrorNs = 0n
    while (host.nowNs < 677n * second) {
      // Speeds differ by a factor of twenty: cold code, slow paths, hot loops.
      if (prng.chance(0.5)) host.load(BigInt(prng.below(3000)) * ms, 20_000_000 + prng.below(400_000_000))
      else host.idle(BigInt(prng.below(3000)) * ms, BigInt(1 + prng.below(999)) * ms, BigInt(prng.below(4)) * ms)
    }
    assert.ok(host.worstErrorNs < 20n * ms, `${Number(host.worstErrorNs) / 1e6} ms with seed ${seed}`)
    assert.ok(host.entries < 700 * 210, `${host.entries} entries`)
  }
})

test('an idle guest with a far timer costs about one entry a second', () => {
  const host = new Host(new Hart(), bootWallNs, 0n)
  host.idle(60n * second, 30n * second, 0n)
  assert.ok(host.entries >= 59 && host.entries <= 70, `${host.entries}`)
})

test('a stalled stream of entries bounds the drift: guest time stops at two intervals', () => {
  const host = new Host(new Hart(), bootWallNs, 0n)
  host.load(2n * second, 100_000_000)
  const before = host.hart.ticks
  host.hart.count += 10n ** 12n
  assert.ok(host.hart.ticks - before <= (2n * defaultClockPolicy.intervalNs) / 100n)
})

for (const gap of [700n * ms, 9n * second, 60n * second, 300n * second]) {
  test(`after a pause of ${gap / ms} ms guest time steps by at most 10 s, and is within 20 ms again 2 s later`, () => {
    for (const isLoaded of [true, false]) {
      const host = new Host(new Hart(), bootWallNs, 5n * second)
      host.load(2n * second, 100_000_000)
      host.nowNs += gap
      const go = (ns: bigint) => (isLoaded ? host.load(ns, 100_000_000) : host.idle(ns, 2n * second, 1n * ms))
      host.hart.longestStepTicks = 0n
      if (isLoaded) go(2n * second)
      else host.idle(2n * second, 10n * ms, ms)
      assert.ok(host.hart.longestStepTicks <= 100_000_000n)
      assert.ok(host.errorNs > -20n * ms && host.errorNs < 20n * ms, `${host.errorNs}`)
    }
  })
}

test('steps of a long gap leave the guest time in between to feed its watchdogs', () => {
  const host = new Host(new Hart(), bootWallNs, 0n)
  host.load(1n * second, 100_000_000)
  host.nowNs += 35n * second
  const steps: bigint[] = []
  for (let round = 0; round < 1000; round++) {
    const before = host.hart.longestStepTicks
    host.hart.longestStepTicks = 0n
    host.load(1n * ms, 100_000_000)
    if (host.hart.longestStepTicks > 1_000_000n) steps.push(host.nowNs)
    host.hart.longestStepTicks = before
  }
  assert.equal(steps.length, 4)
  steps.slice(1).forEach((step, position) => {
    assert.ok(step - steps[position]! >= 50n * ms - 10n * ms)
  })
})

for (const differenceMs of [-15, 0, 15, 300, -300, -700]) {
  test(`a failover to a host whose clock differs by ${differenceMs} ms: never back, and on the new host's time 2 s later`, () => {
    const first = new Host(new Hart(), bootWallNs, 1000n * second)
    first.load(3n * second, 100_000_000)
    // 650 ms pass; the other host has another monotonic clock altogether.
    const wallClockNs = first.time.wallClockNs + 650n * ms + BigInt(differenceMs) * ms
    const second_ = new Host(first.hart, wallClockNs, 5n * second)
    second_.load(1n * second, 60_000_000)
    second_.idle(1n * second, 10n * ms, ms)
    assert.ok(second_.errorNs > -20n * ms && second_.errorNs < 20n * ms, `${second_.errorNs}`)
  })
}

test('a host whose calendar is hours behind does not stop the guest: its own time goes on', () => {
  const first = new Host(new Hart(), bootWallNs, 0n)
  first.load(3n * second, 100_000_000)
  const next = new Host(first.hart, first.time.wallClockNs - 7200n * second, 0n)
  const before = next.hart.ticks
  next.load(1n * second, 100_000_000)
  const passed = next.hart.ticks - before
  assert.ok(passed > 9_800_000n && passed < 10_200_000n, `${passed} ticks in one second`)
})

test('a guest that is ahead runs slow, but never stands', () => {
  const host = new Host(new Hart(), bootWallNs, 0n)
  host.load(1n * second, 100_000_000)
  const behind = new Host(host.hart, host.time.wallClockNs - 500n * ms, 0n)
  const start = behind.hart.ticks
  behind.load(100n * ms, 100_000_000)
  const passed = behind.hart.ticks - start
  assert.ok(passed > 50_000n && passed < 500_000n, `${passed} ticks in 100 ms`)
})

test('a corrected host calendar is followed forward and a little back, but not far back', () => {
  const keeper = new ClockKeeper(anchor, 0n, { monotonicNs: 0n, wallClockNs: bootWallNs })
  keeper.resync({ monotonicNs: second, wallClockNs: bootWallNs + 61n * second }, anchor)
  assert.equal(keeper.targetTicks(second), 610_000_000n)
  keeper.resync({ monotonicNs: 2n * second, wallClockNs: bootWallNs + 62n * second - 10n * ms }, anchor)
  assert.equal(keeper.targetTicks(2n * second), 619_900_000n)
  keeper.resync({ monotonicNs: 3n * second, wallClockNs: bootWallNs - 3600n * second }, anchor)
  assert.equal(keeper.targetTicks(3n * second), 629_900_000n)
})

test('when the machine moves its anchor back, guest time steps forward by as much', () => {
  const host = new Host(new Hart(), bootWallNs, 0n)
  host.load(100n * ms, 100_000_000)
  const before = host.hart.ticks
  host.keeper.resync(host.time, { wallClockNs: bootWallNs - 400n * ms, ticks: 0n })
  host.load(10n * ms, 100_000_000)
  const passed = host.hart.ticks - before
  assert.ok(passed >= 4_050_000n && passed <= 4_150_000n, `${passed} ticks in 10 ms and a step of 400 ms`)
})

test('before an input that wakes the hart, guest time is brought up to date', () => {
  const keeper = new ClockKeeper(anchor, 0n, { monotonicNs: 0n, wallClockNs: bootWallNs })
  assert.equal(keeper.entryBeforeInput(3n * ms, 0n)?.ticks, 30_000n)
  assert.equal(keeper.entryBeforeInput(3n * ms, 30_000n), undefined)
})

test('the slice follows the measured speed of the hart, so that the clock is looked at eight times an interval', () => {
  const keeper = new ClockKeeper(anchor, 0n, { monotonicNs: 0n, wallClockNs: bootWallNs })
  for (const speed of [20_000_000n, 400_000_000n]) {
    for (let slices = 0; slices < 200; slices++) keeper.onRan(speed / 1000n, ms)
    const expected = (speed * defaultClockPolicy.intervalNs) / second / 8n
    assert.ok(keeper.sliceInstructions > (expected * 95n) / 100n && keeper.sliceInstructions < (expected * 105n) / 100n)
  }
  const before = keeper.instructionsPerSecond
  keeper.onRan(0n, ms)
  keeper.onRan(5n, 0n)
  assert.equal(keeper.instructionsPerSecond, before, 'a stretch without instructions or time says nothing')
})
