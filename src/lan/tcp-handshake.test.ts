import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeArpRequest, internetChecksum, parseMac } from './frame.ts'
import { HandshakeFinisher, owedAcknowledgement } from './tcp-handshake.ts'

/** From the guest 10.0.2.15:22 to 10.0.2.2:40000; `flags` as in the TCP header. */
function segment(flags: number): Uint8Array {
  const frame = new Uint8Array(60)
  const view = new DataView(frame.buffer)
  frame.set([0x52, 0x55, 10, 0, 2, 2], 0)
  frame.set([0x52, 0x54, 0, 0x12, 0x34, 0x56], 6)
  view.setUint16(12, 0x0800)
  frame[14] = 0x45
  view.setUint16(16, 44)
  frame[23] = 6
  frame.set([10, 0, 2, 15, 10, 0, 2, 2], 26)
  view.setUint16(34, 22)
  view.setUint16(36, 40_000)
  view.setUint32(38, 0xffff_ffff)
  view.setUint32(42, 7)
  frame[46] = 0x60
  frame[47] = flags
  return frame
}

test('a SYN+ACK is owed an ACK of its number plus one, from its receiver to its sender', () => {
  const answer = owedAcknowledgement(segment(0x12))!
  const view = new DataView(answer.buffer)
  assert.deepEqual([...answer.subarray(0, 12)], [0x52, 0x54, 0, 0x12, 0x34, 0x56, 0x52, 0x55, 10, 0, 2, 2])
  assert.deepEqual([...answer.subarray(26, 34)], [10, 0, 2, 2, 10, 0, 2, 15])
  assert.deepEqual([view.getUint16(34), view.getUint16(36)], [40_000, 22])
  assert.deepEqual([view.getUint32(38), view.getUint32(42)], [7, 0])
  assert.equal(answer[47], 0x10)
  assert.equal(internetChecksum(answer.subarray(14, 34)), 0, 'the header with its checksum sums to nothing')
  const pseudoHeader = Uint8Array.of(10, 0, 2, 2, 10, 0, 2, 15, 0, 6, 0, 20)
  assert.equal(internetChecksum(pseudoHeader, answer.subarray(34)), 0)
})

test('nothing else is owed one: SYN, ACK, RST, fragments, other protocols, frames cut short', () => {
  for (const flags of [0x02, 0x10, 0x04, 0x16, 0x13, 0x18]) assert.equal(owedAcknowledgement(segment(flags)), undefined)
  const fragment = segment(0x12)
  fragment[21] = 1
  const udp = segment(0x12)
  udp[23] = 17
  const arp = segment(0x12)
  arp[13] = 6
  const longHeader = segment(0x12)
  longHeader[14] = 0x4f
  for (const frame of [fragment, udp, arp, longHeader]) assert.equal(owedAcknowledgement(frame), undefined)
  for (let length = 0; length < 54; length++) {
    assert.equal(owedAcknowledgement(segment(0x12).subarray(0, length)), undefined)
  }
})

test('the ACK comes only when the gateway has answered a probe that was sent behind the SYN+ACK', () => {
  const guest = parseMac('52:54:00:12:34:56')
  const gatewayAddress = Uint8Array.of(10, 0, 2, 2)
  const handshakes = new HandshakeFinisher(guest, gatewayAddress)
  assert.equal(handshakes.onSent(segment(0x18)), undefined)
  const probe = handshakes.onSent(segment(0x12))!
  const replyTo = (request: Uint8Array): Uint8Array => {
    const reply = request.slice()
    reply[21] = 2
    reply.set(gatewayAddress, 28)
    reply.set(request.subarray(28, 32), 38)
    return reply
  }
  const foreign = replyTo(encodeArpRequest(guest, Uint8Array.of(10, 0, 2, 15), gatewayAddress))
  assert.equal(handshakes.onReceived(foreign), foreign, "the guest's own answers are its own")
  assert.deepEqual(handshakes.onReceived(replyTo(probe)), owedAcknowledgement(segment(0x12)))
  assert.equal(handshakes.onReceived(replyTo(probe)), undefined, 'one ACK for each')
})

test('a flood of SYN+ACKs at a gateway that answers nothing fills no memory', () => {
  const handshakes = new HandshakeFinisher(parseMac('52:54:00:12:34:56'), Uint8Array.of(10, 0, 2, 2))
  let probes = 0
  for (let n = 0; n < 5000; n++) if (handshakes.onSent(segment(0x12))) probes++
  assert.equal(probes, 1024)
})
