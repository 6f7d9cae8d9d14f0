import assert from 'node:assert/strict'
import { it } from 'node:test'
import { WorldError } from '../base/assert.ts'
import { Prng } from '../base/prng.ts'
import { parseMac } from './frame.ts'
import {
  decodeMessageToReplica,
  decodeMessageToSwitch,
  encodeMessageToReplica,
  encodeMessageToSwitch,
  isSameProof,
  type MessageToReplica,
  type MessageToSwitch,
  proofOf,
  replicaProtocolVersion,
} from './replica-message.ts'

const big = 2n ** 63n + 5n
const bytes = Uint8Array.from({ length: 60 }, (_, index) => index)

const toSwitch: readonly MessageToSwitch[] = [
  { type: 'hello', version: replicaProtocolVersion, machine: 'vm ✓', replica: 'a', proof: bytes.slice(0, 32) },
  {
    type: 'bind',
    request: {
      generation: big,
      logId: 7n,
      mac: parseMac('52:54:00:12:34:56'),
      coveredFrameId: 9n,
      receivedFrameId: 11n,
    },
  },
  { type: 'output', sequence: big, frame: bytes },
  { type: 'covered', frameId: big },
  { type: 'announce' },
  { type: 'ping' },
]

const toReplica: readonly MessageToReplica[] = [
  { type: 'challenge', version: replicaProtocolVersion, nonce: bytes.slice(0, 32) },
  { type: 'welcome' },
  { type: 'bound', generation: 3n, lastSequence: big, lastFrameId: 8n },
  { type: 'refused', generation: 3n, reason: 'fenced' },
  { type: 'frame', frameId: big, frame: bytes },
  { type: 'confirmed', sequence: big },
  { type: 'pong' },
]

it('every message survives encoding, and its prefix is its length', () => {
  for (const message of toSwitch) {
    const encoded = encodeMessageToSwitch(message)
    assert.equal(new DataView(encoded.buffer).getUint32(0), encoded.length - 4)
    assert.deepEqual(decodeMessageToSwitch(encoded.subarray(4)), message)
  }
  for (const message of toReplica) {
    const encoded = encodeMessageToReplica(message)
    assert.equal(new DataView(encoded.buffer).getUint32(0), encoded.length - 4)
    assert.deepEqual(decodeMessageToReplica(encoded.subarray(4)), message)
  }
})

it('another version is refused by both sides, in a sentence', () => {
  const hello = encodeMessageToSwitch(toSwitch[0]!).subarray(4)
  hello[1] = replicaProtocolVersion + 1
  assert.throws(() => decodeMessageToSwitch(hello), { name: 'WorldError', code: 'lan-version' })
  const challenge = encodeMessageToReplica(toReplica[0]!).subarray(4)
  challenge[1] = replicaProtocolVersion - 1
  assert.throws(() => decodeMessageToReplica(challenge), { name: 'WorldError', code: 'lan-version' })
})

it('mutated and random messages are refused with a WorldError or understood, never worse', () => {
  const random = new Prng(7)
  const originals = [...toSwitch.map(encodeMessageToSwitch), ...toReplica.map(encodeMessageToReplica)]
  for (let round = 0; round < 20_000; round++) {
    const body = random.chance(0.3) ? random.bytes(random.below(80)) : random.pick(originals).slice(4)
    for (let n = random.below(4); n > 0 && body.length > 0; n--) body[random.below(body.length)] = random.below(256)
    const cut = random.chance(0.3) ? body.subarray(0, random.below(body.length + 1)) : body
    for (const decode of [decodeMessageToSwitch, decodeMessageToReplica]) {
      try {
        decode(cut)
      } catch (error) {
        assert.ok(error instanceof WorldError, String(error))
      }
    }
  }
})

it('a proof depends on token, nonce, machine and replica, and on where one name ends', () => {
  const nonce = bytes.slice(0, 32)
  const proof = proofOf('token', nonce, 'vm', 'a')
  assert.ok(isSameProof(proof, proofOf('token', nonce, 'vm', 'a')))
  const others = [
    proofOf('other', nonce, 'vm', 'a'),
    proofOf('token', bytes.slice(1, 33), 'vm', 'a'),
    proofOf('token', nonce, 'vn', 'a'),
    proofOf('token', nonce, 'vm', 'b'),
    proofOf('token', nonce, 'v', 'ma'),
  ]
  for (const other of others) assert.ok(!isSameProof(proof, other))
  assert.ok(!isSameProof(proof, proof.subarray(1)))
})
