import assert from 'node:assert/strict'
import { it } from 'node:test'
import {
  broadcastMac,
  encodeArpRequest,
  encodeEmptyPacket,
  formatMac,
  internetChecksum,
  isGroup,
  macAt,
  macBytes,
  parseIpv4,
  parseMac,
} from './frame.ts'

it('a MAC address survives text, number and bytes', () => {
  for (const text of ['52:54:00:12:34:56', '02:00:00:00:00:01', 'fe:ff:ff:ff:ff:ff']) {
    const mac = parseMac(text)
    assert.equal(formatMac(mac), text)
    assert.equal(macAt(macBytes(mac), 0), mac)
  }
})

it('a bad MAC address is refused with a sentence', () => {
  for (const text of ['', '52:54:00:12:34', '52-54-00-12-34-56', 'zz:54:00:12:34:56', '00:00:00:00:00:00']) {
    assert.throws(() => parseMac(text), { name: 'WorldError', code: 'bad-mac' })
  }
  assert.throws(() => parseMac('01:00:5e:00:00:01'), /first byte must be even/)
})

it('broadcast and multicast are group addresses, stations are not', () => {
  assert.ok(isGroup(broadcastMac))
  assert.ok(isGroup(macAt(Uint8Array.of(1, 0, 0x5e, 0, 0, 1), 0)))
  assert.ok(!isGroup(parseMac('fe:ff:ff:ff:ff:ff')))
})

it('an ARP request has the layout of RFC 826', () => {
  const request = encodeArpRequest(parseMac('52:54:00:12:34:56'), parseIpv4('10.0.2.15'), parseIpv4('10.0.2.2'))
  const hex = Buffer.from(request).toString('hex')
  const expected =
    'ffffffffffff' +
    '525400123456' +
    '0806' +
    '0001080006040001' +
    '525400123456' +
    '0a00020f' +
    '000000000000' +
    '0a000202'
  assert.equal(hex, expected.padEnd(120, '0'))
})

it('only dotted decimal is an IPv4 address', () => {
  assert.deepEqual([...parseIpv4('10.0.2.15')], [10, 0, 2, 15])
  for (const text of ['10.0.2', '10.0.2.256', '10.0.2.015', 'ten', '::1']) {
    assert.throws(() => parseIpv4(text), { name: 'WorldError', code: 'bad-address' })
  }
})

it('the internet checksum is RFC 1071’s, and a header that carries it sums to zero', () => {
  assert.equal(internetChecksum(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7)), ~0xddf2 & 0xffff)
  const packet = encodeEmptyPacket(parseMac('52:54:00:12:34:56'), parseIpv4('10.0.2.15'), parseIpv4('10.0.2.2'))
  assert.equal(internetChecksum(packet.subarray(14, 34)), 0)
})
