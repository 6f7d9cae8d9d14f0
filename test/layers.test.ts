import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { checkLayers } from '../scripts/check-layers.ts'

const sources = join(dirname(fileURLToPath(import.meta.url)), '../src')

function violationsOf(path: string, text: string): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'layers-'))
  try {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text)
    return checkLayers(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('the sources keep the layer rule', () => {
  assert.deepEqual(checkLayers(sources), [])
})

test('an import that points up is a violation', () => {
  assert.match(
    violationsOf('machine/a.ts', "import { x } from '../log/entry.ts'")[0]!,
    /machine\/ may not import log\//,
  )
})

test('a clock, randomness, a timer, a promise or Node in a core layer is a violation', () => {
  for (const text of [
    'const now = Date.now()',
    'performance.now()',
    'Math.random()',
    'setTimeout(f, 1)',
    'async function f() {}',
    "import { readFileSync } from 'node:fs'",
    'process.exit(1)',
  ]) {
    assert.equal(violationsOf('hypervisor/a.ts', text).length, 1, text)
  }
})

test('the same text is fine in the host layer, and in a comment', () => {
  assert.deepEqual(violationsOf('host/a.ts', 'setTimeout(f, Date.now())'), [])
  assert.deepEqual(violationsOf('machine/a.ts', '// Date.now() would differ on the backup\n'), [])
})

test('a folder that is no layer is a violation', () => {
  assert.match(violationsOf('utils/a.ts', '')[0]!, /is no layer/)
})
