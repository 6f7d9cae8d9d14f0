import assert from 'node:assert/strict'
import { test } from 'node:test'
import { aptError, chooseMirror, parseRecords } from './private-apt.ts'

test('the mirror is the first Debian release with main; security, updates and strangers are passed over', () => {
  const targets = [
    'https://packages.example.org/debian-tools/|stable|main',
    'http://mirror.example.org/debian-security/|bookworm-security|main',
    'http://mirror.example.org/debian/|bookworm-updates|main',
    'http://mirror.example.org/debian/|bookworm|contrib',
    'http://mirror.example.org/debian/|bookworm|main',
    'http://other.example.org/debian/|trixie|main',
  ]
  assert.equal(chooseMirror(targets.join('\n')), 'http://mirror.example.org/debian/')
  assert.equal(chooseMirror('http://archive.example.org/ubuntu/|noble|main\n'), undefined)
  assert.equal(
    chooseMirror('mirror+file:/etc/apt/mirrors/debian.list|trixie|main'),
    'mirror+file:/etc/apt/mirrors/debian.list',
  )
  assert.equal(chooseMirror(''), undefined)
})

test('each of apt’s complaints becomes one line with its own code', () => {
  const complaints: [string, string][] = [
    ['E: Unable to locate package foo', 'unknown-package'],
    ["E: Package 'mail-transport-agent' has no installation candidate", 'unknown-package'],
    [
      'W: GPG error: the public key is not available: NO_PUBKEY 0123456789\nE: The repository is not signed.',
      'mirror-not-trusted',
    ],
    ['E: You don’t have enough free space in /var/cache', 'no-space'],
    ["E: Failed to fetch http://x/y  Temporary failure resolving 'x'", 'no-network'],
    ['W: Failed to fetch http://x/InRelease  Could not connect to x:80 (1.2.3.4), connection timed out', 'no-network'],
    ['E: Could not get lock /lists/lock. It is held by process 1', 'cache-busy'],
    ['E: Unable to correct problems, you have held broken packages.', 'packages-conflict'],
    ['E: something new', 'apt-failed'],
  ]
  for (const [stderr, code] of complaints) {
    const error = aptError(stderr, 'do it', 'riscv64')
    assert.equal(error.code, code, stderr)
    assert.doesNotMatch(error.message, /\n/)
  }
})

test('an index paragraph without its SHA-256 is refused', () => {
  const whole = 'Package: a\nVersion: 1\nArchitecture: all\nSize: 5\nSHA256: ff\nDepends: b\n'
  assert.deepEqual(
    parseRecords(`${whole}\n\n${whole.replace('Package: a', 'Package: b')}`).map(({ name }) => name),
    ['a', 'b'],
  )
  assert.throws(() => parseRecords(whole.replace(/SHA256.*\n/, '')), { code: 'apt-failed' })
})
