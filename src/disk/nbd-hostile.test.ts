/**
 * Peers that send nonsense, to the server and to the client: the conversation ends with a typed error or goes on; nothing
 * crashes, hangs or grows. The sessions are sans-I/O, so a hundred thousand messages take seconds.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WorldError } from '../base/assert.ts'
import { Prng } from '../base/prng.ts'
import { MiB } from '../base/units.ts'
import { info, mutate, pieces, politeClient, politeServer } from './hostile-messages.test-support.ts'
import { NbdClientSession } from './nbd-client-session.ts'
import { NbdServerSession } from './nbd-server-session.ts'
import * as wire from './nbd-wire.ts'
import { nbdClient, rawSocket, startTestServer, temporaryFolder } from './test-disk.ts'

/** Plays a server that accepts everything; returns the requests it saw and how the conversation ended. */
function serve(prng: Prng, bytes: Buffer): { requests: number; ended: boolean } {
  const session = new NbdServerSession(false)
  let requests = 0
  let ended = false
  const handle = (events: ReturnType<NbdServerSession['receive']>): void => {
    for (const event of events) {
      assert.equal(ended, false, 'nothing follows the end')
      if (event.kind === 'list') handle(session.listed(['disk0', 'disk1']))
      if (event.kind === 'open') {
        handle(prng.chance(0.9) ? session.accept(info) : session.refuse(wire.OptionError.unknown, 'no'))
      }
      if (event.kind === 'request') requests++
      if (event.kind === 'end') {
        ended = true
        if (event.fault) assert.ok(event.fault instanceof WorldError)
      }
    }
  }
  for (const piece of pieces(prng, bytes)) handle(session.receive(piece))
  return { requests, ended }
}

function askPolitely(session: NbdClientSession): void {
  session.request(wire.Command.read, 0, 0, 4096)
  session.request(wire.Command.read, 0, 4096, 512)
  session.request(wire.Command.flush, 0, 0, 0)
}

/** Plays a client against a server's messages: the first six negotiate, the rest come after the client has asked. */
function ask(prng: Prng, messages: readonly Buffer[]): { replies: number; ended: boolean } {
  const session = new NbdClientSession('disk0', false)
  let replies = 0
  let ended = false
  const negotiation = Buffer.concat(messages.slice(0, 6))
  const answers = Buffer.concat(messages.slice(6))
  for (const piece of [...pieces(prng, negotiation), ...pieces(prng, answers)]) {
    for (const event of session.receive(piece)) {
      assert.equal(ended, false, 'nothing follows the end')
      if (event.kind === 'ready') askPolitely(session)
      if (event.kind === 'reply') replies++
      if (event.kind === 'end') ended = true
    }
  }
  return { replies, ended }
}

test('a polite client is understood however its bytes are cut', () => {
  const bytes = Buffer.concat(politeClient())
  for (let seed = 0; seed < 200; seed++) {
    const outcome = serve(new Prng(seed), bytes)
    if (outcome.requests > 0) assert.deepEqual(outcome, { requests: 5, ended: true })
  }
})

for (const structured of [true, false]) {
  test(`a polite server with ${structured ? 'structured' : 'simple'} replies is understood however its bytes are cut`, () => {
    const messages = politeServer(structured)
    for (let seed = 0; seed < 200; seed++) assert.deepEqual(ask(new Prng(seed), messages), { replies: 3, ended: false })
  })
}

test("100 000 mutated messages of a client's never throw out of a session", () => {
  const prng = new Prng(2026)
  let ends = 0
  let messages = 0
  while (messages < 100_000) {
    const conversation = mutate(prng, politeClient())
    messages += conversation.length
    if (serve(prng, Buffer.concat(conversation)).ended) ends++
  }
  assert.ok(ends > 2000, 'and many of them were found out')
})

test("100 000 mutated messages of a server's never throw out of a session", () => {
  const prng = new Prng(2026)
  let ends = 0
  let messages = 0
  while (messages < 100_000) {
    const conversation = mutate(prng, politeServer(prng.chance(0.5)))
    messages += conversation.length
    if (ask(prng, conversation).ended) ends++
  }
  assert.ok(ends > 2000, 'and many of them were found out')
})

test('a reply that is longer, elsewhere, twice or unasked ends the conversation', () => {
  const greeting = politeServer(true).slice(0, 6)
  const chunk = (offset: number, length: number): Buffer =>
    Buffer.concat([wire.encodeReadChunk(1n, offset, length), Buffer.alloc(length)])
  const wrong = [
    chunk(4096, 4096),
    chunk(0, 8192),
    chunk(0, 2048),
    Buffer.concat([wire.encodeReadChunk(9n, 0, 4096), Buffer.alloc(4096)]),
    Buffer.concat([chunk(0, 4096), chunk(0, 4096)]),
    wire.encodeReadChunk(1n, 0, 0x7fffffff),
    wire.encodeSimpleReply(1n, 0),
    Buffer.alloc(64, 0xff),
  ]
  for (const [index, bytes] of wrong.entries()) {
    assert.equal(ask(new Prng(index), [...greeting, bytes]).ended, true, `case ${index}`)
  }
})

test('a server under attack drops the attackers and goes on', async (t) => {
  const server = await startTestServer(t, temporaryFolder())
  const good = await nbdClient(t, server, 'plain')
  const hugeWrite = wire.encodeRequest({
    command: wire.Command.write,
    flags: 0,
    handle: 1n,
    offset: 0,
    length: 0x7fffffff,
  })
  const opened = [wire.encodeClientFlags(3), wire.encodeOption(wire.Option.go, wire.encodeGoData('plain', []))]
  const hugeOption = wire.encodeOption(99)
  hugeOption.writeUInt32BE(0xffffffff, 12)
  const attacks = [
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    Buffer.alloc(100, 0xff),
    Buffer.concat([wire.encodeClientFlags(3), hugeOption]),
    Buffer.concat([...opened, hugeWrite]),
    Buffer.concat([...opened, Buffer.alloc(28)]),
    Buffer.concat([wire.encodeClientFlags(3), wire.encodeOption(wire.Option.exportName, Buffer.from('nothing'))]),
  ]
  for (const attack of attacks) {
    const socket = await rawSocket(t, server.addresses.nbd)
    socket.resume()
    const closed = new Promise((resolve) => socket.once('close', resolve))
    socket.write(attack)
    await closed
  }
  assert.equal((await good.read(512, 1))[0], 1)
})

test('a client that asks much and takes nothing is not served into memory', async (t) => {
  const server = await startTestServer(t, temporaryFolder())
  const socket = await rawSocket(t, server.addresses.nbd)
  const go = wire.encodeOption(wire.Option.go, wire.encodeGoData('plain', []))
  socket.write(Buffer.concat([wire.encodeClientFlags(3), go]))
  // A gibibyte of answers, none of which is read.
  const read = wire.encodeRequest({ command: wire.Command.read, flags: 0, handle: 1n, offset: 0, length: MiB })
  socket.pause()
  socket.write(Buffer.concat(Array.from({ length: 1024 }, () => read)))
  const good = await nbdClient(t, server, 'plain')
  for (let round = 0; round < 200; round++) await good.read(0, 4096)
  assert.ok(process.memoryUsage().arrayBuffers < 400 * MiB)
})
