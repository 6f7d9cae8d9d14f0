/**
 * The engine's property test over everything that lies below the engine: two Nodes, V8's compilers one by one and as V8
 * mixes them, a processor without the newer instructions; and in each of them translation at all thresholds, forced
 * flushes, snapshots. Equal digests at every position, on random programs (which change their own code, calculate with
 * floats and edit their page tables), on the bare guest, and over a whole boot of Debian under load.
 *
 * `npm run determinism` is the long form: all drives of the boot in all variants, and more programs.
 */

import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { hotModes } from '../../src/engine/test-support/hot-program.ts'
import { recordedBoot } from '../support/recorded-boot.ts'
import type { BootDrive, DigestJob } from './digest-work.ts'
import { compareRows, engineVariants, runVariants, type VariantRows } from './engine-variants.ts'

/** Each variant boots once: every manner of driving meets both compilers, and every V8 meets translated code. */
const bootDriveOf: readonly BootDrive[] = [
  'interpreted',
  'default',
  'forgetting often',
  'default',
  'moved',
  'random threshold',
  'random threshold',
]
/** Threshold 1 takes ten times as long as the rest. */
const thresholdOneMillions = 250
const seeds = 2

let results: VariantRows[] = []

before(async () => {
  // Recorded now, if it must be, and not by two children at once.
  await recordedBoot()
  const jobs = engineVariants.map((variant, index) => {
    const job: DigestJob = {
      programs: { firstSeed: 101, seeds },
      worlds: { firstSeed: 11, seeds: 1 },
      boot: { drives: [bootDriveOf[index]!] },
      driveSeed: 1000 * index,
    }
    return { variant, job }
  })
  const thresholdOne = engineVariants.slice(0, 1).map((variant) => ({
    variant,
    job: { boot: { drives: ['threshold 1'], millions: thresholdOneMillions }, driveSeed: 1 } satisfies DigestJob,
  }))
  results = await runVariants([...jobs, ...thresholdOne], 2)
})

const rowsOf = (subject: RegExp) =>
  results.flatMap(({ variant, rows }) =>
    rows.filter((row) => subject.test(row.subject)).map((row) => ({ variant, ...row })),
  )

describe('one digest at every position, whatever runs the engine and however it translates', () => {
  const kinds = [
    ['random programs', /^program/],
    ['the bare guest, recorded and replayed', /^world/],
    ['a whole boot of Debian under load', /^boot/],
  ] as const
  for (const [name, subject] of kinds) {
    test(name, (t) => {
      const rows = rowsOf(subject)
      const { differences, compared } = compareRows(
        results.map(({ variant, rows }) => ({ variant, rows: rows.filter((row) => subject.test(row.subject)) })),
      )
      assert.deepEqual(differences, [])
      t.diagnostic(`${compared} digests compared, of ${rows.length} runs`)
    })
  }
})

test('nothing was left out: every variant ran every program, world and its boot, and translated', () => {
  for (const { variant, rows } of results.slice(0, engineVariants.length)) {
    const subjects = new Set(rows.map(({ subject }) => subject))
    assert.equal(subjects.size, hotModes.length * seeds + 1 + 1, variant)
    for (const { subject, drive, digests, regionsBuilt } of rows) {
      const row = `${variant}: ${subject}, ${drive}`
      assert.ok(Object.keys(digests).length >= (subject === 'boot' ? 45 : 1), row)
      const isTranslated = drive !== 'interpreted' && drive !== 'recorded'
      if (isTranslated) assert.ok(regionsBuilt > 0, `${row} built no region`)
      else assert.equal(regionsBuilt, 0, row)
    }
  }
  const [rows] = results.at(-1)!.rows
  assert.ok(Object.keys(rows!.digests).length >= thresholdOneMillions / 50)
  // The same number every time, 6,712 at present: all is decided by log and code.
  assert.ok(rows!.regionsBuilt > 6_200, `${rows!.regionsBuilt} regions with threshold 1`)
})

test('this check can fail: one digest that differs is found, and so is a replay that diverged', () => {
  const row = { subject: 's', drive: 'd', digests: { 1: 'a', 2: 'b' }, regionsBuilt: 0 }
  const of = (...rows: (typeof row & { divergence?: string })[]) =>
    compareRows(rows.map((each, index) => ({ variant: `v${index}`, rows: [each] }))).differences
  assert.deepEqual(of(row, row), [])
  assert.deepEqual(of(row, { ...row, digests: { ...row.digests, 2: 'c' } }), ['s, 2: c with v1, d; b with v0, d'])
  assert.deepEqual(of(row, { ...row, divergence: 'differs' }), ['s: v1, d: differs'])
})
