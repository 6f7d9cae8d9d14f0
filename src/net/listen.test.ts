import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { listenOn } from './listen.ts'

const folder = mkdtempSync(join(tmpdir(), 'understudy-listen-'))
after(() => rmSync(folder, { recursive: true }))

async function end(server: Server): Promise<void> {
  const closed = once(server, 'close')
  server.close()
  await closed
}

test('a server’s socket file goes with it', async () => {
  const path = join(folder, 'alone')
  const server = createServer()
  await listenOn(server, { path }, 'test')
  assert.ok(existsSync(path))
  await end(server)
  assert.ok(!existsSync(path))
})

test('who lost its place and ends late leaves its successor’s socket file alone', async (t) => {
  const path = join(folder, 'contested')
  const [first, second] = [createServer(), createServer()]
  t.after(() => second.close())
  await listenOn(first, { path }, 'test')
  await listenOn(second, { path }, 'test', true)
  const { ino } = statSync(path)
  await end(first)
  assert.equal(statSync(path).ino, ino)
})
