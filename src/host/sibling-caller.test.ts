import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { PeerChannels } from './peer-channels.ts'
import { SiblingCaller } from './sibling-caller.ts'

function newPeers(onOpen: (id: number) => void = () => {}): PeerChannels {
  return new PeerChannels({ onOpen, onMessage: () => {}, onBadMessage: () => {}, onClosed: () => {} })
}

test('a sibling that is not there yet is called until it is, and its connection is the role’s from then on', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'siblings-'))
  const path = join(folder, 'c.sock')
  const told: string[] = []
  const connected = Promise.withResolvers<void>()
  const unreachable = Promise.withResolvers<void>()
  const caller = newPeers()
  const callee = newPeers(() => told.push('c is called'))
  const calls = new SiblingCaller({
    peers: caller,
    key: undefined,
    callMs: 60_000,
    onOpen: (id, replica) => {
      told.push(`${replica} answers`)
      assert.ok(caller.has(id))
      connected.resolve()
    },
    onUnreachable: (replica) => {
      if (told.length === 0) told.push(`${replica} is not there`)
      unreachable.resolve()
    },
    trace: () => {},
  })
  t.after(() => {
    calls.close()
    caller.closeAll()
    callee.closeAll()
    rmSync(folder, { recursive: true })
  })
  calls.call([{ replica: 'c', address: `unix:${path}` }])
  await unreachable.promise
  await callee.listen({ address: { path } }, () => {})
  await connected.promise
  assert.equal(told[0], 'c is not there')
  assert.ok(told.includes('c answers'))
})
