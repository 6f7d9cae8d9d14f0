/** Every mutation names code that is there: whoever changes that code hears of it before the long run does. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { mutations } from './mutations.ts'

const root = join(import.meta.dirname, '../..')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')

test('the text that a mutation breaks stands in its file exactly once', () => {
  const astray = mutations
    .map(({ name, file, from }) => ({ name, file, places: read(file).split(from).length - 1 }))
    .filter(({ places }) => places !== 1)
  assert.deepEqual(astray, [])
})
