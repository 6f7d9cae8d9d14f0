import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SlicePacer } from './slice-pacer.ts'

/** Lets it pace a hart of this speed; returns how long its slices take, in microseconds. */
function slices(pacer: SlicePacer, instructionsPerUs: number, count: number): number[] {
  return Array.from({ length: count }, () => {
    const instructions = pacer.instructions
    const us = Number(instructions) / instructionsPerUs
    pacer.onRan(instructions, BigInt(Math.round(us * 1000)))
    return us
  })
}

test('slices take a tenth of a millisecond, up to 600 million instructions a second; above they are shorter', () => {
  for (const instructionsPerUs of [20, 50, 200, 550]) {
    const settled = slices(new SlicePacer(), instructionsPerUs, 40).slice(30)
    for (const us of settled) assert.ok(us > 80 && us < 120, `${us} µs at ${instructionsPerUs} instructions a µs`)
  }
})

test('code that is suddenly slower makes one slice too long, code that is suddenly faster makes none', () => {
  const pacer = new SlicePacer()
  slices(pacer, 600, 40)
  const [first, ...rest] = slices(pacer, 60, 10)
  assert.ok(first! > 800)
  assert.ok(Math.max(...rest) < 120)
  assert.ok(Math.max(...slices(pacer, 600, 40)) < 120)
})

test('no slice of code at 60 million instructions a second takes a millisecond more, however fast the code before was', () => {
  const pacer = new SlicePacer()
  slices(pacer, 5000, 100)
  assert.ok(slices(pacer, 60, 1)[0]! <= 1000)
})

test('the slow code behind an input is looked for at once', () => {
  const pacer = new SlicePacer()
  slices(pacer, 600, 40)
  pacer.onInput()
  assert.ok(Math.max(...slices(pacer, 60, 10)) < 120)
})

test('a guest that does little between two waits says nothing about its speed', () => {
  const pacer = new SlicePacer()
  slices(pacer, 600, 40)
  const before = pacer.instructions
  pacer.onRan(1_000n, 40_000n)
  pacer.onRan(0n, 0n)
  assert.equal(pacer.instructions, before)
})
