import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatAddress, keyOf, parseAddress } from './address.ts'
import { generateKey } from './shared-key.ts'

test('an address survives text: unix socket, IPv4, IPv6, name', () => {
  for (const text of ['unix:/run/a.socket', '192.0.2.7:10809', '[2001:db8::7]:1', 'disk-1.example.org:65535']) {
    assert.equal(formatAddress(parseAddress(text)), text)
  }
  assert.deepEqual(parseAddress('[::1]:7'), { host: '::1', port: 7 })
})

test('what is no address is refused with how to write one', () => {
  for (const text of [
    '',
    '10809',
    'host',
    'host:',
    ':1',
    'host:65536',
    '::1:7',
    'a b:1',
    'tcp://host:1',
    'unix:',
    'unix:x',
  ]) {
    assert.throws(() => parseAddress(text), { name: 'WorldError', code: 'bad-address', exitCode: 78 }, text)
  }
  assert.throws(() => parseAddress(`unix:/${'x'.repeat(107)}`), { code: 'path-too-long', message: /107 bytes/ })
  assert.equal(parseAddress(`unix:/${'x'.repeat(106)}`).path?.length, 107)
})

test('TCP without a key is a configuration error of one line; a unix socket needs none', () => {
  const key = generateKey()
  const address = { host: '192.0.2.7', port: 10809 }
  assert.equal(keyOf({ address, key }, 'disk'), key)
  assert.equal(keyOf({ address: { path: '/run/x' } }, 'disk'), undefined)
  assert.throws(() => keyOf({ address }, 'disk'), {
    code: 'key-missing',
    exitCode: 78,
    message: /^the disk address 192\.0\.2\.7:10809 is TCP, which needs a key: [^\n]*understudy keygen/,
  })
})
