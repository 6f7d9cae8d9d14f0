import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TerminalQueryFilter } from './terminal-queries.ts'

/** What a terminal that must not answer gets to see, however the bytes are cut into pieces. */
function shown(text: string): string {
  const bytes = Buffer.from(text, 'utf8')
  const results = [1, 2, 3, bytes.length].map((pieceBytes) => {
    const filter = new TerminalQueryFilter()
    const pieces: Uint8Array[] = []
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      pieces.push(filter.pass(bytes.subarray(at, at + pieceBytes), true))
    }
    return Buffer.concat(pieces).toString('utf8')
  })
  for (const result of results) assert.equal(result, results[0])
  return results[0]!
}

test('sequences that a terminal answers do not pass, in whatever pieces they come', () => {
  for (const query of [
    '\x1b[6n',
    '\x1b[5n',
    '\x1b[?6n',
    '\x1b[c',
    '\x1b[>0c',
    '\x1b[18t',
    '\x1b[?2004$p',
    '\x1bZ',
    '\x05',
    '\x1b]11;?\x07',
    '\x1b]10;?\x1b\\',
    '\x1bP$qm\x1b\\',
  ]) {
    assert.equal(shown(`before${query}after`), 'beforeafter', JSON.stringify(query))
  }
})

test('everything that draws passes', () => {
  for (const text of [
    'plain\r\n',
    'Ünïcödé ✓',
    '\x1b[1;31mred\x1b[0m',
    '\x1b[2J\x1b[H',
    '\x1b(B',
    '\x1b]0;title\x07',
    '\x1b=',
  ]) {
    assert.equal(shown(`${text}.`), `${text}.`)
  }
})

test('a sequence that is broken off by another one does not hide it', () => {
  assert.equal(shown('\x1b[1\x1b[6nx'), '\x1b[1x')
  assert.equal(shown('\x1b\x1b[6nx'), '\x1bx')
  assert.equal(shown('\x1b]0;t\x1b[6nx'), '\x1b]0;tx')
})

test('the writer sees every byte at once, and what waited while it only watched', () => {
  const filter = new TerminalQueryFilter()
  const query = new TextEncoder().encode('\x1b[6')
  assert.equal(filter.pass(query, true).length, 0)
  assert.equal(Buffer.from(filter.pass(new TextEncoder().encode('nx\x1b'), false)).toString(), '\x1b[6nx\x1b')
})
