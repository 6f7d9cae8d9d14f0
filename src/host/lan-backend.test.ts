import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type Lan, startLan } from '../lan/lan.ts'
import { encodePrefix } from '../lan/length-prefix.ts'
import { Cable } from '../net/cable.ts'
import { connectTo } from '../net/connect.ts'
import { generateKey } from '../net/shared-key.ts'
import { LanBackend, type LanBackendOptions } from './lan-backend.ts'

const mac = '52:54:00:00:00:01'
const machine = 'shop'
const token = 'secret-of-shop'

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-lan-backend-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

async function lanAt(t: TestContext, folder: string, knownMac = mac): Promise<Lan> {
  const lan = await startLan({
    replicaListen: { address: { path: join(folder, 'lan.socket') } },
    plainSocketPath: join(folder, 'plain.socket'),
    machines: [{ name: machine, mac: knownMac, token }],
  })
  t.after(() => lan.close())
  return lan
}

function backendAt(t: TestContext, folder: string, replica: string, changes: Partial<LanBackendOptions> = {}) {
  const backend = new LanBackend({
    endpoint: { address: { path: join(folder, 'lan.socket') } },
    machine,
    mac,
    replica,
    token,
    onFrame: () => true,
    onConfirmed: () => {},
    onFenced: () => {},
    trace: () => {},
    ...changes,
  })
  t.after(() => backend.close())
  return backend
}

/** Waits for a condition that must come true; the test runner's time limit is the only deadline. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}

const bound = (lan: Lan) => {
  const [port] = lan.statistics().machines
  return { replica: port?.boundReplica, generation: port?.generation, isConnected: port?.connected }
}

test('a switch that was started again is bound again, in the same generation, and numbers frames after the last received', async (t) => {
  const folder = folderOf(t)
  const first = await lanAt(t, folder)
  const received: bigint[] = []
  const backend = backendAt(t, folder, 'a', { onFrame: (frameId) => received.push(frameId) > 0 })
  await backend.connect()
  await backend.bind({ generation: 3n, coveredFrameId: 41n, receivedFrameId: 41n, logId: 7n })
  const station = await connectTo({ address: { path: join(folder, 'plain.socket') } }, { purpose: 'station' })
  const broadcast = new Uint8Array(60).fill(0xff, 0, 6)
  broadcast[6] = 2
  station.write(encodePrefix(broadcast.length))
  station.write(broadcast)
  await until(() => received.length === 1)
  assert.deepEqual(received, [42n])
  await first.close()
  const second = await lanAt(t, folder)
  await until(() => bound(second).isConnected === true)
  assert.deepEqual(bound(second), { replica: 'a', generation: '3', isConnected: true })
  assert.equal(second.statistics().machines[0]?.lastFrameId, '42', 'no number is used twice')
})

test('a connection that broke, to a switch that lives: no frame is lost in either direction, and none comes twice', async (t) => {
  const folder = folderOf(t)
  const lan = await lanAt(t, folder)
  const machineOf = () => lan.statistics().machines[0]!
  const station = await connectTo({ address: { path: join(folder, 'plain.socket') } }, { purpose: 'station' })
  let heardBytes = 0
  station.on('data', (bytes: Buffer) => {
    heardBytes += bytes.length
  })
  const inbound = (mark: number): void => {
    const frame = new Uint8Array(60).fill(0xff, 0, 6)
    frame.set([2, 0, 0, 0, 0, 9], 6)
    frame[14] = mark
    station.write(encodePrefix(frame.length))
    station.write(frame)
  }
  const outbound = (): Uint8Array => {
    const frame = new Uint8Array(60).fill(0xff, 0, 6)
    frame.set([0x52, 0x54, 0, 0, 0, 1], 6)
    return frame
  }
  const cable = new Cable()
  const received: bigint[] = []
  const confirmed: bigint[] = []
  const endpoint = { address: { path: join(folder, 'lan.socket') }, cable }
  const primary = backendAt(t, folder, 'a', {
    endpoint,
    onFrame: (frameId) => received.push(frameId) > 0,
    onConfirmed: (sequence) => confirmed.push(sequence),
  })
  await primary.connect()
  await primary.bind({ generation: 3n, coveredFrameId: 0n, receivedFrameId: 0n, logId: 7n })
  inbound(1)
  inbound(2)
  primary.send(0n, outbound())
  await until(() => received.length === 2 && confirmed.length === 1)
  primary.covered(1n)
  await until(() => machineOf().framesKept === 1)
  const sent = heardBytes

  // Frame 2 is in no acknowledged log entry; output 1 is on its way into a cable that is cut.
  cable.cut()
  primary.send(1n, outbound())
  inbound(3)
  await until(() => machineOf().framesKept === 2)
  cable.mend()
  await until(() => received.length >= 3 && confirmed.at(-1) === 1n)
  assert.deepEqual(received, [1n, 2n, 3n], 'what it had is not delivered again')
  assert.equal(machineOf().outputsForwarded, 2, 'the output that nobody had heard was sent again')
  assert.ok(heardBytes > sent)
  assert.equal(machineOf().framesKept, 2, 'frames 2 and 3 are not covered: they are kept for who takes over')

  const taken: bigint[] = []
  const backup = backendAt(t, folder, 'b', { onFrame: (frameId) => taken.push(frameId) > 0 })
  await backup.connect()
  await backup.bind({ generation: 4n, coveredFrameId: 1n, receivedFrameId: 1n, logId: 7n })
  backup.send(1n, outbound())
  await until(() => taken.length === 2 && machineOf().repeatsDropped >= 1)
  assert.deepEqual(taken, [2n, 3n])
  assert.equal(machineOf().outputsForwarded, 2)
})

test('a replica that goes live in the moment the switch dies is not refused: it binds as soon as it is back', async (t) => {
  const folder = folderOf(t)
  const first = await lanAt(t, folder)
  const backend = backendAt(t, folder, 'b')
  await backend.connect()
  const binding = backend.bind({ generation: 4n, coveredFrameId: 0n, receivedFrameId: 0n, logId: 7n })
  await first.close()
  await binding
  const second = await lanAt(t, folder)
  await until(() => bound(second).isConnected === true)
  assert.deepEqual(bound(second), { replica: 'b', generation: '4', isConnected: true })
})

test('a replica that the switch refuses when it is back is told so, and does not try for ever', async (t) => {
  const folder = folderOf(t)
  const first = await lanAt(t, folder)
  const fenced = Promise.withResolvers<void>()
  const backend = backendAt(t, folder, 'a', { onFenced: () => fenced.resolve() })
  await backend.connect()
  await backend.bind({ generation: 3n, coveredFrameId: 0n, receivedFrameId: 0n, logId: 7n })
  await first.close()
  await lanAt(t, folder, '52:54:00:00:00:02')
  await fenced.promise
})

test('a backup, connected and not bound, knows whether the switch answers; a switch that came back answers again', async (t) => {
  const folder = folderOf(t)
  const first = await lanAt(t, folder)
  const backend = backendAt(t, folder, 'b')
  await backend.connect()
  const tickUntil = async (isInReach: boolean, atLeast: number): Promise<void> => {
    for (let ticks = 0; ticks < atLeast || backend.onTick() !== isInReach; ticks++) await new Promise(setImmediate)
  }
  await tickUntil(true, 500)
  await first.close()
  await tickUntil(false, 0)
  await lanAt(t, folder)
  await tickUntil(true, 0)
})

test('a switch that stands still is waited for on a unix socket; over TCP, where a cable may be cut, another connection is tried', async (t) => {
  const folder = folderOf(t)
  const key = generateKey()
  const overTcp = await startLan({
    replicaListen: { address: { host: '127.0.0.1', port: 0 }, key },
    machines: [{ name: machine, mac, token }],
  })
  t.after(() => overTcp.close())
  await lanAt(t, folder)
  const cases = [
    { endpoint: { address: { path: join(folder, 'lan.socket') } }, triesAnother: false },
    { endpoint: { address: overTcp.replicaAddress, key }, triesAnother: true },
  ]
  for (const { endpoint, triesAnother } of cases) {
    const lines: string[] = []
    const backend = backendAt(t, folder, 'a', { endpoint, trace: (line) => lines.push(line) })
    await backend.connect()
    // No turn of the event loop comes between these ticks, so no answer does.
    for (let tick = 0; tick < 1000; tick++) backend.onTick()
    assert.equal(lines.includes('lan: the switch is gone; connecting again'), triesAnother)
    assert.equal(backend.onTick(), false, 'out of reach all the same')
  }
})
