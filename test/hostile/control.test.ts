/**
 * Hostile peers of the sockets in a VM's folder: the control socket of a process, and a replica's console. File permissions
 * let only the owner in; what one of the owner's programs does wrong must still not end a replica.
 */

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { ConsolePort } from '../../src/host/console-port.ts'
import { ask, listenForControl } from '../../src/host/control.ts'
import { assertNoGrowth, attack, within } from './attack.ts'
import { mutate } from './mutator.ts'

const folder = mkdtempSync(join(tmpdir(), 'understudy-hostile-control-'))
after(() => rmSync(folder, { recursive: true }))

function seal(message: Uint8Array): Uint8Array {
  return Buffer.from(`${Buffer.from(message).toString('latin1').replaceAll('\n', ' ')}\n`, 'latin1')
}

const lines = (messages: readonly object[]): Uint8Array[] =>
  messages.map((message) => Buffer.from(`${JSON.stringify(message)}\n`))

/** Sends without end and without a line end, and reads nothing. */
async function endlessLine(path: string): Promise<void> {
  const socket = connect(path)
  socket.on('error', () => {})
  const closed = new Promise((resolve) => socket.once('close', resolve))
  const piece = Buffer.alloc(2 ** 20, 'x')
  const send = (): void => {
    while (socket.writable && socket.write(piece));
  }
  socket.on('drain', send)
  send()
  await within('an endless line ends', closed)
}

test('10^5 mutated questions to a control socket, and an endless one, leave it answering and leave nothing behind', async (t) => {
  const path = join(folder, 'control')
  const typed: number[] = [0]
  const server = await listenForControl(path, async (command, body) => {
    if (command === 'status') return { generation: 5, instructions: 12n }
    if (command !== 'consoleInput') throw new Error(`unknown command ${command}`)
    typed[0]! += new TextEncoder().encode((body as { text: string }).text).length
    return {}
  })
  t.after(() => server.close())
  await attack({
    address: { path },
    seed: 7,
    conversation: (prng) => {
      const status = { command: 'status', body: {} }
      const input = { command: 'consoleInput', body: { text: 'echo' } }
      return mutate(prng, lines([status, input, status, input, status, input, status, input, status, input]), seal)
    },
    honest: async () => assert.deepEqual(await ask(path, 'status', {}, 60_000), { generation: 5, instructions: '12' }),
  })
  assert.ok(typed[0]! > 1000, 'many were understood')
  await assertNoGrowth(() => endlessLine(path))
  assert.deepEqual(await ask(path, 'status'), { generation: 5, instructions: '12' })
})

test('a peer that asks and asks and takes no answer is dropped', async (t) => {
  const path = join(folder, 'unread')
  const server = await listenForControl(path, () => ({ text: 'x'.repeat(100_000) }))
  t.after(() => server.close())
  const socket = connect(path)
  socket.on('error', () => {})
  socket.pause()
  const question = lines([{ command: 'status' }])[0]!
  const send = (): void => {
    while (socket.writable && socket.write(question));
  }
  socket.on('drain', send)
  const closed = new Promise((resolve) => socket.once('close', resolve))
  await assertNoGrowth(async () => {
    send()
    await within('it is dropped', closed, () => socket.destroy())
  })
})

test('an answer that makes no sense is one clear error, and no crash, for who asked', async (t) => {
  for (const nonsense of ['nonsense', 'null', '5', '{}', '"answer"', '{"answer"']) {
    const path = join(folder, `nonsense-${Buffer.from(nonsense).toString('hex')}`)
    const server = createServer((socket) => socket.on('error', () => {}).end(`${nonsense}\n`)).listen(path)
    t.after(() => server.close())
    await assert.rejects(ask(path, 'status'), { code: 'control-refused', message: /makes no sense/ })
  }
})

test('10^5 mutated messages to a console, and an endless one, disturb no honest viewer and leave nothing behind', async (t) => {
  const path = join(folder, 'console')
  let keys = 0
  const port = new ConsolePort({ onKeys: (bytes) => (keys += bytes.length) })
  await port.listen(path)
  port.onLive(1)
  for (let sequence = 1n; sequence < 20n; sequence++) port.onReleased({ sequence, bytes: new Uint8Array(100) })
  const honest = async (): Promise<void> => {
    const socket = connect(path).on('error', () => {})
    let seen = ''
    await new Promise<void>((resolve) => {
      socket.on('data', (chunk) => {
        seen += String(chunk)
        if (seen.includes('"sequence":"19"')) resolve()
      })
      socket.write('{"kind":"attach","wish":"watch"}\n')
    })
    socket.destroy()
  }
  await attack({
    address: { path },
    seed: 8,
    conversation: (prng) => {
      const attach = { kind: 'attach', after: '12', wish: prng.pick(['write', 'take', 'watch']) }
      const press = { kind: 'keys', base64: 'ZWNobwo=' }
      return mutate(prng, lines([attach, press, attach, press, press, press, attach, press, press, press]), seal)
    },
    honest,
  })
  t.after(() => port.close())
  assert.ok(keys > 1000, 'many were understood')
  await assertNoGrowth(() => endlessLine(path))
  await honest()
  while (port.viewers > 0) await new Promise(setImmediate)
})
