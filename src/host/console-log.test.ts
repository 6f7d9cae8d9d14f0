import assert from 'node:assert/strict'
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { ConsoleLog } from './console-log.ts'

const bytes = (content: string): Uint8Array => new TextEncoder().encode(content)
const outputs = (contents: readonly string[]) => contents.map((content) => ({ bytes: bytes(content) }))

/** The folder of a host, and what is in a file there. */
function host(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-console-log-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return { folder, text: (name = 'console.log'): string => readFileSync(join(folder, name), 'latin1') }
}

function primaryAt(t: TestContext, folder: string, limitBytes?: number): ConsoleLog {
  const log = new ConsoleLog(folder, limitBytes)
  t.after(() => log.close())
  log.begin(7n)
  return log
}

/** A backup whose machine has printed these. */
function backupAt(t: TestContext, folder: string, regenerated: readonly string[], limitBytes?: number): ConsoleLog {
  const log = new ConsoleLog(folder, limitBytes)
  t.after(() => log.close())
  for (const { bytes } of outputs(regenerated)) log.onRegenerated(bytes)
  return log
}

test('console.log never exceeds its limit, and the file before it is kept once', (t) => {
  const { folder, text } = host(t)
  const log = primaryAt(t, folder, 10)
  log.append(bytes('0123456789'))
  assert.equal(existsSync(join(folder, 'console.log.1')), false)
  log.append(bytes('abc'))
  assert.deepEqual([text('console.log.1'), text()], ['0123456789', 'abc'])
  log.append(bytes('defghijk'))
  assert.deepEqual([text('console.log.1'), text()], ['abc', 'defghijk'])
})

test('the next run of a machine goes on behind the last and knows its size', (t) => {
  const { folder, text } = host(t)
  primaryAt(t, folder, 10).append(bytes('defghijk'))
  const log = primaryAt(t, folder, 10)
  log.append(bytes('XY'))
  assert.equal(text(), 'defghijkXY')
  log.append(bytes('Z'))
  assert.deepEqual([text('console.log.1'), text()], ['defghijkXY', 'Z'])
})

test('nothing that the guest printed stands in console.log twice, wherever the primary died', (t) => {
  const printed = ['one ', 'two ', 'three ', 'four ']
  const stream = printed.join('')
  for (let written = 0; written <= stream.length; written++) {
    const { folder, text } = host(t)
    appendFileSync(join(folder, 'console.log'), 'an earlier run\n')
    primaryAt(t, folder).append(bytes(stream))
    truncateSync(join(folder, 'console.log'), 'an earlier run\n'.length + written)
    const survivor = backupAt(t, folder, printed)
    const repeats = survivor.goLive(7n, outputs(printed.slice(1)))
    survivor.append(bytes('five'))
    assert.equal(text(), `an earlier run\n${stream}five`)
    const had = ['one two ', 'one two three ', stream].filter(({ length }) => length <= written).length
    assert.equal(repeats, had, `${written} bytes written`)
  }
})

test('repeats are recognized in a file that began in the middle of the run, and after a failover it goes on being so', (t) => {
  const { folder, text } = host(t)
  const primary = primaryAt(t, folder, 10)
  primary.append(bytes('12345678'))
  primary.append(bytes('abcd'))
  const survivor = backupAt(t, folder, ['12345678', 'abcd', 'ef'], 10)
  assert.equal(survivor.goLive(7n, outputs(['12345678', 'abcd', 'ef'])), 2)
  assert.deepEqual([text('console.log.1'), text()], ['12345678', 'abcdef'])
  const next = backupAt(t, folder, ['12345678', 'abcd', 'ef', 'gh'], 10)
  assert.equal(next.goLive(7n, outputs(['gh'])), 0)
  assert.equal(text(), 'abcdefgh')
})

test('on a host that has nothing of this run the file begins with what its replica remembers', (t) => {
  const { folder, text } = host(t)
  primaryAt(t, folder).append(bytes('another machine run\n'))
  const long = 'x'.repeat(70_000)
  const survivor = backupAt(t, folder, ['forgotten', long, 'recent'])
  assert.equal(survivor.goLive(8n, outputs(['recent'])), 0)
  assert.equal(text(), `another machine run\n${long}recent`)
})

test('a primary that lost without hearing of it writes nothing behind its successor', (t) => {
  const { folder, text } = host(t)
  const stopped = primaryAt(t, folder)
  stopped.append(bytes('one '))
  const survivor = backupAt(t, folder, ['one ', 'two '])
  survivor.goLive(7n, outputs(['two ']))
  stopped.append(bytes('two '))
  stopped.append(bytes('three '))
  survivor.append(bytes('three '))
  assert.equal(text(), 'one two three ')
})

test('a file that an operator empties is written on', (t) => {
  const { folder, text } = host(t)
  const log = primaryAt(t, folder)
  log.append(bytes('one '))
  truncateSync(join(folder, 'console.log'), 0)
  log.append(bytes('two '))
  assert.equal(text(), 'two ')
  assert.equal(backupAt(t, folder, ['one ', 'two ', 'three ']).goLive(7n, outputs(['two ', 'three '])), 1)
  assert.equal(text(), 'two three ')
})

test('a damaged console.position costs repeats, never output', (t) => {
  const { folder, text } = host(t)
  primaryAt(t, folder).append(bytes('one two '))
  for (const damage of ['', '{"runId":"7"}', 'null']) {
    truncateSync(join(folder, 'console.position'), 0)
    appendFileSync(join(folder, 'console.position'), damage)
  }
  backupAt(t, folder, ['one ', 'two ']).goLive(7n, outputs(['two ']))
  assert.equal(text(), 'one two one two ')
})
