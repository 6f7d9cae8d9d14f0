import assert from 'node:assert/strict'
import * as files from 'node:fs'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { WorldError } from '../base/assert.ts'
import { ArbiterRecord } from './arbiter-record.ts'
import { FileRecordStorage } from './record-storage.ts'
import { temporaryFolder } from './test-disk.ts'

test('a saved record is found again, and leaves no draft behind', () => {
  const folder = temporaryFolder()
  const record = ArbiterRecord.fresh('web').start('a').next.setEligible('a', 1, ['b']).next
  new FileRecordStorage(folder).save(record)
  assert.deepEqual(new FileRecordStorage(folder).load('web').fields, record.fields)
  assert.deepEqual(readdirSync(folder), ['web.json'])
})

test("a record is forced to the disk before it takes the old one's place, and the folder after", () => {
  const folder = temporaryFolder()
  const calls: string[] = []
  const names = new Map<number, string>()
  const storage = new FileRecordStorage(folder, {
    ...files,
    openSync: (path, flags, mode) => {
      const file = files.openSync(path, flags, mode)
      names.set(file, String(path).slice(folder.length))
      return file
    },
    writeSync: ((file: number, text: string) => {
      calls.push(`write ${names.get(file)}`)
      return files.writeSync(file, text)
    }) as typeof files.writeSync,
    fsyncSync: (file) => {
      calls.push(`fsync ${names.get(file)}`)
      files.fsyncSync(file)
    },
    renameSync: (from, to) => {
      calls.push(`rename ${String(from).slice(folder.length)} ${String(to).slice(folder.length)}`)
      files.renameSync(from, to)
    },
  })
  storage.save(ArbiterRecord.fresh('web').start('a').next)
  assert.deepEqual(calls, ['write /web.json.new', 'fsync /web.json.new', 'rename /web.json.new /web.json', 'fsync '])
})

test('a machine without a record begins at generation 0', () => {
  assert.equal(new FileRecordStorage(temporaryFolder()).load('web').fields.generation, 0)
})

test('a draft that a crash left behind does not count', () => {
  const folder = temporaryFolder()
  const storage = new FileRecordStorage(folder)
  const record = ArbiterRecord.fresh('web').start('a').next
  storage.save(record)
  writeFileSync(join(folder, 'web.json.new'), '{"version":1,"machine":"web","gener')
  assert.deepEqual(storage.load('web').fields, record.fields)
})

test('a damaged record is an error, never a fresh start', () => {
  const folder = temporaryFolder()
  const storage = new FileRecordStorage(folder)
  for (const text of ['', '{"version":1', '{"version":2}', '[]', '{"version":1,"machine":"web","generation":-1}']) {
    writeFileSync(join(folder, 'web.json'), text)
    assert.throws(
      () => storage.load('web'),
      (error) => error instanceof WorldError && error.code === 'arbiter-record-damaged',
    )
  }
})
