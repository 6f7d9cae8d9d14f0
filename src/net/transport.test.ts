/** What a connection of ours promises, over a unix socket and over TCP; and what a stranger gets, which is nothing. */

import assert from 'node:assert/strict'
import { fork, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext, test } from 'node:test'
import { createServer as createTlsServer, connect as tlsConnect } from 'node:tls'
import type { Endpoint } from './address.ts'
import { type ConnectOptions, connectTo } from './connect.ts'
import { Listener, type ListenerOptions } from './listener.ts'
import { generateKey } from './shared-key.ts'

const purpose = 'test'
const key = generateKey()

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-net-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

interface Served {
  /** Where it listens, with the key. */
  readonly endpoint: Endpoint
  readonly traces: string[]
  readonly connections: Socket[]
}

/** Listens and echoes. */
async function serve(t: TestContext, endpoint: Endpoint, more: Partial<ListenerOptions<void>> = {}): Promise<Served> {
  const traces: string[] = []
  const connections: Socket[] = []
  const listener = await Listener.open({
    purpose,
    endpoint,
    onConnection: (socket) => {
      connections.push(socket)
      socket.on('error', () => {})
      socket.on('data', (chunk) => socket.write(chunk))
    },
    trace: (line) => traces.push(line),
    ...more,
  })
  t.after(() => listener.close())
  return { endpoint: { ...endpoint, address: listener.address }, traces, connections }
}

const anyPort: Endpoint = { address: { host: '127.0.0.1', port: 0 }, key }

async function client(t: TestContext, endpoint: Endpoint): Promise<Socket> {
  const socket = await connectTo(endpoint, { purpose })
  t.after(() => socket.destroy())
  socket.on('error', () => {})
  return socket
}

/** However it ends. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()))
}

/** Must fail so; a connection that came about all the same is closed, for the test to end. */
async function refused(endpoint: Endpoint, options: ConnectOptions, expected: object): Promise<void> {
  const connecting = connectTo(endpoint, options)
  connecting.then(
    (socket) => socket.destroy(),
    () => {},
  )
  await assert.rejects(connecting, expected)
}

async function read(socket: Socket, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  for (let got = 0; got < bytes; ) {
    const [chunk] = (await once(socket, 'data')) as [Buffer]
    chunks.push(chunk)
    got += chunk.length
  }
  return Buffer.concat(chunks)
}

/** Waits for a condition that must come true; the test runner's time limit is the only deadline. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(setImmediate)
}

/** A raw connection to a server, for saying what no peer of ours would. */
async function stranger(t: TestContext, { endpoint }: Served): Promise<{ socket: Socket; heard: Buffer[] }> {
  const socket = connect(endpoint.address.port!, endpoint.address.host!)
  t.after(() => socket.destroy())
  const heard: Buffer[] = []
  socket.on('error', () => {})
  socket.on('data', (chunk: Buffer) => heard.push(chunk))
  await once(socket, 'connect')
  return { socket, heard }
}

const transports: readonly [string, (t: TestContext) => Endpoint][] = [
  ['a unix socket', (t) => ({ address: { path: join(folderOf(t), 'socket') } })],
  ['TCP', () => anyPort],
]

for (const [name, endpointOf] of transports) {
  describe(`over ${name}`, () => {
    it('bytes arrive whole and in order, both ways at once', async (t) => {
      const { endpoint } = await serve(t, endpointOf(t))
      const socket = await client(t, endpoint)
      const data = randomBytes(3_000_001)
      const back = read(socket, data.length)
      for (let at = 0; at < data.length; at += 70_000) socket.write(data.subarray(at, at + 70_000))
      assert.ok((await back).equals(data))
    })

    it('what one side says first waits until the other listens', async (t) => {
      const { endpoint } = await serve(t, endpointOf(t), { onConnection: (socket) => void socket.write('welcome') })
      const socket = await client(t, endpoint)
      await new Promise((resolve) => setTimeout(resolve, 20))
      assert.equal((await read(socket, 7)).toString(), 'welcome')
    })

    it('a side that is done still gets its answer, where the listener allows it', async (t) => {
      const { endpoint } = await serve(t, endpointOf(t), {
        allowHalfOpen: true,
        onConnection: (socket) => {
          socket.resume()
          socket.once('end', () => setImmediate(() => socket.end('the answer')))
        },
      })
      const socket = await client(t, endpoint)
      socket.end('the question')
      assert.equal((await read(socket, 10)).toString(), 'the answer')
      await closed(socket)
    })

    it('the end of one side ends the other', async (t) => {
      const served = await serve(t, endpointOf(t))
      const socket = await client(t, served.endpoint)
      await until(() => served.connections.length === 1)
      const ended = closed(served.connections[0]!)
      socket.end()
      await ended
    })

    it('a killed process is noticed at once: its kernel ends the connection', async (t) => {
      const served = await serve(t, endpointOf(t))
      const script = join(folderOf(t), 'peer.mjs')
      writeFileSync(
        script,
        `import { connectTo } from ${JSON.stringify(join(import.meta.dirname, 'connect.ts'))}
         process.once('message', async (endpoint) => { await connectTo(endpoint, { purpose: 'test' }) })
         setInterval(() => {}, 1000)`,
      )
      const peer = fork(script, { serialization: 'advanced' })
      t.after(() => peer.kill('SIGKILL'))
      peer.send(served.endpoint)
      await until(() => served.connections.length === 1)
      const ended = closed(served.connections[0]!)
      peer.kill('SIGKILL')
      await ended
    })

    it('closing the listener drops every connection, and then nobody answers', async (t) => {
      const endpoint = endpointOf(t)
      const listener = await Listener.open({ purpose, endpoint, onConnection: (socket) => void socket.resume() })
      const at = { ...endpoint, address: listener.address }
      const socket = await client(t, at)
      const ended = closed(socket.resume())
      await listener.close()
      await ended
      await refused(
        at,
        { purpose },
        {
          name: 'WorldError',
          code: 'cannot-connect',
          message: /^cannot connect to the test at .*: (ECONNREFUSED|ENOENT)$/,
        },
      )
    })

    it('connecting can be given up', async (t) => {
      const { endpoint } = await serve(t, endpointOf(t))
      const abort = new AbortController()
      const connecting = connectTo(endpoint, { purpose, signal: abort.signal })
      abort.abort()
      await assert.rejects(connecting, { code: 'cannot-connect', message: /given up/ })
      await refused(endpoint, { purpose, signal: abort.signal }, { code: 'cannot-connect' })
    })

    it('the 129th connection is refused, and the others go on', async (t) => {
      const served = await serve(t, endpointOf(t))
      const sockets: Socket[] = []
      for (let n = 0; n < 128; n++) sockets.push(await client(t, served.endpoint))
      const oneMore = await client(t, served.endpoint)
      await closed(oneMore.resume())
      assert.equal(served.traces.length, 1)
      assert.match(served.traces[0]!, /128 connections are open already/)
      sockets[0]!.write('hello')
      assert.equal((await read(sockets[0]!, 5)).toString(), 'hello')
    })
  })
}

test('a unix socket is for its owner only, from the moment it exists; other files keep their umask', async (t) => {
  const folder = folderOf(t)
  const path = join(folder, 'socket')
  const umask = process.umask(0)
  try {
    const opening = serve(t, { address: { path } })
    await until(() => statSync(path, { throwIfNoEntry: false }) !== undefined)
    const { mode } = statSync(path)
    await opening
    assert.equal(mode & 0o777, 0o600)
    assert.equal(process.umask(), 0)
  } finally {
    process.umask(umask)
  }
})

test('a socket file that a dead process left is replaced, one that somebody listens on is not', async (t) => {
  const path = join(folderOf(t), 'socket')
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  assert.equal(spawnSync(process.execPath, ['-e', script]).signal, 'SIGKILL')
  assert.ok(statSync(path).isSocket())
  const { endpoint } = await serve(t, { address: { path } })
  await assert.rejects(serve(t, endpoint), { name: 'WorldError', code: 'path-in-use', exitCode: 78 })
  await client(t, endpoint)
})

test('an address that cannot be had is one line: in use, of another host, without folder, too long', async (t) => {
  const { endpoint } = await serve(t, anyPort)
  await assert.rejects(serve(t, endpoint), {
    code: 'port-in-use',
    message: /^the test address 127\.0\.0\.1:\d+ is in use/,
  })
  await assert.rejects(serve(t, { address: { host: '192.0.2.1', port: 0 }, key }), { code: 'bad-address' })
  await assert.rejects(serve(t, { address: { path: join(folderOf(t), 'no', 'socket') } }), { code: 'no-folder' })
  await assert.rejects(serve(t, { address: { path: `/tmp/${'x'.repeat(110)}` } }), { code: 'path-too-long' })
})

test('TCP without a key neither listens nor connects', async (t) => {
  await assert.rejects(serve(t, { address: { host: '127.0.0.1', port: 0 } }), { code: 'key-missing', exitCode: 78 })
  const { endpoint } = await serve(t, anyPort)
  await refused({ address: endpoint.address }, { purpose }, { code: 'key-missing', exitCode: 78 })
})

test('a peer with another key, or the same under another name, is turned away, and told apart from a broken cable', async (t) => {
  const served = await serve(t, anyPort)
  const { address } = served.endpoint
  for (const wrong of [generateKey(), { identity: 'someone', secret: key.secret }]) {
    await refused(
      { address, key: wrong },
      { purpose },
      {
        code: 'key-refused',
        message: /refuses our key: it has (another key|no key of this name); copy one key file/,
      },
    )
  }
  await until(() => served.traces.length === 1)
  assert.match(served.traces[0]!, /^test: turned away 127\.0\.0\.1: it has (another key|no key of this name)$/)
  assert.equal(served.connections.length, 0)
})

test('a client refuses a server that has another key, shows a certificate, or speaks no TLS', async (t) => {
  const { address } = (await serve(t, { ...anyPort, key: { identity: key.identity, secret: generateKey().secret } }))
    .endpoint
  await refused({ address, key }, { purpose }, { code: 'key-refused', exitCode: 77, message: /another key/ })

  const folder = folderOf(t)
  const file = join(folder, 'all.pem')
  const made = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
    ...[
      '-subj',
      '/CN=127.0.0.1',
      '-addext',
      'subjectAltName=IP:127.0.0.1',
      '-keyout',
      file,
      '-out',
      join(folder, 'c.pem'),
    ],
  ])
  if (made.status === 0) {
    const impostor = createTlsServer(
      { key: readFileSync(file), cert: readFileSync(join(folder, 'c.pem')) },
      (socket) => {
        socket.on('error', () => {})
        socket.end('trust me')
        t.after(() => socket.destroy())
      },
    )
    impostor.on('tlsClientError', () => {})
    t.after(() => impostor.close())
    impostor.listen(0, '127.0.0.1')
    await once(impostor, 'listening')
    const { port } = impostor.address() as { port: number }
    await refused(
      { address: { host: '127.0.0.1', port }, key },
      { purpose },
      {
        code: 'cannot-connect',
      },
    )
  } else {
    t.diagnostic('openssl is not installed: no certificate was tried')
  }

  const plain = createServer((socket) => {
    socket.on('error', () => {})
    socket.end('220 welcome\r\n')
  })
  t.after(() => plain.close())
  plain.listen(0, '127.0.0.1')
  await once(plain, 'listening')
  const { port } = plain.address() as { port: number }
  await refused(
    { address: { host: '127.0.0.1', port }, key },
    { purpose },
    {
      code: 'cannot-connect',
      message: /it does not speak TLS/,
    },
  )
})

test('a client gives up a server that never answers', async (t) => {
  const silent = createServer(() => {})
  t.after(() => silent.close())
  silent.listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const { port } = silent.address() as { port: number }
  const endpoint = { address: { host: '127.0.0.1', port }, key }
  await refused(
    endpoint,
    { purpose, timeoutMs: 50 },
    {
      code: 'cannot-connect',
      message: /no answer within 50 ms/,
    },
  )
})

test('plain text, random bytes, TLS without the key and TLS 1.2 get nothing but the end', async (t) => {
  const served = await serve(t, anyPort)
  for (const bytes of [Buffer.from('GET / HTTP/1.1\r\n\r\n'), randomBytes(400), Buffer.alloc(70_000, 0x16)]) {
    const { socket, heard } = await stranger(t, served)
    socket.write(bytes)
    await closed(socket)
    // At most an alert, which is TLS's own: two bytes behind a header of five.
    assert.ok(Buffer.concat(heard).length <= 7, Buffer.concat(heard).toString('hex'))
  }
  const { port } = served.endpoint.address
  const secret = { psk: key.secret, identity: key.identity }
  for (const options of [
    { rejectUnauthorized: false },
    { rejectUnauthorized: false, maxVersion: 'TLSv1.2', ciphers: 'PSK', pskCallback: () => secret },
  ] as const) {
    const socket = tlsConnect({ host: '127.0.0.1', port: port!, ...options }, () => assert.fail('it was let in'))
    await once(socket, 'error')
  }
  assert.equal(served.connections.length, 0)
})

test('a stranger that shuts its side, or resets in the middle of the handshake, leaves nothing behind', async (t) => {
  const served = await serve(t, anyPort, { allowHalfOpen: true })
  const { socket } = await stranger(t, served)
  socket.end()
  await closed(socket)
  const { socket: second } = await stranger(t, served)
  second.write(Buffer.from('160301', 'hex'))
  second.resetAndDestroy()
  await client(t, served.endpoint)
  await until(() => served.traces.length > 0)
  assert.match(served.traces[0]!, /the connection was closed/)
})

test('who does not finish the handshake within 5 s is closed', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const served = await serve(t, anyPort)
  const { socket: silent } = await stranger(t, served)
  const { socket: slow } = await stranger(t, served)
  slow.write(Buffer.from('1603010200', 'hex'))
  // Only when the server has taken them do their clocks run.
  await client(t, served.endpoint)
  t.mock.timers.tick(4_999)
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate)
  assert.deepEqual(served.traces, [])
  assert.equal(silent.closed || slow.closed, false)
  t.mock.timers.tick(1)
  // The server's own work, of a few turns: no peer has a part in it.
  for (let turn = 0; turn < 1000 && served.traces.length === 0; turn++) await new Promise(setImmediate)
  assert.match(served.traces[0] ?? 'nothing', /no handshake within 5 s/)
  await until(() => silent.closed && slow.closed)
})

test('a flood of strangers keeps no peer out, and fills no trace', async (t) => {
  const served = await serve(t, anyPort)
  const peer = await client(t, served.endpoint)
  const flood: Socket[] = []
  const { host, port } = served.endpoint.address
  for (let n = 0; n < 300; n++) {
    const socket = connect(port!, host!)
    t.after(() => socket.destroy())
    socket.on('error', () => {})
    if (n % 3 === 0) socket.write('GET / HTTP/1.1\r\n\r\n')
    flood.push(socket.resume())
  }
  const late = await client(t, served.endpoint)
  for (const socket of [peer, late]) {
    socket.write('hello')
    assert.equal((await read(socket, 5)).toString(), 'hello')
  }
  await until(() => flood.filter((socket) => socket.closed).length >= 300 - 64)
  assert.equal(served.connections.length, 2)
  assert.equal(served.traces.length, 1)
})

test('of a burst of strangers the trace names the first and counts the rest', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const served = await serve(t, anyPort)
  const knock = async (): Promise<void> => {
    const { socket } = await stranger(t, served)
    socket.write('GET / HTTP/1.1\r\n\r\n')
    await closed(socket)
  }
  for (let n = 0; n < 10; n++) await knock()
  t.mock.timers.tick(10_000)
  await knock()
  assert.deepEqual(
    served.traces.map((line) => line.replace(/away [\d.]+:.*/, 'away SOMEBODY')),
    ['test: turned away SOMEBODY', 'test: turned away 9 more', 'test: turned away SOMEBODY'],
  )
})
