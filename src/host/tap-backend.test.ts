/** Real TAPs on a real bridge, in a network namespace of the test's own. */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ownNetwork, sh } from '../../test/support/own-network.ts'
import { broadcastMac, type Mac, macBytes, parseMac } from '../lan/frame.ts'
import { TapBackend, type TapBackendOptions } from './tap-backend.ts'
import { TapDevice } from './tap-device.ts'

const mac = '52:54:00:00:00:01'
const machineMac = parseMac(mac)
const stationMac = parseMac('52:54:00:00:00:99')
const multicastMac = 0x0100_5e00_0001 as Mac

/** A bridge with these TAPs, all up; gone after the test. */
function bridge(t: TestContext, ...taps: readonly string[]): void {
  sh('ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up')
  for (const tap of taps) {
    sh(`ip tuntap add dev ${tap} mode tap && ip link set ${tap} master br0 up`)
  }
  t.after(() => {
    for (const tap of [...taps, 'br0']) sh(`ip link del ${tap} 2>/dev/null || true`)
  })
}

async function station(t: TestContext, tap: string): Promise<TapDevice> {
  const device = await TapDevice.attach(tap)
  t.after(() => device.close())
  return device
}

interface Card {
  readonly backend: TapBackend
  readonly frames: Uint8Array[]
  readonly frameIds: bigint[]
  readonly confirmed: bigint[]
  readonly trace: string[]
}

function card(t: TestContext, interfaceName: string, changes: Partial<TapBackendOptions> = {}): Card {
  const frames: Uint8Array[] = []
  const frameIds: bigint[] = []
  const confirmed: bigint[] = []
  const trace: string[] = []
  const backend = new TapBackend({
    interfaceName,
    mac,
    isBackup: false,
    onFrame: (frameId, bytes) => frameIds.push(frameId) + frames.push(bytes) > 0,
    onConfirmed: (sequence) => confirmed.push(sequence),
    onFenced: () => assert.fail('a TAP fences nobody'),
    trace: (line) => trace.push(line),
    ...changes,
  })
  t.after(() => backend.close())
  return { backend, frames, frameIds, confirmed, trace }
}

async function liveCard(t: TestContext, tap: string, changes: Partial<TapBackendOptions> = {}): Promise<Card> {
  const made = card(t, tap, changes)
  await made.backend.connect()
  await made.backend.bind({ receivedFrameId: 0n })
  return made
}

function frame(destination: Mac, source: Mac, number = 0, lengthBytes = 60): Uint8Array {
  const bytes = new Uint8Array(lengthBytes)
  bytes.set(macBytes(destination), 0)
  bytes.set(macBytes(source), 6)
  bytes.set([0x88, 0xb5], 12) // for experiments (IEEE 802)
  new DataView(bytes.buffer).setUint32(14, number)
  return bytes
}

const numberOf = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(14)
const isAnnouncement = (bytes: Uint8Array): boolean => bytes[12] === 0x80 && bytes[13] === 0x35

/** Waits for a condition that must come true; the test runner's time limit is the only deadline. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(2)
}

/** What the bridge believes: at which port the machine is. */
function portOfMachine(): string | undefined {
  return new RegExp(`^${mac} dev (\\w+) `, 'm').exec(sh('bridge fdb show br br0'))?.[1]
}

function readAll(device: TapDevice): Uint8Array[] {
  const frames: Uint8Array[] = []
  for (let next = device.read(); next; next = device.read()) frames.push(next)
  return frames
}

const network = ownNetwork()
if (!network.isInside) {
  test('a machine on a TAP, in a network of its own', { skip: network.skip }, async () => {
    await network.run(import.meta.filename)
  })
} else {
  test('frames of full size go both ways, in order, none lost while nobody lags behind', async (t) => {
    bridge(t, 'tap0', 'tap1')
    const peer = await station(t, 'tap1')
    const count = 20_000
    let received = 0
    const { backend } = await liveCard(t, 'tap0', {
      onFrame: (frameId, bytes) => {
        assert.equal(numberOf(bytes), received, 'in order')
        assert.equal(frameId, BigInt(++received))
        backend.covered(frameId)
        return true
      },
    })
    const startedAt = performance.now()
    for (let sent = 0; sent < count; sent++) {
      while (sent - received >= 256) await sleep(0)
      assert.ok(peer.write(frame(machineMac, stationMac, sent, 1514)))
    }
    await until(() => received === count)
    const seconds = (performance.now() - startedAt) / 1000
    t.diagnostic(
      `in: ${Math.round((count * 1514 * 8) / seconds / 1e6)} Mbit/s, ${Math.round(count / seconds)} frames/s`,
    )

    readAll(peer)
    let next = 0
    const outStartedAt = performance.now()
    for (let sent = 0; sent < count; sent++) {
      backend.send(BigInt(sent), frame(stationMac, machineMac, sent, 1514))
      if (sent % 128 < 127 && sent < count - 1) continue
      for (const bytes of readAll(peer)) if (!isAnnouncement(bytes)) assert.equal(numberOf(bytes), next++, 'in order')
    }
    assert.equal(next, count)
    const outSeconds = (performance.now() - outStartedAt) / 1000
    t.diagnostic(`out: ${Math.round((count * 1514 * 8) / outSeconds / 1e6)} Mbit/s`)
  })

  test("going live announces the MAC: the bridge sends the machine's frames to the new port at once", async (t) => {
    bridge(t, 'tap0', 'tap1', 'tap2')
    const peer = await station(t, 'tap1')
    const first = await liveCard(t, 'tap0')
    assert.equal(portOfMachine(), 'tap0')
    const second = card(t, 'tap2', { isBackup: true })
    await second.backend.connect()
    assert.equal(portOfMachine(), 'tap0', 'a backup is silent')
    first.backend.close()
    await second.backend.bind({ receivedFrameId: 41n })
    assert.equal(portOfMachine(), 'tap2')
    peer.write(frame(machineMac, stationMac, 7))
    await until(() => second.frames.length > 0)
    assert.deepEqual(second.frames.map(numberOf), [7])
    assert.deepEqual(second.frameIds, [42n], 'numbers go on after the last frame in the log')
  })

  test('the announcement is a RARP broadcast, repeated four times', async (t) => {
    bridge(t, 'tap0', 'tap1')
    const peer = await station(t, 'tap1')
    await liveCard(t, 'tap0')
    const seen: Uint8Array[] = []
    while (seen.length < 5) {
      await peer.waitForFrame()
      seen.push(...readAll(peer).filter(isAnnouncement))
    }
    for (const bytes of seen) {
      assert.deepEqual(bytes.subarray(0, 6), macBytes(broadcastMac))
      assert.deepEqual(bytes.subarray(6, 12), macBytes(machineMac))
    }
  })

  test('outputs that wait for the bind follow the announcement, in order, and are confirmed', async (t) => {
    bridge(t, 'tap0', 'tap1')
    const peer = await station(t, 'tap1')
    const { backend, confirmed } = card(t, 'tap0')
    await backend.connect()
    for (const number of [5, 6, 7]) backend.send(BigInt(number), frame(stationMac, machineMac, number))
    assert.deepEqual(confirmed, [], 'nobody has them yet')
    // As on the host of a backup: the bridge has known for long that nobody is attached, and drops what is sent too early.
    await until(() => readFileSync('/sys/class/net/tap0/brport/state', 'utf8').trim() === '0')
    await backend.bind({ receivedFrameId: 0n })
    assert.deepEqual(confirmed, [5n, 6n, 7n])
    const seen: Uint8Array[] = []
    while (seen.filter((bytes) => !isAnnouncement(bytes)).length < 3) {
      await peer.waitForFrame()
      seen.push(...readAll(peer))
    }
    assert.ok(isAnnouncement(seen[0]!))
    assert.deepEqual(seen.filter((bytes) => !isAnnouncement(bytes)).map(numberOf), [5, 6, 7])
  })

  test('only frames for the machine go in: its MAC, broadcast and multicast, and none that bears its own', async (t) => {
    bridge(t, 'tap0', 'tap1')
    const peer = await station(t, 'tap1')
    const { frames } = await liveCard(t, 'tap0')
    const other = parseMac('52:54:00:00:00:42')
    const sent: [Mac, Mac][] = [
      [other, stationMac],
      [machineMac, stationMac],
      [broadcastMac, stationMac],
      [broadcastMac, machineMac],
      [multicastMac, stationMac],
      [broadcastMac, stationMac],
    ]
    for (const [index, [destination, source]] of sent.entries()) peer.write(frame(destination, source, index))
    await until(() => frames.some((bytes) => numberOf(bytes) === 5))
    assert.deepEqual(frames.map(numberOf), [1, 2, 4, 5])
  })

  test('frames that no log entry covers are not piled up: reading stops, and goes on when they are covered', async (t) => {
    bridge(t, 'tap0', 'tap1')
    const peer = await station(t, 'tap1')
    const { backend, frames } = await liveCard(t, 'tap0')
    for (let number = 0; number < 1100; number++) {
      peer.write(frame(machineMac, stationMac, number))
      while (number - frames.length > 200) await sleep(0)
    }
    await until(() => frames.length >= 1024)
    await sleep(50)
    assert.equal(frames.length, 1024)
    backend.covered(1024n)
    await until(() => frames.length === 1100)
  })

  test('a machine that takes no frames yet leaves no gap: they are dropped, and nothing waits for them', async (t) => {
    bridge(t, 'tap0', 'tap1')
    const peer = await station(t, 'tap1')
    let isOn = false
    let offered = 0
    const taken: bigint[] = []
    await liveCard(t, 'tap0', {
      onFrame: (frameId) => {
        offered++
        if (isOn) taken.push(frameId)
        return isOn
      },
    })
    for (let number = 0; number < 2000; number++) {
      peer.write(frame(machineMac, stationMac, number))
      while (number - offered > 100) await sleep(0)
    }
    await until(() => offered === 2000)
    isOn = true
    peer.write(frame(machineMac, stationMac))
    await until(() => taken.length === 1)
    assert.deepEqual(taken, [1n])
  })

  test('a backup may name the TAP that its primary on the same host has; it attaches when that one is gone', async (t) => {
    bridge(t, 'tap0', 'tap1')
    const peer = await station(t, 'tap1')
    const primary = await liveCard(t, 'tap0')
    const backup = card(t, 'tap0', { isBackup: true })
    await backup.backend.connect()
    const binding = backup.backend.bind({ receivedFrameId: 0n })
    await until(() => backup.trace.length > 0)
    assert.match(backup.trace[0]!, /tap0 is attached to another process/)
    backup.backend.send(8n, frame(stationMac, machineMac, 8))
    assert.deepEqual(backup.confirmed, [8n], 'without a network frames are lost, not kept')
    primary.backend.close()
    await binding
    peer.write(frame(machineMac, stationMac, 9))
    await until(() => backup.frames.length > 0)
    assert.deepEqual(backup.frames.map(numberOf), [9])
    assert.deepEqual(backup.trace.length, 1, 'one line, however long it takes')
  })

  test('a primary that finds its TAP attached elsewhere does not start', async (t) => {
    bridge(t, 'tap0')
    await station(t, 'tap0')
    await assert.rejects(card(t, 'tap0').backend.connect(), { code: 'tap-busy', exitCode: 4 })
  })

  test('an interface that is taken away and made again is attached again, and announced', async (t) => {
    bridge(t, 'tap0', 'tap1')
    const { backend, trace, confirmed } = await liveCard(t, 'tap0')
    sh('ip link del tap0')
    await until(() => trace.some((line) => /no network interface tap0/.test(line)))
    backend.send(1n, frame(stationMac, machineMac))
    assert.deepEqual(confirmed, [1n])
    sh('ip tuntap add dev tap0 mode tap && ip link set tap0 master br0 up')
    await until(() => portOfMachine() === 'tap0')
  })

  test('a frame for an interface that is down is lost and confirmed, and one line says so', async (t) => {
    bridge(t, 'tap0')
    const { backend, trace, confirmed } = await liveCard(t, 'tap0')
    sh('ip link set tap0 down')
    for (const number of [1, 2, 3]) backend.send(BigInt(number), frame(stationMac, machineMac))
    assert.deepEqual(confirmed, [1n, 2n, 3n])
    assert.deepEqual(trace, ['tap: frames are lost: is tap0 down?'])
  })

  test('an interface that is down, or gone, is out of reach; one that nobody is attached to is not', async (t) => {
    bridge(t, 'tap0')
    const { backend } = card(t, 'tap0', { isBackup: true })
    await backend.connect()
    assert.ok(backend.onTick())
    sh('ip link set tap0 down')
    await until(() => !backend.onTick())
    sh('ip link set tap0 up')
    await until(() => backend.onTick())
    sh('ip link del tap0')
    await until(() => !backend.onTick())
  })

  test('an interface that is not there, and one that is no TAP, are refused with what to do', async (t) => {
    bridge(t)
    await assert.rejects(TapDevice.attach('tap7'), { code: 'no-interface', message: /ip tuntap add dev tap7 mode tap/ })
    assert.doesNotMatch(sh('cat /proc/net/dev'), /tap7/, 'none was made')
    await assert.rejects(TapDevice.attach('br0'), { code: 'not-a-tap', message: /br0 is no TAP/ })
  })

  const isRoot = sh('cat /proc/self/uid_map').trim().split(/\s+/)[2] !== '1'
  test('a TAP of another user is refused with what to do', { skip: !isRoot && 'needs root' }, async (t) => {
    sh('ip tuntap add dev tap0 mode tap user 0')
    t.after(() => sh('ip link del tap0'))
    const { code, output } = await attachInChild('tap0', { uid: 65534 })
    assert.equal(code, 1)
    // Where only root may open /dev/net/tun, that is what is wrong first.
    assert.match(output, /tap-permission .*(tap0 belongs to another user|chmod 0666 \/dev\/net\/tun)/)
  })

  test('a process that waits for a frame ends when it is told to', async (t) => {
    bridge(t, 'tap0')
    const { code, output } = await attachInChild('tap0', {})
    assert.deepEqual([code, output], [0, 'attached\n'])
  })
}

/** Another process attaches, waits for a frame that never comes, and ends by `process.exit`. */
async function attachInChild(tap: string, options: { uid?: number }): Promise<{ code: number; output: string }> {
  const script = `
    import { TapDevice } from ${JSON.stringify(new URL('./tap-device.ts', import.meta.url).href)}
    try {
      const device = await TapDevice.attach(${JSON.stringify(tap)})
      void device.waitForFrame()
      console.log('attached')
      setTimeout(() => process.exit(0), 50)
    } catch (error) {
      console.log(error.code, error.message)
      process.exit(1)
    }`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
    ...options,
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  const [code] = (await once(child, 'close')) as [number]
  return { code, output }
}
