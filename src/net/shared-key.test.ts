import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { formatKey, generateKey, parseKey, readKeyFile, writeKeyFile } from './shared-key.ts'

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-key-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

test('a key file is private whatever the umask, in the format of GnuTLS, and reads back', (t) => {
  const path = join(folderOf(t), 'keys.psk')
  const key = generateKey()
  const umask = process.umask(0)
  try {
    writeKeyFile(path, key)
  } finally {
    process.umask(umask)
  }
  assert.equal(statSync(path).mode & 0o777, 0o600)
  assert.match(readFileSync(path, 'utf8'), /^understudy:[0-9a-f]{64}\n$/)
  assert.deepEqual(readKeyFile(path), key)
})

test('two keys differ', () => {
  assert.notDeepEqual(generateKey().secret, generateKey().secret)
})

test('a key file is never overwritten', (t) => {
  const path = join(folderOf(t), 'keys.psk')
  const key = generateKey()
  writeKeyFile(path, key)
  assert.throws(() => writeKeyFile(path, generateKey()), { name: 'WorldError', code: 'key-exists', exitCode: 4 })
  assert.deepEqual(readKeyFile(path), key)
})

test('a key file that others can read is refused, with the command that helps', (t) => {
  const path = join(folderOf(t), 'keys.psk')
  writeKeyFile(path, generateKey())
  for (const mode of [0o640, 0o604, 0o620, 0o666]) {
    chmodSync(path, mode)
    assert.throws(() => readKeyFile(path), { code: 'key-exposed', exitCode: 78, message: /run "chmod 600 / })
  }
  chmodSync(path, 0o400)
  assert.equal(readKeyFile(path).identity, 'understudy')
})

test('a missing file, a folder, and text that is no key each have one line that shows no secret', (t) => {
  const folder = folderOf(t)
  assert.throws(() => readKeyFile(join(folder, 'nothing')), { code: 'no-key', message: /no such file/ })
  chmodSync(folder, 0o700)
  assert.throws(() => readKeyFile(folder), { name: 'WorldError', code: 'no-key' })
  assert.throws(() => writeKeyFile(join(folder, 'no', 'key'), generateKey()), { code: 'no-key' })
  const secret = 'a1'.repeat(32)
  for (const text of [
    '',
    secret,
    `:${secret}`,
    `me:${secret}:`,
    `me:${secret}0`,
    `me:${secret}\nyou:${secret}\n`,
    'me:zz',
    'm e:00',
    `me:${'a1'.repeat(15)}`,
    `me:${'a1'.repeat(65)}`,
  ]) {
    assert.throws(
      () => parseKey(text, 'FILE'),
      (error: Error & { code: string }) => error.code === 'bad-key' && !error.message.includes('a1'),
      text,
    )
  }
})

test('comments and blank lines around the key are allowed, and upper case', () => {
  const key = { identity: 'web', secret: new Uint8Array(32).fill(0xab) }
  assert.deepEqual(parseKey(`# of web\n\n${formatKey(key).toUpperCase().replace('WEB', 'web')}\n`, 'FILE'), key)
})

test('an identity that a key file cannot hold is refused', () => {
  for (const identity of ['', 'a:b', 'a b', 'a\n', 'x'.repeat(65)]) {
    assert.throws(() => generateKey(identity), { code: 'bad-key' })
  }
})
