import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { WorldError } from '../base/assert.ts'
import { Prng } from '../base/prng.ts'
import type { SocketAddress } from '../net/address.ts'
import { connectTo } from '../net/connect.ts'
import { generateKey } from '../net/shared-key.ts'
import { broadcastMac, type Mac, macBytes, parseMac, sourceOf } from './frame.ts'
import { type Lan, type LanOptions, startLan } from './lan.ts'
import { LanClient, type LanClientOptions } from './lan-client.ts'
import { encodePrefix, LengthPrefixSplitter } from './length-prefix.ts'

const vmMac = '52:54:00:00:00:01'
const vm = parseMac(vmMac)
const alice = parseMac('02:00:00:00:00:0a')

function frame(source: Mac, destination: Mac, mark: number): Uint8Array {
  const bytes = new Uint8Array(60)
  bytes.set(macBytes(destination), 0)
  bytes.set(macBytes(source), 6)
  new DataView(bytes.buffer).setUint32(16, mark)
  return bytes
}

function markOf(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(16)
}

/** Waits for a condition that must come true; the test runner's time limit is the only deadline. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1))
}

/** A station on a plain port, as QEMU would be one. */
class TestStation {
  readonly socket: Socket
  readonly frames: Uint8Array[] = []
  isClosed = false

  constructor(socket: Socket) {
    this.socket = socket
    const splitter = new LengthPrefixSplitter(14, 70_000)
    socket.on('data', (chunk: Buffer) => splitter.push(chunk, (bytes) => this.frames.push(bytes.slice())))
    socket.on('error', () => {})
    socket.on('close', () => {
      this.isClosed = true
    })
  }

  send(bytes: Uint8Array): void {
    this.socket.write(encodePrefix(bytes.length))
    this.socket.write(bytes)
  }

  /** Marks of the machine's frames, announcements left out. */
  get marks(): number[] {
    return this.frames.filter((bytes) => bytes[12] === 0).map(markOf)
  }
}

interface TestReplica {
  readonly client: LanClient
  readonly frames: { frameId: bigint; mark: number }[]
  confirmed: bigint
  fencedBy: bigint | undefined
  isClosed: boolean
}

describe('the LAN over sockets', () => {
  let folder = ''
  let lan: Lan
  let traces: string[] = []
  const sockets: Socket[] = []
  const clients: LanClient[] = []

  function options(): LanOptions {
    return {
      plainSocketPath: join(folder, 'plain'),
      replicaListen: { address: { path: join(folder, 'replica') } },
      machines: [{ name: 'vm', mac: vmMac, token: 'secret' }],
      trace: (line) => traces.push(line),
    }
  }

  async function joinStation(): Promise<TestStation> {
    const before = lan.statistics().plainPorts
    const socket = await connectTo({ address: { path: join(folder, 'plain') } }, { purpose: 'station' })
    sockets.push(socket)
    await until(() => lan.statistics().plainPorts > before)
    return new TestStation(socket)
  }

  async function joinReplica(name: string, more: Partial<LanClientOptions> = {}): Promise<TestReplica> {
    const replica: Omit<TestReplica, 'client'> = { frames: [], confirmed: 0n, fencedBy: undefined, isClosed: false }
    const client = await LanClient.connect({
      address: lan.replicaAddress,
      machine: 'vm',
      mac: vmMac,
      replica: name,
      token: 'secret',
      onFrame: (frameId, bytes) => replica.frames.push({ frameId, mark: markOf(bytes) }),
      onConfirmed: (sequence) => {
        replica.confirmed = sequence
      },
      onFenced: (generation) => {
        replica.fencedBy = generation
      },
      onClosed: () => {
        replica.isClosed = true
      },
      ...more,
    })
    clients.push(client)
    return Object.assign(replica, { client })
  }

  function machine() {
    const statistics = lan.statistics().machines[0]
    assert.ok(statistics)
    return statistics
  }

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'understudy-lan-'))
    traces = []
    lan = await startLan(options())
  })

  afterEach(async () => {
    for (const client of clients.splice(0)) client.close()
    for (const socket of sockets.splice(0)) socket.destroy()
    await lan.close()
    rmSync(folder, { recursive: true, force: true })
  })

  it('a failover loses no frame and repeats no output: uncovered frames come again once, in order', async () => {
    const station = await joinStation()
    const primary = await joinReplica('a')
    const backup = await joinReplica('b')
    assert.deepEqual(await primary.client.bind({ generation: 1n, coveredFrameId: 0n }), {
      lastSequence: 0n,
      lastFrameId: 0n,
    })
    for (let mark = 1; mark <= 10; mark++) station.send(frame(alice, vm, mark))
    await until(() => primary.frames.length === 10)
    primary.client.covered(4n)
    for (let sequence = 1n; sequence <= 6n; sequence++) {
      primary.client.sendOutput(sequence, frame(vm, alice, Number(sequence)))
    }
    await until(() => primary.confirmed === 6n)

    // The primary dies. Two frames arrive while nobody runs the machine.
    primary.client.close()
    await until(() => !machine().connected)
    for (let mark = 11; mark <= 12; mark++) station.send(frame(alice, vm, mark))
    await until(() => machine().lastFrameId === '12')

    // The backup has acknowledged entries with frames up to 6, and was told of confirmations up to 3.
    const state = await backup.client.bind({ generation: 2n, coveredFrameId: 6n })
    assert.deepEqual(state, { lastSequence: 6n, lastFrameId: 12n })
    for (let sequence = 4n; sequence <= 8n; sequence++) {
      backup.client.sendOutput(sequence, frame(vm, alice, Number(sequence)))
    }
    station.send(frame(alice, vm, 13))
    await until(() => backup.confirmed === 8n && backup.frames.length === 7 && station.marks.length === 8)
    const expected = [7, 8, 9, 10, 11, 12, 13].map((mark) => ({ frameId: BigInt(mark), mark }))
    assert.deepEqual(backup.frames, expected)
    assert.deepEqual(station.marks, [1, 2, 3, 4, 5, 6, 7, 8])
    assert.equal(machine().repeatsDropped, 3)
    assert.equal(machine().framesRedelivered, 6)
  })

  it('a primary that wakes up after the takeover is told, refused, and reaches nobody', async () => {
    const station = await joinStation()
    const primary = await joinReplica('a')
    const backup = await joinReplica('b')
    await primary.client.bind({ generation: 1n, coveredFrameId: 0n })
    await backup.client.bind({ generation: 2n, coveredFrameId: 0n })
    await until(() => primary.fencedBy === 2n)
    primary.client.sendOutput(1n, frame(vm, alice, 66))
    await assert.rejects(primary.client.bind({ generation: 1n, coveredFrameId: 0n }), {
      name: 'WorldError',
      code: 'bind-refused',
      exitCode: 7,
    })
    backup.client.sendOutput(1n, frame(vm, alice, 1))
    await until(() => station.marks.length > 0)
    assert.deepEqual(station.marks, [1])
    assert.equal(machine().fencedDropped, 1)
  })

  it('a station that spoofs the machine’s MAC is not heard, and does not pull its traffic', async () => {
    const [spoofer, station] = [await joinStation(), await joinStation()]
    const replica = await joinReplica('a')
    await replica.client.bind({ generation: 1n, coveredFrameId: 0n })
    spoofer.send(frame(vm, broadcastMac, 66))
    await until(() => lan.statistics().spoofedDropped === 1)
    station.send(frame(alice, vm, 1))
    await until(() => replica.frames.length === 1)
    assert.deepEqual(station.marks, [])
    assert.deepEqual(spoofer.marks, [])
  })

  it('stations are told at bind where the machine is, and again when the replica asks', async () => {
    const station = await joinStation()
    const replica = await joinReplica('a')
    await replica.client.bind({ generation: 1n, coveredFrameId: 0n })
    replica.client.announce()
    await until(() => station.frames.length === 2)
    for (const bytes of station.frames) assert.deepEqual([sourceOf(bytes), bytes[12], bytes[13]], [vm, 0x80, 0x35])
  })

  it('a burst of outputs is confirmed in batches, the last one always', async () => {
    const station = await joinStation()
    let confirmations = 0
    let confirmed = 0n
    const replica = await joinReplica('a', {
      onConfirmed: (sequence) => {
        assert.ok(sequence > confirmed, 'confirmations grow')
        confirmations++
        confirmed = sequence
      },
    })
    await replica.client.bind({ generation: 1n, coveredFrameId: 0n })
    for (let sequence = 1; sequence <= 1000; sequence++) {
      replica.client.sendOutput(BigInt(sequence), frame(vm, alice, sequence))
    }
    await until(() => confirmed === 1000n && station.marks.length === 1000)
    assert.ok(confirmations < 500, `${confirmations} confirmations`)
  })

  it('a stranger without the token gets one sentence, and the switch one trace line', async () => {
    for (const wrong of [{ token: 'guess' }, { machine: 'no-such' }]) {
      await assert.rejects(joinReplica('x', wrong), { name: 'WorldError', code: 'lan-refused' })
    }
    await until(() => traces.length === 2)
    assert.ok(traces.every((line) => line.includes('does not hold the token') && !line.includes('\n')))
  })

  it('speaking before hello ends the connection', async () => {
    const socket = await connectTo({ address: lan.replicaAddress }, { purpose: 'switch' })
    sockets.push(socket)
    const closed = new Promise((resolve) => socket.once('close', resolve))
    socket.resume()
    socket.write(Uint8Array.of(0, 0, 0, 9, 4, 1, 0, 0, 0, 0, 0, 0, 0))
    await closed
    await until(() => traces.length === 1)
    assert.match(traces[0]!, /covered came before hello/)
  })

  it('a plain port with an impossible length is closed with one trace line; the others go on', async () => {
    const [bad, good, replica] = [await joinStation(), await joinStation(), await joinReplica('a')]
    await replica.client.bind({ generation: 1n, coveredFrameId: 0n })
    bad.socket.write('GET / HTTP/1.1\r\n\r\n')
    await until(() => bad.isClosed && traces.some((line) => line.startsWith('plain port')))
    assert.equal(traces.filter((line) => line.startsWith('plain port')).length, 1)
    good.send(frame(alice, vm, 1))
    await until(() => replica.frames.length === 1)
  })

  it('random bytes into plain and replica ports crash nothing', async () => {
    const random = new Prng(42)
    const replica = await joinReplica('a')
    await replica.client.bind({ generation: 1n, coveredFrameId: 0n })
    const addresses: SocketAddress[] = [{ path: join(folder, 'plain') }, lan.replicaAddress]
    for (let round = 0; round < 100; round++) {
      const socket = connect(random.pick(addresses).path!)
      sockets.push(socket)
      socket.on('error', () => {})
      socket.resume()
      for (let n = random.below(6); n >= 0; n--) {
        const bytes = random.bytes(1 + random.below(300))
        // Half of them with a length that is believed.
        if (random.chance(0.5)) socket.write(encodePrefix(bytes.length))
        socket.write(bytes)
      }
      await new Promise((resolve) => socket.end(() => resolve(undefined)))
    }
    const station = await joinStation()
    station.send(frame(alice, vm, 1))
    await until(() => replica.frames.some(({ mark }) => mark === 1))
  })

  it('a replica that broke off may bind again in its generation, and misses nothing', async () => {
    const station = await joinStation()
    const first = await joinReplica('a')
    await first.client.bind({ generation: 1n, coveredFrameId: 0n })
    station.send(frame(alice, vm, 1))
    await until(() => first.frames.length === 1)
    first.client.close()
    const again = await joinReplica('a')
    await again.client.bind({ generation: 1n, coveredFrameId: 0n })
    await until(() => again.frames.length === 1)
  })

  it('a replica hears that the switch is gone, and a pending bind is rejected', async () => {
    const replica = await joinReplica('a')
    const pending = replica.client.bind({ generation: 1n, coveredFrameId: 0n })
    const rejected = assert.rejects(pending, { name: 'WorldError', code: 'lan-closed' })
    await lan.close()
    await rejected
    await until(() => replica.isClosed)
    replica.client.sendOutput(1n, frame(vm, alice, 1))
    await assert.rejects(replica.client.bind({ generation: 1n, coveredFrameId: 0n }), { code: 'lan-closed' })
  })

  it('replicas connect over TCP as well, with the key', async () => {
    await lan.close()
    const key = generateKey()
    lan = await startLan({ ...options(), replicaListen: { address: { host: '127.0.0.1', port: 0 }, key } })
    assert.ok(lan.replicaAddress.port)
    const station = await joinStation()
    await assert.rejects(joinReplica('a'), { code: 'key-missing' })
    await assert.rejects(joinReplica('a', { key: generateKey() }), { code: 'key-refused', message: /another key/ })
    const replica = await joinReplica('a', { key })
    await replica.client.bind({ generation: 1n, coveredFrameId: 0n })
    station.send(frame(alice, vm, 1))
    await until(() => replica.frames.length === 1)
  })

  it('joins a peer that listens itself', async () => {
    const path = join(folder, 'peer')
    const peers: TestStation[] = []
    const server = createServer((socket) => {
      sockets.push(socket)
      peers.push(new TestStation(socket))
    }).listen(path)
    await lan.close()
    lan = await startLan({ ...options(), plainConnectPaths: [path] })
    const replica = await joinReplica('a')
    await replica.client.bind({ generation: 1n, coveredFrameId: 0n })
    await until(() => peers[0]?.frames.length === 1)
    server.close()
  })

  it('replaces a dead process’s socket file, but not a live one’s, and keeps it to its owner', async () => {
    await assert.rejects(startLan(options()), { name: 'WorldError', code: 'path-in-use' })
    await lan.close()
    writeFileSync(join(folder, 'plain'), '')
    lan = await startLan(options())
    assert.equal(statSync(join(folder, 'plain')).mode & 0o777, 0o600)
  })

  it('a TCP port in use is named', async () => {
    const busy = createServer().listen(0, '127.0.0.1')
    await until(() => busy.listening)
    const address = busy.address()
    assert.ok(address && typeof address === 'object')
    await lan.close()
    const replicaListen = { address: { host: '127.0.0.1', port: address.port }, key: generateKey() }
    const started = startLan({ ...options(), replicaListen })
    await assert.rejects(started, (error) => {
      assert.ok(error instanceof WorldError)
      assert.equal(error.code, 'port-in-use')
      assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${address.port} is in use`))
      return true
    })
    busy.close()
  })
})
