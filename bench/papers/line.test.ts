import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeMessage } from '../../src/replication/message-codec.ts'
import type { Message } from '../../src/replication/messages.ts'
import { Line } from './line.ts'

const message = (frame: bigint): Message => ({ kind: 'confirmed', ends: { frame, console: 0n } })

test('messages come in order, and none before the line had time for all bits up to it', async () => {
  const bitsPerSecond = 20_000
  const arrived: { readonly message: Message; readonly atMs: number }[] = []
  const all = Promise.withResolvers<void>()
  const line = new Line(bitsPerSecond, (one) => {
    if (arrived.push({ message: one, atMs: performance.now() }) === 5) all.resolve()
  })
  const startedAt = performance.now()
  const sent = [1n, 2n, 3n, 4n, 5n].map(message)
  for (const one of sent) line.send(one)
  await all.promise
  assert.deepEqual(
    arrived.map(({ message: one }) => one),
    sent,
  )
  let bits = 0
  for (const { message: one, atMs } of arrived) {
    bits += encodeMessage(one).length * 8
    assert.ok(atMs - startedAt >= (bits / bitsPerSecond) * 1000, `${bits} bits in ${atMs - startedAt} ms`)
  }
})
