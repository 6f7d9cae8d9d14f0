import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { cellName, columns, costName, epochReport, originalName } from './epoch-report.ts'
import { Samples } from './samples.ts'

const folder = mkdtempSync(join(tmpdir(), 'understudy-samples-'))
after(() => rmSync(folder, { recursive: true, force: true }))

test('a measurement in pieces has the samples of all of them', () => {
  const path = join(folder, 'pieces.json')
  for (const value of [1, 9, 2]) {
    const samples = Samples.read(path)
    samples.add('exact/idle', { value })
    samples.write(path)
  }
  assert.equal(Samples.read(path).median('exact/idle', 'value'), 2)
  assert.equal(Samples.read(path).median('exact/idle', 'other'), undefined)
})

test('pieces of different commits are not put together', () => {
  const path = join(folder, 'old.json')
  writeFileSync(path, JSON.stringify({ commit: 'other', samples: {} }))
  assert.throws(() => Samples.read(path), /is of commit other, this is/)
})

test("normalized performance is time in epochs / time bare, and stands beside the paper's", () => {
  const samples = new Samples()
  const [cpu] = columns
  samples.add(costName, { cpuUs: 1.5 })
  samples.add(originalName('unix socket'), { roundTripUs: 10, epochUs: 20 })
  samples.add(cellName(cpu!, 'bare', 0), { instructions: 2e9, operations: 0 })
  samples.add(cellName(cpu!, 'original', 1000), { instructions: 50e6, operations: 0 })
  samples.add(cellName(cpu!, 'revised', 1000), { instructions: 200e6, operations: 0 })
  const report = epochReport(samples, [1000, 2000])!
  assert.match(report.text, /^\| 1000 \| 50 → 200 \| 40.0 → 10.0 \| 22.2 → 11.7 \| {2}\|/m)
  assert.match(report.text, /^\| unix socket \| 10.0 \| 20.0 \| 2.00 \|$/m)
  assert.doesNotMatch(report.text, /^\| 2000/m)
  assert.equal(epochReport(new Samples(), [1000]), undefined)
})
