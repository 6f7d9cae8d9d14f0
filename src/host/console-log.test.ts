import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { ConsoleLog } from './console-log.ts'

const folder = mkdtempSync(join(tmpdir(), 'understudy-console-log-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const text = (name: string): string => readFileSync(join(folder, name), 'latin1')
const bytes = (content: string): Uint8Array => new TextEncoder().encode(content)

test('console.log never exceeds its limit, and the file before it is kept once', () => {
  const log = new ConsoleLog(folder, 10)
  log.append(bytes('0123456789'))
  assert.equal(existsSync(join(folder, 'console.log.1')), false)
  log.append(bytes('abc'))
  assert.deepEqual([text('console.log.1'), text('console.log')], ['0123456789', 'abc'])
  log.append(bytes('defghijk'))
  assert.deepEqual([text('console.log.1'), text('console.log')], ['abc', 'defghijk'])
  log.close()
})

test('the next writer of console.log, after a failover or a restart, goes on behind the last and knows its size', () => {
  const log = new ConsoleLog(folder, 10)
  log.append(bytes('XY'))
  assert.equal(text('console.log'), 'defghijkXY')
  log.append(bytes('Z'))
  assert.deepEqual([text('console.log.1'), text('console.log')], ['defghijkXY', 'Z'])
  log.close()
})
