import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { batchAt, end, entries, hello, identity, welcome } from '../../test/support/replication.ts'
import { WorldError } from '../base/assert.ts'
import { concatBytes } from '../base/bytes.ts'
import type { Divergence } from '../log/divergence.ts'
import { encodeMessage, MessageDecoder } from './message-codec.ts'
import type { Message } from './messages.ts'

const messages: readonly Message[] = [
  hello('näme'),
  hello('a', {
    role: 'primary',
    generation: 2 ** 40,
    nextIndex: end(2 ** 40),
    runId: 2n ** 63n,
    hold: 2 ** 39,
    address: 'unix:/run/a.channel',
    discipline: { kind: 'epoch', protocol: 'original', instructions: 1_000_000 },
  }),
  { kind: 'fetch', machine: 'shop', instructionTableHash: 2n ** 63n, offset: 77 },
  { kind: 'artefacts', identity, lengthBytes: 100, offset: 98, bytes: Uint8Array.of(1, 2) },
  { kind: 'pages', bytes: Uint8Array.of(1, 2, 3) },
  { kind: 'taken', totalBytes: 2 ** 40 },
  { kind: 'state', lengthBytes: 100, offset: 98, bytes: Uint8Array.of(1, 2) },
  { kind: 'refuse', reason: 'other machine' },
  welcome(3),
  welcome(4, [
    { replica: 'b', address: '192.0.2.7:7000' },
    { replica: 'c', address: '' },
  ]),
  entries(batchAt(12, 3, 9n, 100), 2 ** 40),
  { kind: 'call', generation: 2 ** 40, replica: 'c', tailFrom: end(2 ** 50) },
  { kind: 'call', generation: 1, replica: 'c', tailFrom: undefined },
  { kind: 'takeOver', reason: 'moved' },
  {
    kind: 'ack',
    progress: { receivedEnd: end(5), replayedEnd: end(4), replayedCount: 2n ** 60n, lagMs: 17 },
    reach: { disk: true, lan: false },
  },
  { kind: 'heartbeat', logEnd: end(5), isRunning: true, reach: { disk: false, lan: true } },
  { kind: 'confirmed', ends: { frame: 3n, console: 2n ** 63n } },
  {
    kind: 'diverged',
    divergence: {
      kind: 'differentDigest',
      agreedEnd: end(4),
      index: end(9),
      count: 77n as Divergence['count'],
      expected: 'a',
      found: 'b',
    },
  },
  { kind: 'goodbye', reason: 'powered off' },
]

test('a stream of messages cut into pieces of any size yields the messages', () => {
  const stream = concatBytes(messages.map(encodeMessage))
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 200 })), (sizes) => {
      const decoder = new MessageDecoder()
      const decoded: Message[] = []
      let rest = stream
      for (const size of [...sizes, rest.length]) {
        decoded.push(...decoder.push(rest.subarray(0, size)))
        rest = rest.subarray(size)
      }
      assert.deepEqual(decoded, messages)
    }),
  )
})

test('the bytes of a message may be handed to another thread, whatever else came in the same piece of the stream', () => {
  const pages: Message = { kind: 'pages', bytes: new Uint8Array(100).fill(7) }
  const encoded = encodeMessage(pages)
  const decoder = new MessageDecoder()
  const cut = encoded.length + 10
  // As a socket gives it: a Buffer, whose `slice` copies nothing.
  const stream = Buffer.concat([encoded, encoded])
  const [first] = decoder.push(stream.subarray(0, cut))
  assert.ok(first?.kind === 'pages')
  structuredClone(first.bytes, { transfer: [first.bytes.buffer as ArrayBuffer] })
  assert.deepEqual(decoder.push(stream.subarray(cut)), [pages])
})

test('a batch is whole before it can be acknowledged: every flipped bit of a message is a WorldError', () => {
  for (const message of messages) {
    const good = encodeMessage(message)
    for (let bit = 0; bit < good.length * 8; bit++) {
      const bad = good.slice()
      bad[bit >> 3]! ^= 1 << (bit & 7)
      try {
        const decoded = new MessageDecoder().push(bad)
        // A longer length may wait for more; nothing may come out.
        assert.deepEqual(decoded, [], `bit ${bit} of ${message.kind} went unnoticed`)
        assert.ok(bit < 32)
      } catch (error) {
        assert.ok(error instanceof WorldError, String(error))
      }
    }
  }
})

test('random bytes are WorldErrors or wait for more, and a huge length is refused before anything is allocated', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), (bytes) => {
      try {
        assert.deepEqual(new MessageDecoder().push(bytes), [])
      } catch (error) {
        assert.ok(error instanceof WorldError, String(error))
      }
    }),
  )
  assert.throws(() => new MessageDecoder().push(Uint8Array.of(255, 255, 255, 255)), /message of 4294967295 bytes/)
  assert.throws(() => new MessageDecoder().push(Uint8Array.of(1, 0, 0, 0, 1)), /message of 1 bytes/)
})

test('another protocol version is refused by name', () => {
  const other = encodeMessage(messages[3]!)
  other[4] = 99
  assert.throws(() => new MessageDecoder().push(other), { code: 'protocol-version' })
})
