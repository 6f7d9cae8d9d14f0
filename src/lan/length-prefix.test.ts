import assert from 'node:assert/strict'
import { it } from 'node:test'
import { concatBytes } from '../base/bytes.ts'
import { Prng } from '../base/prng.ts'
import { encodePrefix, LengthPrefixSplitter } from './length-prefix.ts'

function stream(payloads: readonly Uint8Array[]): Uint8Array {
  return concatBytes(payloads.flatMap((payload) => [encodePrefix(payload.length), payload]))
}

it('the prefix is 32-bit big-endian, as QEMU’s stream netdev has it', () => {
  assert.deepEqual([...encodePrefix(0x010203)], [0, 1, 2, 3])
})

it('payloads come out the same however the stream is cut', () => {
  const random = new Prng(1)
  for (let round = 0; round < 100; round++) {
    const payloads = Array.from({ length: 1 + random.below(8) }, () => random.bytes(1 + random.below(200)))
    const bytes = stream(payloads)
    const splitter = new LengthPrefixSplitter(1, 200)
    const seen: Uint8Array[] = []
    let offset = 0
    while (offset < bytes.length) {
      const count = 1 + random.below(64)
      splitter.push(bytes.subarray(offset, offset + count), (payload) => seen.push(payload.slice()))
      offset += count
    }
    assert.deepEqual(seen, payloads)
  }
})

it('a length outside the bounds is the peer’s fault; payloads before it still count, nothing after it does', () => {
  for (const lengthBytes of [0, 201, 0xffff_ffff]) {
    const splitter = new LengthPrefixSplitter(1, 200)
    const seen: number[] = []
    const bytes = concatBytes([stream([new Uint8Array(5)]), encodePrefix(lengthBytes), new Uint8Array(300)])
    assert.throws(() => splitter.push(bytes, (payload) => seen.push(payload.length)), {
      name: 'WorldError',
      code: 'bad-length',
    })
    splitter.push(stream([new Uint8Array(5)]), (payload) => seen.push(payload.length))
    assert.deepEqual(seen, [5])
  }
})

it("a slice of a payload is a copy, also of a socket's Buffer: a kept frame keeps nothing else", () => {
  const chunk = Buffer.concat([encodePrefix(2), Buffer.from([1, 2])])
  const copies: Uint8Array[] = []
  new LengthPrefixSplitter(1, 100).push(chunk, (payload) => copies.push(payload.slice()))
  assert.deepEqual(copies, [Uint8Array.of(1, 2)])
  assert.equal(copies[0]!.buffer.byteLength, 2)
})
