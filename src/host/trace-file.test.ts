import assert from 'node:assert/strict'
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { TraceFile } from './trace-file.ts'
import { GrowingFile } from './trace-reader.ts'

/** The width of a time and the space after it. */
const timeWidth = 25

function traceAt(t: TestContext, limitBytes: number) {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-trace-file-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'a.trace')
  const standardError = openSync(path, 'a')
  const trace = new TraceFile(path, limitBytes)
  t.after(() => {
    trace.close()
    closeSync(standardError)
  })
  const lines = (name: string) =>
    existsSync(join(folder, name))
      ? readFileSync(join(folder, name), 'utf8')
          .split('\n')
          .map((line) => line.slice(timeWidth))
          .filter((line) => line !== '')
      : []
  return { path, trace, standardError, lines }
}

test('a trace never grows beyond its limit, and what was before is kept once', (t) => {
  const { trace, lines } = traceAt(t, 3 * (timeWidth + 2))
  for (const line of '123') trace.write(line)
  assert.deepEqual([lines('a.trace.1'), lines('a.trace')], [[], ['1', '2', '3']])
  for (const line of '4567') trace.write(line)
  assert.deepEqual([lines('a.trace.1'), lines('a.trace')], [['4', '5', '6'], ['7']])
})

test('what a dying process writes to its standard error stands behind its last line, also after the file began anew', (t) => {
  const { trace, standardError, lines } = traceAt(t, 2 * (timeWidth + 2))
  for (const line of '123') trace.write(line)
  writeSync(standardError, `${' '.repeat(timeWidth)}last words\n`)
  assert.deepEqual(lines('a.trace'), ['3', 'last words'])
})

test('a reader that follows a trace reads on when it begins anew', (t) => {
  const { path, trace } = traceAt(t, 2 * (timeWidth + 2))
  const reader = new GrowingFile(path)
  const read = () => reader.readLines().map((line) => line.slice(timeWidth))
  for (const line of '12') trace.write(line)
  assert.deepEqual(read(), ['1', '2'])
  trace.write('3')
  assert.deepEqual(read(), ['3'])
})
