import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bootArguments, parseVmConfig } from './vm-config.ts'

const good = `name = "redis"
memory = "256M"
kernel = "guest/Image"

[[disks]]
path = "root.ext4"

[network]
forward = ["16379:6379"]
`

test('a small file is a whole VM: defaults fill the rest, paths are relative to the file', () => {
  const config = parseVmConfig(good, '/vms/redis/vm.toml')
  assert.equal(config.memory, 256 * 1024 * 1024)
  assert.equal(config.kernel, '/vms/redis/guest/Image')
  assert.deepEqual(config.disks, [{ path: '/vms/redis/root.ext4', readOnly: false, bus: 'blk' }])
  assert.deepEqual(config.forwards, [{ hostAddress: '127.0.0.1', hostPort: 16379, guestPort: 6379 }])
  assert.equal(config.protection.heartbeat, 500)
})

test('what a VM file appends to the command line comes last, so that it wins', () => {
  const append = 'append = "cryptomgr.notests=0 quiet"'
  const config = parseVmConfig(good.replace('memory', `${append}\nmemory`), 'vm.toml')
  assert.equal(
    bootArguments(config),
    'console=ttyS0 cryptomgr.notests sysctl.vm.stat_interval=10 sysctl.vm.compaction_proactiveness=0 ' +
      'psi=0 sysctl.kernel.soft_watchdog=0 root=/dev/vda rw ip4=10.0.2.15/24 gw4=10.0.2.2 cryptomgr.notests=0 quiet',
  )
})

test('a disk is an image file or the export of another NBD server', () => {
  const uri = 'nbd+unix:///root?socket=/run/nbd.socket'
  const config = parseVmConfig(good.replace('path = "root.ext4"', `nbd = "${uri}"\nreadOnly = true`), 'vm.toml')
  assert.deepEqual(config.disks, [{ nbd: uri, readOnly: true, bus: 'blk' }])
})

test('a disk that is not shared is an image, and names the copy of the other replica', () => {
  const text = good.replace('path = "root.ext4"', 'path = "root.ext4"\nshared = false\ncopy = "other.ext4"')
  assert.deepEqual(parseVmConfig(text, '/vms/redis/vm.toml').disks, [
    { path: '/vms/redis/root.ext4', readOnly: false, bus: 'blk', isOwn: true, copyPath: '/vms/redis/other.ext4' },
  ])
  const shared = text.replace('shared = false\n', '')
  assert.throws(() => parseVmConfig(shared, 'vm.toml'), { message: /copy is for a disk that is not shared/ })
})

test('the arbiter is the disk server, or a cluster of etcd', () => {
  const withArbiter = (arbiter: string): string => `${good}\n[protection]\narbiter = ${arbiter}\n`
  assert.equal(parseVmConfig(good, 'vm.toml').etcd, undefined)
  assert.equal(parseVmConfig(withArbiter('"disk"'), 'vm.toml').etcd, undefined)
  const etcd = '{ etcd = ["https://192.0.2.7:2379"], ca = "ca.pem", user = "u", password = "p" }'
  assert.deepEqual(parseVmConfig(withArbiter(etcd), '/vms/vm.toml').etcd, {
    endpoints: ['https://192.0.2.7:2379'],
    prefix: 'understudy/',
    caPath: '/vms/ca.pem',
    user: 'u',
    passwordPath: '/vms/p',
  })
  for (const [bad, message] of [
    ['"elsewhere"', /^vm\.toml:12: protection\.arbiter: write "disk", or \{ etcd/],
    ['{ etcd = [] }', /^vm\.toml:12: protection\.arbiter/],
    ['{ etcd = ["http://192.0.2.7:2379"] }', /^vm\.toml:12: protection\.arbiter.*http:\/\/ is for 127\.0\.0\.1/],
  ] as const) {
    assert.throws(() => parseVmConfig(withArbiter(bad), 'vm.toml'), { code: 'bad-configuration', message })
  }
})

test('an error names the file, the line, the key and the fix', () => {
  const cases: [string, RegExp][] = [
    [good.replace('memory', 'memroy'), /^vm\.toml:2: memroy: no such key; known here: name, memory/],
    [good.replace('kernel', 'kernal'), /^vm\.toml:3: kernal: no such key/],
    [good.replace('256M', '16M'), /^vm\.toml:2: memory: use 64M to 3G$/],
    [good.replace('256M', 'lots'), /^vm\.toml:2: memory: "lots" is not a size/],
    [
      good.replace('path =', 'nbd ='),
      /^vm\.toml:6: disks\.0\.nbd: "root\.ext4" is no NBD disk: it is no URI; write nbd\+unix/,
    ],
    [good.replace('path = "root.ext4"', ''), /^vm\.toml:5: disks\.0: write either path or nbd$/],
    [good.replace('16379:6379', 'http'), /^vm\.toml:9: network\.forward\.0: write \[HOSTADDRESS/],
    [good.replace('kernel = "guest/Image"', ''), /^vm\.toml: kernel: /],
    [good.replace('"redis"', 'redis'), /^vm\.toml:1: /],
  ]
  for (const [text, expected] of cases) {
    assert.throws(() => parseVmConfig(text, 'vm.toml'), { code: 'bad-configuration', exitCode: 78, message: expected })
  }
})
