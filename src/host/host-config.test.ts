import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { generateKey, writeKeyFile } from '../net/shared-key.ts'
import { readHostConfig, replicaSchema } from './host-config.ts'
import { tokenOfKey } from './machine-token.ts'
import { findVmFolder } from './vm-argument.ts'

const primary = `name = "a"
role = "primary"
vm = "shop.toml"
key = "shop.key"
state = "here"

[channel]
listen = "192.0.2.1:7101"

[disk]
nbd = "192.0.2.3:7103"
arbiter = "unix:/run/arbiter"

[network]
switch = "[2001:db8::3]:7105"
`

const backup = primary
  .replace('"a"', '"b"')
  .replace('"primary"', '"backup"')
  .replace('vm = "shop.toml"', 'machine = "shop"')
  .replace('listen', 'connect')

function folderWith(t: TestContext, replica: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-host-config-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  writeFileSync(join(folder, 'shop.toml'), 'name = "shop"\nkernel = "Image"\n')
  writeFileSync(join(folder, 'replica.toml'), replica)
  writeKeyFile(join(folder, 'shop.key'), generateKey())
  return folder
}

test("a replica's file names its VM, its key and its folder relative to itself, and addresses of any kind", (t) => {
  const folder = folderWith(t, primary)
  const { file, machine, vm, folder: state } = readHostConfig(replicaSchema, join(folder, 'replica.toml'))
  assert.equal(machine, 'shop')
  assert.equal(vm?.path, join(folder, 'shop.toml'))
  assert.deepEqual([state.path, state.name], [join(folder, 'here'), 'shop'])
  assert.deepEqual(file.disk, { nbd: { host: '192.0.2.3', port: 7103 }, arbiter: { path: '/run/arbiter' } })
  assert.deepEqual(file.network?.switch, { host: '2001:db8::3', port: 7105 })
})

test('a backup needs no VM file, only the name of its VM', (t) => {
  const { machine, vm } = readHostConfig(replicaSchema, join(folderWith(t, backup), 'replica.toml'))
  assert.deepEqual([machine, vm], ['shop', undefined])
})

test('an error in a file of a host names the file, the line, the key and the fix', (t) => {
  const cases: readonly [string, RegExp][] = [
    [primary.replace('role = "primary"', 'role = "master"'), /replica\.toml:2: role: write "primary" or "backup"$/],
    [primary.replace('"a"', '"f"'), /replica\.toml:1: name: write a letter/],
    [
      primary.replace('vm = ', 'wm = '),
      /replica\.toml:3: wm: no such key; known here: name, role, vm, machine, host, key/,
    ],
    [primary.replace('nbd', 'ndb'), /replica\.toml:11: disk\.ndb: no such key; known here: nbd, arbiter, peer$/],
    [primary.replace('vm = "shop.toml"\n', ''), /vm: a primary needs a VM file$/],
    [primary.replace('listen', 'connect'), /channel\.listen: a primary needs an address to listen on$/],
    [backup.replace('connect', 'listen'), /channel\.connect: a backup needs its primary's address$/],
    [backup.replace('machine = "shop"\n', ''), /machine: name the VM, where there is no VM file$/],
    [primary.replace(':7103', ''), /replica\.toml:11: disk\.nbd: "192\.0\.2\.3" is no address: write HOST:PORT/],
    [primary.replace('switch = ', 'tap = "tap0"\nswitch = '), /network: name a switch or a TAP$/],
    [primary.replace('vm = ', 'machine = "bank"\nvm = '), /machine: the VM file names shop, not bank/],
    [primary.replace('shop.key', 'none.key'), /cannot read the key file .*none\.key: no such file or folder$/],
  ]
  for (const [text, message] of cases) {
    const path = join(folderWith(t, text), 'replica.toml')
    assert.throws(() => readHostConfig(replicaSchema, path), { message, exitCode: 78 }, `${message}`)
  }
})

test('commands find the state folder by the file of a process as well as by the VM file', (t) => {
  const folder = folderWith(t, backup)
  assert.equal(findVmFolder(join(folder, 'replica.toml')).path, join(folder, 'here'))
  const byVm = findVmFolder(join(folder, 'shop.toml'))
  assert.equal(byVm.name, 'shop')
  assert.ok(byVm.path.endsWith('/understudy/shop'))
  assert.throws(() => findVmFolder(join(folder, 'none.toml')), { code: 'no-such-vm' })
})

test("each machine has a token of its own, the same wherever the key is, and useless for the key's other machines", () => {
  const key = generateKey()
  assert.equal(tokenOfKey(key, 'shop'), tokenOfKey({ ...key }, 'shop'))
  assert.match(tokenOfKey(key, 'shop'), /^[A-Za-z0-9_-]{32}$/)
  assert.notEqual(tokenOfKey(key, 'shop'), tokenOfKey(key, 'bank'))
  assert.notEqual(tokenOfKey(key, 'shop'), tokenOfKey(generateKey(), 'shop'))
})
