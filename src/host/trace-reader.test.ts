import assert from 'node:assert/strict'
import { appendFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { TraceReader } from './trace-reader.ts'
import { VmFolder } from './vm-folder.ts'

const stateFolder = mkdtempSync(join(tmpdir(), 'understudy-traces-'))
after(() => rmSync(stateFolder, { recursive: true, force: true }))

function folderOf(name: string): VmFolder {
  const folder = new VmFolder(name, stateFolder)
  folder.create()
  return folder
}

test('the lines of several traces are merged by time; a line without one stays behind the line before it', () => {
  const folder = folderOf('merged')
  writeFileSync(
    folder.tracePath('a'),
    '2026-01-01T00:00:01.000Z one\n    at a stack\n2026-01-01T00:00:03.000Z three\nunfinished',
  )
  writeFileSync(folder.tracePath('b'), '2026-01-01T00:00:02.000Z two\n')
  const lines = new TraceReader(folder, ['a', 'b', 'lan']).read(true)
  assert.deepEqual(
    lines.map(({ source, text }) => `${source} ${text.replace(timeOf, '')}`),
    ['a one', 'a     at a stack', 'b two', 'a three', 'a unfinished'],
  )
})

const timeOf = /^\S+Z /

test('following gives each line once, when it is whole, also from a file that comes later or begins anew', () => {
  const folder = folderOf('followed')
  const path = folder.file('console.log')
  const reader = new TraceReader(folder, ['console'])
  const read = (): string[] => reader.read().map(({ text }) => text)
  assert.deepEqual(read(), [])
  writeFileSync(path, 'first\nsec')
  assert.deepEqual(read(), ['first'])
  appendFileSync(path, 'ond\n')
  assert.deepEqual(read(), ['second'])
  assert.deepEqual(read(), [])
  renameSync(path, `${path}.1`)
  writeFileSync(path, 'third, as long as those before it\n')
  assert.deepEqual(read(), ['third, as long as those before it'])
})
