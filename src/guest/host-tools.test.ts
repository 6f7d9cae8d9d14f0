import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { findProgram } from './command.ts'
import { ensureHostTool } from './host-tools.ts'
import { TestRepository } from './test-repository.ts'

let repository: TestRepository
let cache: string

beforeEach(() => {
  repository = new TestRepository()
  cache = join(mkdtempSync(join(tmpdir(), "understudy tool's ")), 'cache')
})

afterEach(() => {
  repository.remove()
  rmSync(join(cache, '..'), { recursive: true, force: true })
})

const fetched = { preferFetched: true }

test('the system’s own program is used when there is one', async () => {
  assert.equal(await ensureHostTool('mke2fs', cache), findProgram('mke2fs'))
  assert.deepEqual(repository.calls(), [])
})

test('a fetched tool starts with its own loader and libraries, whatever the host has', async () => {
  // The loader of this test says how it was called: --library-path FOLDER PROGRAM argument …
  const loader = '#!/bin/sh\necho "$1"; echo "$2"; echo "$3"; echo "$4"\n'
  repository.add('passt', [
    { path: 'usr/bin/passt', content: 'program', mode: 0o755 },
    { path: 'usr/lib/riscv64-linux-gnu/ld-linux-test.so.1', content: loader, mode: 0o755 },
  ])
  const path = await ensureHostTool('passt', cache, () => {}, fetched)
  const [option, libraries, program, argument] = execFileSync(path, ['two words'], { encoding: 'utf8' }).split('\n')
  assert.equal(option, '--library-path')
  assert.ok(readdirSync(libraries!).includes('ld-linux-test.so.1'))
  assert.ok(program!.endsWith('/usr/bin/passt'))
  assert.equal(argument, 'two words')
  const calls = repository.calls().length
  repository.cutNetwork()
  assert.equal(await ensureHostTool('passt', cache, () => {}, fetched), path)
  assert.equal(repository.calls().length, calls, 'the second time nobody is asked')
})

test('a tool that can neither be found nor fetched is one clear line, and leaves nothing half done', async () => {
  repository.add('passt', [{ path: 'usr/bin/passt', content: 'program' }])
  await assert.rejects(
    ensureHostTool('passt', cache, () => {}, fetched),
    { code: 'package-damaged' },
  )
  assert.deepEqual(readdirSync(join(cache, 'tools')), [])
  repository.cutNetwork()
  await assert.rejects(
    ensureHostTool('xz', join(cache, 'b'), () => {}, fetched),
    { code: 'no-network' },
  )
  await assert.rejects(
    ensureHostTool('xz', join(cache, 'c'), () => {}, { ...fetched, offline: true }),
    { code: 'not-cached' },
  )
})
