/**
 * Strangers at the TCP ports, without the key: they speak our protocols in plain text, TLS with changed bytes, or noise.
 * None gets a byte that is not TLS's own, none is heard, and they fill neither the memory nor the trace, while a peer with
 * the key is served.
 */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { after, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import type { Prng } from '../../src/base/prng.ts'
import { ArbiterClient } from '../../src/disk/arbiter-client.ts'
import { arbiterProtocolVersion, encodeLine } from '../../src/disk/arbiter-messages.ts'
import { freeSocket, makeImage, startTestServer, temporaryFolder } from '../../src/disk/test-disk.ts'
import { PeerChannels } from '../../src/host/peer-channels.ts'
import { startLan } from '../../src/lan/lan.ts'
import { LanClient } from '../../src/lan/lan-client.ts'
import { encodeMessageToSwitch, replicaProtocolVersion } from '../../src/lan/replica-message.ts'
import { connectTo } from '../../src/net/connect.ts'
import { generateKey } from '../../src/net/shared-key.ts'
import { encodeMessage } from '../../src/replication/message-codec.ts'
import { attack, hostileMessages, TraceJudge } from './attack.ts'
import { mutate } from './mutator.ts'

const key = generateKey()
const endpoint = { address: { host: '127.0.0.1', port: 0 }, key } as const
/** At each of the three ports. */
const messages = hostileMessages / 3
/** A burst of strangers is two lines in ten seconds; these attacks last a minute at the very most. */
const mostLines = 30

/** What a client with another key of the same name says first: TLS's ClientHello. */
async function clientHello(): Promise<Uint8Array> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const other = generateKey()
  const client = connectTls({
    socket: connect(port, '127.0.0.1'),
    minVersion: 'TLSv1.3',
    ciphers: 'TLS_AES_128_GCM_SHA256',
    pskCallback: () => ({ psk: other.secret, identity: other.identity }),
    checkServerIdentity: () => undefined,
  }).on('error', () => {})
  const [socket] = (await once(server, 'connection')) as [Socket]
  const [hello] = (await once(socket, 'data')) as [Buffer]
  client.destroy()
  socket.destroy()
  server.close()
  return hello
}

const hello = await clientHello()
/** The first byte of a TLS record: handshake or alert. */
const tlsRecords = [0x15, 0x16]
let heard = 0

/** `polite` in plain text, TLS with changed bytes, or both in one. */
function stranger(protocol: readonly Uint8Array[]) {
  const polite = [0, 1, 2, 3, 4].flatMap(() => protocol)
  return (prng: Prng, socket: Socket): Uint8Array[] => {
    socket.once('data', (bytes: Buffer) => {
      heard++
      assert.ok(tlsRecords.includes(bytes[0]!), `a stranger was told ${bytes.toString('hex', 0, 40)}`)
    })
    const said = prng.pick([polite, [hello, ...polite], [hello, hello, ...polite]])
    return mutate(prng, said)
  }
}

after(() => assert.ok(heard > 100, 'TLS answered many'))

test('strangers at the replica port get nothing, and a replica with the key is served meanwhile', async (t) => {
  const judge = new TraceJudge()
  const mac = '52:54:00:00:00:01'
  const lan = await startLan({
    replicaListen: endpoint,
    machines: [{ name: 'good', mac, token: 'token' }],
    trace: judge.trace,
  })
  t.after(() => lan.close())
  const noted = { onConfirmed: () => {}, onFenced: () => {}, onClosed: () => {}, onFrame: () => {} }
  const machine = { address: lan.replicaAddress, key, machine: 'good', mac, token: 'token', replica: 'a' }
  let served = 0
  await attack({
    address: lan.replicaAddress,
    seed: 9,
    messages,
    conversation: stranger(
      [
        { type: 'hello', version: replicaProtocolVersion, machine: 'good', replica: 'x', proof: new Uint8Array(32) },
        { type: 'announce' },
        { type: 'ping' },
      ].map((message) => encodeMessageToSwitch(message as Parameters<typeof encodeMessageToSwitch>[0])),
    ),
    honest: async () => {
      const replica = await LanClient.connect({ ...machine, ...noted, connectTimeoutMs: 60_000 })
      served++
      replica.close()
    },
  })
  assert.ok(judge.lines <= mostLines + served, `${judge.lines} lines`)
})

test('strangers at the arbiter get nothing, and a replica with the key is served meanwhile', async (t) => {
  const judge = new TraceJudge()
  const folder = temporaryFolder()
  const server = await startTestServer(t, folder, {
    exports: [{ name: 'disk0', path: makeImage(folder, 'disk0.img'), machine: 'web' }],
    nbd: freeSocket(),
    arbiter: endpoint,
    tokens: { web: 'secret' },
    trace: judge.trace,
  })
  const address = server.addresses.arbiter
  const client = new ArbiterClient({ address, key, machine: 'web', replica: 'a', token: 'secret' })
  t.after(() => client.close())
  const polite = [
    { op: 'hello', version: arbiterProtocolVersion, machine: 'web', replica: 'x', token: 'secret' },
    { op: 'start' },
    { op: 'read' },
  ].map((request, id) => Buffer.from(encodeLine({ id, ...request })))
  await attack({
    address,
    seed: 10,
    messages,
    conversation: stranger(polite),
    honest: async () => assert.equal((await client.read(60_000)).generation, 0),
  })
  assert.ok(judge.lines <= mostLines, `${judge.lines} lines`)
})

test('strangers at the logging channel get nothing and are never heard of, and a peer with the key is', async (t) => {
  const judge = new TraceJudge()
  let opened = 0
  const channels = new PeerChannels({
    onOpen: () => opened++,
    onMessage: () => {},
    onBadMessage: () => {},
    onClosed: () => {},
  })
  const address = await channels.listen(endpoint, judge.trace)
  t.after(() => channels.closeAll())
  const goodbye = encodeMessage({ kind: 'goodbye', reason: 'x' })
  let honest = 0
  await attack({
    address,
    seed: 11,
    messages,
    conversation: stranger([goodbye, goodbye, goodbye]),
    honest: async () => {
      const socket = await connectTo({ address, key }, { purpose: 'primary', timeoutMs: 60_000 })
      honest++
      while (opened < honest) await new Promise(setImmediate)
      socket.destroy()
    },
  })
  assert.equal(opened, honest, 'only who has the key was heard of')
  assert.ok(judge.lines <= mostLines, `${judge.lines} lines`)
})
