/**
 * Random privileged probes on the engine and on QEMU's system emulation: where traps go and what they leave, which
 * accesses Sv39 lets through, which accessed and dirty bits it sets, which CSR accesses are legal and what they keep.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { comparePrivileged, newPrivilegedEngine } from './privileged-comparison.ts'
import { writePrivilegedProgram } from './privileged-program.ts'
import { needs, qemuSystemTool } from './tools.ts'

const probes = 3000

test('24,000 privileged probes trap, translate and update CSRs as on QEMU', needs(qemuSystemTool), () => {
  const engine = newPrivilegedEngine()
  for (let seed = 1; seed <= 8; seed++) {
    const lines = comparePrivileged(engine, writePrivilegedProgram(new Prng(seed), probes))
    assert.deepEqual(lines, [], `seed ${seed}:\n${lines.join('\n')}`)
  }
})

test('privileged probes do the same in slices of one to five instructions', needs(qemuSystemTool), () => {
  const engine = newPrivilegedEngine()
  const slices = new Prng(9)
  const program = writePrivilegedProgram(new Prng(9), probes)
  const lines = comparePrivileged(engine, program, () => BigInt(1 + slices.below(5)))
  assert.deepEqual(lines, [], lines.join('\n'))
})
