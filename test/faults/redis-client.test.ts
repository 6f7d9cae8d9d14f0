import assert from 'node:assert/strict'
import { test } from 'node:test'
import { takeReply } from './redis-client.ts'

const take = (text: string) => takeReply(Buffer.from(text, 'latin1'))

test('a reply is taken whole, and only when it is complete', () => {
  assert.deepEqual(take('+OK\r\n:1\r\n'), { reply: 'OK', lengthBytes: 5 })
  assert.deepEqual(take(':42\r\n'), { reply: 42, lengthBytes: 5 })
  assert.deepEqual(take('$5\r\na\r\nbc\r\n'), { reply: 'a\r\nbc', lengthBytes: 11 })
  assert.deepEqual(take('$-1\r\n'), { reply: null, lengthBytes: 5 })
  for (const part of ['', '+O', '$5', '$5\r\na\r\nbc', '$5\r\na\r\nbc\r']) assert.equal(take(part), undefined)
})
