import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WorldError } from '../base/assert.ts'
import { equalSecrets, formatExportName, parseExportName } from './names.ts'

const pass = { machine: 'web', generation: 7, replica: 'replica-a', token: 'aZ9_-~.' }

test('an export name with a pass reads back as it was written', () => {
  assert.equal(formatExportName('disk0', pass), 'disk0@web/7/replica-a/aZ9_-~.')
  assert.deepEqual(parseExportName('disk0@web/7/replica-a/aZ9_-~.'), { exportName: 'disk0', pass })
  assert.deepEqual(parseExportName('disk0'), { exportName: 'disk0' })
  assert.deepEqual(parseExportName(''), { exportName: '' })
})

test('a malformed name is refused, and the error tells no token', () => {
  const names = [
    'disk 0',
    '../etc',
    'd@',
    'd@web/7/a',
    'd@web/7/a/',
    'd@web/7/a/hidden/x',
    'd@web/x/a/hidden',
    'd@web/-1/a/hidden',
    'd@web/99999999999999999/a/hidden',
    'd@web/9999999999999999/a/hidden',
    'd@we b/7/a/hidden',
    `d@web/7/a/hidden${'x'.repeat(300)}`,
  ]
  for (const name of names) {
    assert.throws(
      () => parseExportName(name),
      (error) => error instanceof WorldError && !error.message.includes('hidden'),
      name,
    )
  }
})

test('secrets of any length are compared whole', () => {
  assert.equal(equalSecrets('abc', 'abc'), true)
  assert.equal(equalSecrets('abc', 'abcd'), false)
  assert.equal(equalSecrets('', 'a'), false)
})
