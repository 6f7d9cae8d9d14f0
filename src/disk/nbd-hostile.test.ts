/**
 * Peers that send nonsense, to the server and to the client: the conversation ends with a typed error or goes on; nothing
 * crashes, hangs or grows. The sessions are sans-I/O, so a hundred thousand messages take seconds.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WorldError } from '../base/assert.ts'
import { Prng } from '../base/prng.ts'
import { MiB } from '../base/units.ts'
import { NbdClientSession } from './nbd-client-session.ts'
import { NbdServerSession } from './nbd-server-session.ts'
import * as wire from './nbd-wire.ts'
import { nbdClient, rawSocket, startTestServer, temporaryFolder } from './test-disk.ts'

const flags = wire.ExportFlag.hasFlags | wire.ExportFlag.sendFlush | wire.ExportFlag.sendFua
const info: wire.ExportInfo = { sizeBytes: MiB, flags, description: 'an export' }

/** A whole polite conversation of a client, as its single messages. */
function politeClient(): Buffer[] {
  const request = (command: number, offset: number, length: number, data = Buffer.alloc(0)): Buffer =>
    Buffer.concat([wire.encodeRequest({ command, flags: 0, handle: 5n, offset, length }), data])
  return [
    wire.encodeClientFlags(3),
    wire.encodeOption(wire.Option.list),
    wire.encodeOption(wire.Option.structuredReply),
    wire.encodeOption(wire.Option.info, wire.encodeGoData('disk0', [wire.Info.description, wire.Info.blockSize])),
    wire.encodeOption(wire.Option.go, wire.encodeGoData('disk0', [])),
    request(wire.Command.write, 512, 512, Buffer.alloc(512, 1)),
    request(wire.Command.read, 0, 4096),
    request(wire.Command.flush, 0, 0),
    request(wire.Command.trim, 0, 4096),
    request(wire.Command.writeZeroes, 0, 4096),
    request(wire.Command.disconnect, 0, 0),
  ]
}

/** A whole polite conversation of a server that answers the requests of `askPolitely`. */
function politeServer(structured: boolean): Buffer[] {
  const option = structured ? wire.OptionReply.ack : wire.OptionError.unsupported
  const reply = (type: number, data?: Buffer): Buffer => wire.encodeOptionReply(wire.Option.go, type, data)
  const data = Buffer.alloc(4096, 7)
  const read = structured ? wire.encodeReadChunk(1n, 0, 4096) : wire.encodeSimpleReply(1n, 0)
  return [
    wire.encodeServerGreeting(),
    wire.encodeOptionReply(wire.Option.structuredReply, option),
    reply(wire.OptionReply.info, wire.encodeInfoExport(info)),
    reply(wire.OptionReply.info, wire.encodeInfoBlockSize()),
    reply(wire.OptionReply.info, wire.encodeInfoText(wire.Info.description, 'words')),
    reply(wire.OptionReply.ack),
    Buffer.concat([read, data]),
    structured ? wire.encodeErrorChunk(2n, wire.NbdErrno.io, 'broken') : wire.encodeSimpleReply(2n, wire.NbdErrno.io),
    wire.encodeSimpleReply(3n, 0),
  ]
}

function mutate(prng: Prng, messages: Buffer[]): Buffer[] {
  const mutated = messages.map((message) => Buffer.from(message))
  for (let change = 0; change <= prng.below(3); change++) {
    const index = prng.below(mutated.length)
    const message = mutated[index]!
    switch (prng.below(5)) {
      case 0:
        if (message.length > 0) message[prng.below(Math.min(message.length, 40))] = prng.below(256)
        break
      case 1:
        mutated[index] = message.subarray(0, prng.below(message.length + 1))
        break
      case 2:
        mutated.splice(index, 0, message)
        break
      case 3:
        mutated.splice(index, 1)
        mutated.push(Buffer.from(prng.bytes(prng.below(64))))
        break
      case 4:
        if (message.length >= 4) message.writeUInt32BE(prng.pick([0, 1, 0x7fffffff, 0xffffffff]), message.length - 4)
        break
    }
    if (mutated.length === 0) break
  }
  return mutated
}

/** Cuts bytes where no message ends. */
function* pieces(prng: Prng, bytes: Buffer): Generator<Buffer> {
  for (let offset = 0; offset < bytes.length; ) {
    const length = 1 + prng.below(prng.chance(0.5) ? 30 : 2000)
    yield bytes.subarray(offset, offset + length)
    offset += length
  }
}

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

test('mutated conversations never throw out of a session', () => {
  const prng = new Prng(2026)
  let ends = 0
  for (let trial = 0; trial < 5000; trial++) {
    if (serve(prng, Buffer.concat(mutate(prng, politeClient()))).ended) ends++
    ask(prng, mutate(prng, politeServer(prng.chance(0.5))))
  }
  assert.ok(ends > 1000, 'and many of them were found out')
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
