import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { listenForPeers } from './logging-channel.ts'
import { PrimaryChannel } from './primary-channel.ts'

test('a backup looks for its primary in one place after the other, and says so when it is in none', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-channel-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const place = (name: string) => ({ address: { path: join(folder, name) } })
  const opened = Promise.withResolvers<void>()
  const listening = await listenForPeers(
    place('b'),
    () => opened.resolve(),
    () => {},
  )
  t.after(() => listening.close())
  const found = new PrimaryChannel([place('a'), place('b')])
  t.after(() => found.close())
  await found.connect()
  assert.ok(found.isOpen)
  await opened.promise
  await assert.rejects(new PrimaryChannel([place('a'), place('c')]).connect(), { code: 'primary-unreachable' })
})
