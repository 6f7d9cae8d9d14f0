/** Disk and arbiter over TCP, which is TLS with the pre-shared key; strangers, and the real NBD tools with the same key file. */

import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { MiB } from '../base/units.ts'
import type { Endpoint } from '../net/address.ts'
import { generateKey, writeKeyFile } from '../net/shared-key.ts'
import { ArbiterClient } from './arbiter-client.ts'
import type { DiskServer } from './disk-server.ts'
import { NbdClient } from './nbd-client.ts'
import * as wire from './nbd-wire.ts'
import { passOf, patienceMs, rawSocket, startTestServer, temporaryFolder, token } from './test-disk.ts'

const run = promisify(execFile)
const key = generateKey()
const anyPort: Endpoint = { address: { host: '127.0.0.1', port: 0 }, key }

function start(t: TestContext, folder: string, traces: string[] = []): Promise<DiskServer> {
  return startTestServer(t, folder, { nbd: anyPort, arbiter: anyPort, trace: (line) => traces.push(line) })
}

test('arbiter and disk are served over TCP to whoever has the key', async (t) => {
  const server = await start(t, temporaryFolder())
  const { nbd, arbiter } = server.addresses
  const holder = new ArbiterClient({ address: arbiter, key, machine: 'web', replica: 'a', token })
  t.after(() => holder.close())
  assert.deepEqual(await holder.start(patienceMs), { granted: true, generation: 1 })
  const disk = await NbdClient.connect({ address: nbd, key, exportName: 'disk0', pass: passOf('a', 1) })
  const data = randomBytes(3 * MiB).subarray(0, MiB)
  await disk.write(0, data)
  await disk.flush()
  assert.ok((await disk.read(0, MiB)).equals(data))
  await disk.close()
  assert.equal(await disk.ended, undefined)
})

test('another key, or none, opens neither disk nor arbiter', async (t) => {
  const server = await start(t, temporaryFolder())
  const { nbd: address, arbiter } = server.addresses
  await assert.rejects(NbdClient.connect({ address, exportName: 'plain' }), { code: 'key-missing' })
  const wrong = generateKey()
  await assert.rejects(NbdClient.connect({ address, key: wrong, exportName: 'plain' }), { reason: 'refused' })
  assert.throws(() => new ArbiterClient({ address: arbiter, machine: 'web', replica: 'a', token }), {
    code: 'key-missing',
  })
  const stranger = new ArbiterClient({ address: arbiter, key: wrong, machine: 'web', replica: 'a', token })
  t.after(() => stranger.close())
  await assert.rejects(stranger.read(patienceMs), { reason: 'denied', message: /copy one key file to every host/ })
})

test('a server over TCP without a key does not start', async (t) => {
  const tcp = { address: { host: '127.0.0.1', port: 0 } }
  await assert.rejects(startTestServer(t, temporaryFolder(), { nbd: tcp }), { code: 'key-missing', exitCode: 78 })
  await assert.rejects(startTestServer(t, temporaryFolder(), { arbiter: tcp }), { code: 'key-missing', exitCode: 78 })
})

/** What the server says to these bytes, until it closes or has said `bytes`. */
async function answerTo(t: TestContext, server: DiskServer, said: Buffer, bytes = Number.MAX_SAFE_INTEGER) {
  const socket: Socket = await rawSocket(t, server.addresses.nbd)
  const chunks: Buffer[] = []
  const ended = new Promise<void>((resolve) => {
    socket.on('close', resolve)
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      if (Buffer.concat(chunks).length >= bytes) resolve()
    })
  })
  socket.write(said)
  await ended
  return Buffer.concat(chunks)
}

const flags = wire.encodeClientFlags(wire.HandshakeFlag.fixedNewstyle)
const greetingBytes = 18

test('before STARTTLS every option is answered that TLS is required, and an export name by the end', async (t) => {
  const server = await start(t, temporaryFolder())
  const go = wire.encodeGoData('plain', [])
  for (const [option, data] of [
    [wire.Option.list, Buffer.alloc(0)],
    [wire.Option.structuredReply, Buffer.alloc(0)],
    [wire.Option.go, go],
    [wire.Option.info, go],
    [99, Buffer.alloc(0)],
  ] as const) {
    const said = Buffer.concat([flags, wire.encodeOption(option, data)])
    const answer = await answerTo(t, server, said, greetingBytes + wire.optionReplyHeaderBytes)
    assert.equal(answer.readUInt32BE(greetingBytes + 8), option)
    assert.equal(answer.readUInt32BE(greetingBytes + 12), wire.OptionError.tlsRequired)
  }
  const exportName = Buffer.concat([flags, wire.encodeOption(wire.Option.exportName, Buffer.from('plain'))])
  assert.equal((await answerTo(t, server, exportName)).length, greetingBytes)
})

test('what was pipelined behind STARTTLS in plain text is not heard inside TLS: the connection ends', async (t) => {
  const traces: string[] = []
  const server = await start(t, temporaryFolder(), traces)
  const startTls = wire.encodeOption(wire.Option.startTls)
  const said = Buffer.concat([flags, startTls, wire.encodeOption(wire.Option.list)])
  assert.equal((await answerTo(t, server, said)).length, greetingBytes)
  assert.match(traces.join(), /it sent more before TLS began/)
})

test('whoever haggles instead of beginning TLS is turned away', async (t) => {
  const server = await start(t, temporaryFolder())
  const list = wire.encodeOption(wire.Option.list)
  const answer = await answerTo(t, server, Buffer.concat([flags, ...Array(1000).fill(list)]))
  assert.ok(answer.length < 4096, `${answer.length} bytes of answers`)
})

test('a client tells nothing to a server that has no TLS, or says more before it begins', async (t) => {
  const startTls = wire.Option.startTls
  const ack = wire.encodeOptionReply(startTls, wire.OptionReply.ack)
  for (const [answer, words] of [
    [wire.encodeOptionReply(startTls, wire.OptionError.unsupported), /does not offer TLS/],
    [Buffer.concat([ack, ack]), /sent more before TLS began/],
  ] as const) {
    const heard: Buffer[] = []
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.write(wire.encodeServerGreeting())
      socket.on('data', (chunk: Buffer) => heard.push(chunk))
      socket.once('data', () => socket.write(answer))
    }).listen(0, '127.0.0.1')
    t.after(() => server.close())
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    const address = { host: '127.0.0.1', port }
    await assert.rejects(NbdClient.connect({ address, key, exportName: 'secret', connectTimeoutMs: 5000 }), {
      reason: 'protocol',
      message: words,
    })
    const { fixedNewstyle, noZeroes } = wire.HandshakeFlag
    const all = Buffer.concat([wire.encodeClientFlags(fixedNewstyle | noZeroes), wire.encodeOption(startTls)])
    assert.ok(Buffer.concat(heard).equals(all), 'flags and STARTTLS, and not a byte more')
  }
})

/** The folder with the key as the tools want it, and what to skip for. */
function tools(name: string): { readonly skip: string | false } {
  const found = spawnSync(name, ['--version'])
  return { skip: found.error ? `${name} is not installed` : false }
}

function keyFileIn(folder: string): string {
  const path = join(folder, 'keys.psk')
  writeKeyFile(path, key)
  return path
}

function portOf(server: DiskServer): number {
  return server.addresses.nbd.port!
}

const timeout = patienceMs

test('nbdinfo reads an export over TLS with the key file, and nothing without it', tools('nbdinfo'), async (t) => {
  const folder = temporaryFolder()
  const server = await start(t, folder)
  const file = keyFileIn(folder)
  const uri = `nbds://${key.identity}@127.0.0.1:${portOf(server)}/plain?tls-psk-file=${file}`
  const { stdout } = await run('nbdinfo', ['--json', uri], { timeout })
  const info = JSON.parse(stdout)
  assert.equal(info.TLS, true)
  assert.equal(info.exports[0]['export-size'], MiB)
  await assert.rejects(run('nbdinfo', [`nbd://127.0.0.1:${portOf(server)}/plain`], { timeout }), /replied with error/)
  const wrongFolder = join(folder, 'wrong')
  mkdirSync(wrongFolder)
  const wrongFile = join(wrongFolder, 'keys.psk')
  writeKeyFile(wrongFile, generateKey())
  await assert.rejects(run('nbdinfo', [uri.replace(file, wrongFile)], { timeout }))
})

test('nbdcopy writes and reads back an image over TLS', tools('nbdcopy'), async (t) => {
  const folder = temporaryFolder()
  const server = await start(t, folder)
  const uri = `nbds://${key.identity}@127.0.0.1:${portOf(server)}/plain?tls-psk-file=${keyFileIn(folder)}`
  const source = join(folder, 'source')
  writeFileSync(source, randomBytes(MiB))
  await run('nbdcopy', ['--flush', source, uri], { timeout })
  await run('nbdcopy', [uri, join(folder, 'back')], { timeout })
  assert.ok(readFileSync(join(folder, 'back')).equals(readFileSync(source)))
})

test('qemu-img compares an export over TLS with its image', tools('qemu-img'), async (t) => {
  const folder = temporaryFolder()
  const server = await start(t, folder)
  keyFileIn(folder)
  const creds = `tls-creds-psk,id=tls0,dir=${folder},username=${key.identity},endpoint=client`
  const image = `driver=nbd,host=127.0.0.1,port=${portOf(server)},export=plain,tls-creds=tls0`
  const { stdout } = await run('qemu-img', ['info', '--output=json', '--object', creds, '--image-opts', image], {
    timeout,
  })
  assert.equal(JSON.parse(stdout)['virtual-size'], MiB)
})
