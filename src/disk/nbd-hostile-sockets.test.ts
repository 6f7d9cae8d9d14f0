/**
 * Hostile peers over real sockets: 100 000 mutated messages to the server, and as many to the client by a server that
 * lies. Nothing crashes, nothing hangs, memory does not grow, and what is said about it is one clear line each time.
 */

import assert from 'node:assert/strict'
import { connect, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { memoryInUse } from '../../test/support/memory-in-use.ts'
import { Prng } from '../base/prng.ts'
import { MiB } from '../base/units.ts'
import type { BlockStore } from './block-store.ts'
import { mutate, pieces, politeServer } from './hostile-messages.test-support.ts'
import { NbdClient } from './nbd-client.ts'
import { NbdError, type NbdErrorReason } from './nbd-error.ts'
import * as wire from './nbd-wire.ts'
import { freeSocket, nbdClient, patienceMs, startTestServer, temporaryFolder } from './test-disk.ts'

const wanted = 100_000
/** Conversations at a time. */
const peers = 8
/** A server that kept its connections would grow by 20 MiB. */
const growthLimitBytes = 8 * MiB

/** Has several conversations at a time until enough messages are sent; memory is compared after the first tenth. */
async function converse(conversation: (prng: Prng) => Promise<number>): Promise<{ grownBytes: number }> {
  let messages = 0
  const runUntil = async (end: number, seed: number): Promise<void> => {
    const prng = new Prng(seed)
    while (messages < end) {
      const said = await conversation(prng)
      messages += said
    }
  }
  const all = (end: number): Promise<unknown> =>
    Promise.all(Array.from({ length: peers }, (_, peer) => runUntil(end, end + peer)))
  await all(wanted / 10)
  const before = await memoryInUse()
  await all(wanted)
  return { grownBytes: (await memoryInUse()) - before }
}

/** The disk of this computer need not take part: forcing thousands of writes to it would test its patience, not ours. */
function withoutFlush(store: BlockStore): BlockStore {
  return {
    sizeBytes: store.sizeBytes,
    read: (offset, lengthBytes) => store.read(offset, lengthBytes),
    write: (offset, data) => store.write(offset, data),
    flush: async () => {},
    trim: (offset, lengthBytes) => store.trim(offset, lengthBytes),
    writeZeroes: (offset, lengthBytes, mayStayHole) => store.writeZeroes(offset, lengthBytes, mayStayHole),
    close: () => store.close(),
  }
}

/** Negotiation, then requests of every kind, most of them good ones. */
function longClient(prng: Prng): Buffer[] {
  const messages = [
    wire.encodeClientFlags(3),
    wire.encodeOption(wire.Option.structuredReply),
    wire.encodeOption(wire.Option.go, wire.encodeGoData('plain', [])),
  ]
  const { read, write, flush, trim, writeZeroes } = wire.Command
  for (let index = 0; index < 60; index++) {
    const command = prng.pick([read, read, write, write, flush, trim, writeZeroes])
    const length = command === flush ? 0 : 512 * (1 + prng.below(4))
    const offset = command === flush ? 0 : 512 * prng.below(2000)
    const header = wire.encodeRequest({ command, flags: prng.below(2), handle: BigInt(index), offset, length })
    messages.push(command === write ? Buffer.concat([header, prng.bytes(length)]) : header)
  }
  return messages
}

test('100 000 mutated messages over sockets: the server lives, keeps no memory, and says one line for each end', async (t) => {
  const lines: string[] = []
  const server = await startTestServer(t, temporaryFolder(), {
    wrapStore: withoutFlush,
    trace: (line) => lines.push(line),
  })
  const { grownBytes } = await converse(async (prng) => {
    const messages = mutate(prng, longClient(prng))
    // Not a socket of the test's context: that would keep thousands of them until its end.
    const socket = connect(server.addresses.nbd.path!)
    const closed = new Promise((resolve) => socket.once('close', resolve))
    socket.on('error', () => {})
    socket.resume()
    for (const piece of pieces(prng, Buffer.concat(messages))) socket.write(piece)
    socket.end()
    await closed
    return messages.length
  })
  const good = await nbdClient(t, server, 'disk0')
  assert.equal((await good.read(512, 1))[0], 1, 'a good client is served as ever')
  assert.ok(grownBytes < growthLimitBytes, `memory grew by ${(grownBytes / MiB).toFixed(1)} MiB`)
  assert.ok(lines.length > 100)
  for (const line of lines) assert.match(line, /^nbd: [^\n]{5,300}$/)
})

interface Script {
  readonly negotiation: Buffer
  readonly answers: Buffer
}

/** How long a lying server keeps a client waiting that expects more of it. Decides nothing but the test's duration. */
const silenceMs = 10

/** A server that talks as its script says, whatever it is asked; it answers once every read has come. */
async function lyingServer(t: TestContext, nextScript: () => Script): Promise<string> {
  const { path } = freeSocket().address
  const server = createServer((socket: Socket) => {
    const { negotiation, answers } = nextScript()
    let heardBytes = 0
    let hasAnswered = false
    const silence = setTimeout(() => socket.end(), silenceMs)
    socket.on('error', () => {})
    socket.on('close', () => clearTimeout(silence))
    socket.on('data', (chunk: Buffer) => {
      silence.refresh()
      heardBytes += chunk.length
      if (heardBytes < reads * wire.requestHeaderBytes || hasAnswered) return
      hasAnswered = true
      socket.end(answers)
    })
    socket.write(negotiation)
  })
  t.after(() => server.close())
  await new Promise<void>((resolve) => server.listen(path, resolve))
  return path!
}

/** Negotiation and the answers to `ask`: reads are answered with data, flushes without. */
function longServer(prng: Prng): Buffer[] {
  const messages = politeServer(true).slice(0, 6)
  for (let handle = 1; handle <= reads; handle++) {
    messages.push(
      prng.chance(0.1)
        ? wire.encodeErrorChunk(BigInt(handle), wire.NbdErrno.io, 'broken')
        : Buffer.concat([wire.encodeReadChunk(BigInt(handle), 512 * handle, 512), Buffer.alloc(512, handle)]),
    )
  }
  return messages
}

const reads = 30

test('100 000 mutated messages of a server that lies: the client lives, waits for nothing, and says what is wrong', async (t) => {
  const scripts: Script[] = []
  const path = await lyingServer(t, () => scripts.shift()!)
  const errors: { readonly reason: NbdErrorReason; readonly message: string }[] = []
  let answered = 0
  const note = (error: unknown): void => {
    assert.ok(error instanceof NbdError, String(error))
    // Not the error itself: with its stack it would be the memory that grows.
    errors.push({ reason: error.reason, message: error.message })
  }
  const { grownBytes } = await converse(async (prng) => {
    const messages = mutate(prng, longServer(prng))
    scripts.push({ negotiation: Buffer.concat(messages.slice(0, 6)), answers: Buffer.concat(messages.slice(6)) })
    try {
      const client = await NbdClient.connect({ address: { path }, exportName: 'x', connectTimeoutMs: patienceMs })
      const asked = Array.from({ length: reads }, (_, index) => client.read(512 * (index + 1), 512))
      for (const answer of await Promise.allSettled(asked)) {
        if (answer.status === 'fulfilled') answered++
        else note(answer.reason)
      }
      client.destroy()
    } catch (error) {
      note(error)
    }
    errors.length = Math.min(errors.length, 5000)
    return messages.length
  })
  assert.ok(grownBytes < growthLimitBytes, `memory grew by ${(grownBytes / MiB).toFixed(1)} MiB`)
  assert.ok(answered > 10_000, 'the mutations leave enough of a conversation')
  for (const reason of ['protocol', 'io', 'connection-lost'] as const) {
    assert.ok(
      errors.some((error) => error.reason === reason),
      reason,
    )
  }
  for (const { message } of errors) assert.match(message, /^[^\n]{5,300}$/)
})
