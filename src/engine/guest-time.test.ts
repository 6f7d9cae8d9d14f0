import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { csr } from '../riscv/csrs.ts'
import { capDelta, firstCountAt, neverTicks, ticksAt } from './guest-time.ts'
import { bareHart } from './test-support/bare-hart.ts'
import type { GuestClock } from './types.ts'

const clocks = fc.record({
  n0: fc.bigInt(0n, 1n << 50n),
  t0: fc.bigInt(0n, 1n << 60n),
  ratePer2p32: fc.oneof(fc.bigInt(0n, 1n << 34n), fc.constantFrom(0n, 1n, (1n << 32n) - 1n, 1n << 32n, 1n << 40n)),
  cap: fc.oneof(fc.bigInt(0n, 1n << 40n), fc.constant(1n << 62n)),
})

test('firstCountAt is the exact inverse of ticksAt: due at that count, not due one before', () => {
  fc.assert(
    fc.property(clocks, fc.bigInt(0n, 1n << 42n), (clock, ahead) => {
      const deadline = clock.t0 + ahead
      const count = firstCountAt(clock, deadline)
      if (count === undefined) {
        assert.ok(ahead > clock.cap || clock.ratePer2p32 === 0n)
        return
      }
      assert.ok(ticksAt(clock, count) >= deadline)
      assert.ok(count === clock.n0 || ticksAt(clock, count - 1n) < deadline)
    }),
    { numRuns: 2000 },
  )
})

test('a deadline of 2^64 - 1 never fires, and deadlines compare unsigned', () => {
  const clock: GuestClock = { n0: 0n, t0: 0n, ratePer2p32: 1n << 32n, cap: neverTicks }
  assert.equal(firstCountAt(clock, neverTicks), undefined)
  assert.equal(firstCountAt(clock, 1n << 63n), 1n << 63n)
})

test('time stands still at the cap, and no timer behind it is ever due', () => {
  const clock: GuestClock = { n0: 100n, t0: 1000n, ratePer2p32: 1n << 31n, cap: 5n }
  assert.equal(ticksAt(clock, 109n), 1004n)
  assert.equal(ticksAt(clock, 110n), 1005n)
  assert.equal(ticksAt(clock, 1n << 40n), 1005n)
  assert.equal(firstCountAt(clock, 1005n), 110n)
  assert.equal(firstCountAt(clock, 1006n), undefined)
  assert.equal(capDelta(clock), 10n)
})

test('the time CSR is the same function of the count', () => {
  const { engine } = bareHart()
  fc.assert(
    fc.property(clocks, fc.bigInt(0n, 1n << 50n), (clock, passed) => {
      engine.count = clock.n0 + passed
      engine.setClock(clock)
      assert.equal(engine.getCsr(csr.time), ticksAt(clock, engine.count))
    }),
    { numRuns: 1000 },
  )
})
