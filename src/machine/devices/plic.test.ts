import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ByteReader, ByteWriter } from '../../base/bytes.ts'
import { MiB } from '../../base/units.ts'
import { interruptBits } from '../../engine/types.ts'
import { FakeEngine } from '../test-support/fake-engine.ts'
import { InterruptController } from './plic.ts'

const enable = (context: number) => 0x2000 + 0x80 * context
const threshold = (context: number) => 0x20_0000 + 0x1000 * context
const claim = (context: number) => threshold(context) + 4

function controller() {
  const engine = new FakeEngine({ ramBytes: MiB, bus: { load: () => undefined, store: () => false } })
  const plic = new InterruptController(engine)
  const set = (offset: number, value: number) => plic.store(offset, 4, BigInt(value >>> 0))
  const get = (offset: number) => Number(plic.load(offset, 4))
  return { engine, plic, set, get, external: () => engine.hasInterrupt(interruptBits.seip) }
}

test('a line interrupts S mode only with priority, enable bit and above the threshold', () => {
  const { engine, plic, set, external } = controller()
  plic.line(10)(true)
  assert.equal(external(), false)
  set(4 * 10, 1)
  assert.equal(external(), false)
  set(enable(1), 1 << 10)
  assert.equal(external(), true)
  assert.equal(engine.hasInterrupt(interruptBits.meip), false)
  set(threshold(1), 1)
  assert.equal(external(), false)
  set(4 * 10, 2)
  assert.equal(external(), true)
})

test('a claim takes the highest priority, then the lowest number; the line is quiet until it is completed', () => {
  const { plic, set, get, external } = controller()
  for (const line of [3, 5, 7, 31]) {
    set(4 * line, line === 7 ? 5 : 2)
    plic.line(line)(true)
  }
  set(enable(1), 0xffff_ffff)
  assert.deepEqual(
    [1, 2, 3, 4, 5].map(() => get(claim(1))),
    [7, 3, 5, 31, 0],
  )
  assert.equal(external(), false)
  set(claim(1), 5)
  assert.equal(external(), true, 'the level is still high')
  assert.equal(get(claim(1)), 5)
})

test('a line that falls before it is claimed is pending no more', () => {
  const { plic, set, get, external } = controller()
  set(4 * 2, 1)
  set(enable(1), 1 << 2)
  plic.line(2)(true)
  assert.equal(get(0x1000), 1 << 2)
  plic.line(2)(false)
  assert.equal(external(), false)
  assert.equal(get(claim(1)), 0)
})

test('completing a line that the context has not enabled is ignored', () => {
  const { plic, set, get } = controller()
  set(4 * 2, 1)
  set(enable(1), 1 << 2)
  plic.line(2)(true)
  assert.equal(get(claim(1)), 2)
  set(enable(1), 0)
  set(claim(1), 2)
  set(enable(1), 1 << 2)
  assert.equal(get(claim(1)), 0)
})

test('registers are 32 bits wide; line 0 does not exist', () => {
  const { plic, set, get } = controller()
  assert.equal(plic.load(4, 8), undefined)
  assert.equal(plic.store(4, 1, 1n), false)
  set(0, 7)
  assert.equal(get(0), 0)
  set(enable(0), 0xffff_ffff)
  assert.equal(get(enable(0)), 0xffff_fffe)
})

test('saved state drives the same interrupts elsewhere', () => {
  const { plic, set } = controller()
  set(4 * 31, 1)
  set(enable(1), -1)
  plic.line(31)(true)
  const writer = new ByteWriter()
  plic.saveState(writer)
  const other = controller()
  other.plic.loadState(new ByteReader(writer.finish()))
  assert.equal(other.external(), true)
  assert.equal(other.get(claim(1)), 31)
})
