import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { bareGuestConfig, bareGuestImage } from '../../test/determinism/bare-guest.ts'
import { profileTable } from '../cli/profile-table.ts'
import { encode, reg } from '../engine/test-support/assembler.ts'
import { memoryMap } from '../machine/memory-map.ts'
import { elfFile } from '../machine/test-support/boot-images.ts'
import { runBareProgram } from './bare-program.ts'
import type { EngineSetting } from './engine-setting.ts'
import { Hart } from './hart.ts'
import type { MachineProfile } from './profiler.ts'

test('a profile counts every instruction and every device access, and changes no digest', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-profile-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const { t0, t1, t2 } = reg
  const code = [
    encode('lui', { rd: t0, imm: memoryMap.uart.base }),
    encode('lb', { rd: t1, rs1: t0, imm: 5 }),
    encode('addi', { rd: t2, imm: 0x41 }),
    encode('sb', { rs1: t0, rs2: t2 }),
    // sifive_test: pass.
    encode('lui', { rd: t0, imm: memoryMap.sifiveTest.base }),
    encode('lui', { rd: t1, imm: 0x5000 }),
    encode('addi', { rd: t1, rs1: t1, imm: 0x555 }),
    encode('sw', { rs1: t0, rs2: t1 }),
  ]
  const path = join(folder, 'program')
  writeFileSync(path, elfFile({ code }))
  const [plain, profiled] = [false, true].map((isProfiled) => runBareProgram(path, { isProfiled, onConsole: () => {} }))
  assert.deepEqual({ ...profiled, profile: undefined }, { ...plain, profile: undefined })
  assert.equal(plain!.profile, undefined)
  const profile = profiled!.profile!
  assert.equal(profile.instructions.interpreter + profile.instructions.regions, 8n)
  assert.deepEqual(profile.devices, { uart: { loads: 1, stores: 1 }, sifiveTest: { loads: 0, stores: 1 } })
  assert.deepEqual(profile.deviceAccesses, { loads: 1, stores: 2 })
  assert.match(profileTable(profile), /^ {2}uart +2 {2}1 loads, 1 stores$/m)
})

/** The profile of a hart that ran the bare guest for a moment, and that hart. */
async function profileOf(t: TestContext, engine: EngineSetting): Promise<{ profile: MachineProfile; hart: Hart }> {
  let profile: MachineProfile | undefined
  const worked = Promise.withResolvers<void>()
  const hart = new Hart({
    config: bareGuestConfig,
    image: bareGuestImage(),
    mode: 'live',
    digestEveryMs: 1000,
    discipline: { kind: 'exact' },
    isProfiled: true,
    engine,
    onMessage: (message) => {
      if (message.kind === 'recorded') worked.resolve()
      if (message.kind === 'profile') profile = message.profile
    },
    onFailed: worked.reject,
  })
  t.after(() => hart.stop())
  hart.send({ kind: 'powerOn' })
  await worked.promise
  await hart.stop()
  assert.ok(profile)
  return { profile, hart }
}

test('a profiled hart that is told to stop says where its work went', async (t) => {
  const { profile, hart } = await profileOf(t, 'translate')
  assert.equal(profile.instructions.interpreter + profile.instructions.regions, hart.instructions)
})

test('a hart that is told to interpret translates nothing', async (t) => {
  const { profile } = await profileOf(t, 'interpret')
  assert.equal(profile.regions.built, 0)
  assert.equal(profile.instructions.regions, 0n)
  assert.ok(profile.instructions.interpreter > 0n)
})
