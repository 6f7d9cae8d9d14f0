import assert from 'node:assert/strict'
import { test } from 'node:test'
import { engineSettingOf } from './engine-setting.ts'

test('one replica or all of them may be told to interpret, the later word wins, and a typing error is refused', () => {
  const both = (text: string | undefined) => (['a', 'b'] as const).map((replica) => engineSettingOf(replica, text))
  assert.deepEqual(both(undefined), ['translate', 'translate'])
  assert.deepEqual(both('interpret'), ['interpret', 'interpret'])
  assert.deepEqual(both('b=interpret'), ['translate', 'interpret'])
  assert.deepEqual(both('interpret,a=translate'), ['translate', 'interpret'])
  for (const text of ['', 'off', 'c=interpret', 'a=']) {
    assert.throws(() => engineSettingOf('a', text), { code: 'bad-configuration', message: /UNDERSTUDY_ENGINE is/ })
  }
})
