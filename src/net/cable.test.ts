import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Cable } from './cable.ts'
import { connectTo } from './connect.ts'

/** A server that answers everything with itself, and a way to ask it over the cable. */
async function echo(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-cable-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const heard: string[] = []
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      heard.push(String(chunk))
      socket.write(chunk)
    })
  })
  const path = join(folder, 'socket')
  await new Promise<void>((resolve) => server.listen(path, resolve))
  t.after(() => server.close())
  const cable = new Cable()
  const open = async () => {
    const socket = await connectTo({ address: { path }, cable }, { purpose: 'echo' })
    t.after(() => socket.destroy())
    const answers: string[] = []
    socket.on('data', (chunk) => answers.push(String(chunk)))
    return { socket, answers }
  }
  return { cable, heard, open }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2))
}

const say = (socket: Socket, text: string): boolean => socket.write(text)

test('over a cut cable nothing passes and nothing ends; mended, the old connections break and new ones work', async (t) => {
  const { cable, heard, open } = await echo(t)
  const before = await open()
  say(before.socket, 'one')
  await until(() => before.answers.length === 1)
  cable.cut()
  const during = await open()
  say(before.socket, 'two')
  say(during.socket, 'three')
  cable.mend()
  const after = await open()
  say(after.socket, 'four')
  await until(() => after.answers.length === 1)
  await until(() => before.socket.closed && during.socket.closed)
  assert.deepEqual([before.answers, during.answers, after.answers], [['one'], [], ['four']])
  assert.deepEqual(heard, ['one', 'four'])
})

test('lost answers: the question arrives, the answer does not, and a new connection is a new chance', async (t) => {
  const { cable, heard, open } = await echo(t)
  const before = await open()
  cable.loseAnswers()
  say(before.socket, 'one')
  await until(() => heard.length === 1)
  const after = await open()
  say(after.socket, 'two')
  await until(() => after.answers.length === 1)
  assert.deepEqual(before.answers, [])
})
