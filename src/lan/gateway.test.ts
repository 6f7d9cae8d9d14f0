/**
 * The gateway against the real passt, with a guest that is a few lines of TCP. Where passt is not installed or the host
 * has no default route, the tests that need it are skipped and say so.
 */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { WorldError } from '../base/assert.ts'
import type { GatewayOptions } from './gateway.ts'
import { type Lan, startLan } from './lan.ts'
import { LanClient } from './lan-client.ts'
import type { MachineStatistics } from './machine-port.ts'
import { TcpEchoStation } from './tcp-echo-station.test-support.ts'

const machine = { name: 'vm', mac: '52:54:00:12:34:56', token: 'secret' }

async function listeningServer(port = 0): Promise<Server> {
  const server = createServer().listen(port, '127.0.0.1')
  await once(server, 'listening')
  return server
}

function portOf(server: Server): number {
  const address = server.address()
  assert.ok(address && typeof address === 'object')
  return address.port
}

/** A port that was free a moment ago: passt cannot be asked to pick one. */
async function freePort(): Promise<number> {
  const server = await listeningServer()
  const port = portOf(server)
  await new Promise((resolve) => server.close(resolve))
  return port
}

async function withLan(gateway: GatewayOptions, use: (lan: Lan) => Promise<void>, onLost?: () => void): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-gateway-'))
  try {
    const lan = await startLan({
      replicaListen: { address: { path: join(folder, 'replica') } },
      machines: [machine],
      gateway,
      ...(onLost && { onGatewayLost: onLost }),
    })
    try {
      await use(lan)
    } finally {
      await lan.close()
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function whyNoGateway(): Promise<string | false> {
  try {
    await withLan({ forwards: [] }, async () => {})
    return false
  } catch (error) {
    if (error instanceof WorldError && ['passt-missing', 'no-route'].includes(error.code)) return error.message
    throw error
  }
}

/** Stands in for passt where its timing must be ours: answers ARP, then sends a flood and waits. */
const floodingPasst = `#!${process.execPath}
const path = process.argv[process.argv.indexOf('--socket') + 1]
require('node:net').createServer((socket) => {
  const prefix = (length) => Buffer.from([0, 0, length >> 8, length & 255])
  let seen = Buffer.alloc(0)
  socket.on('data', function onData(chunk) {
    seen = Buffer.concat([seen, chunk])
    // An empty packet comes first, then the ARP request; 64 bytes each with their prefixes.
    if (seen.length < 128) return
    socket.removeListener('data', onData)
    socket.resume()
    const reply = Buffer.from(seen.subarray(68, 128))
    reply[21] = 2
    seen.copy(reply, 28, 64 + 42, 64 + 46)
    socket.write(Buffer.concat([prefix(60), reply]))
    const frame = Buffer.alloc(1400)
    Buffer.from('52540012345652550a000202', 'hex').copy(frame)
    setTimeout(() => {
      for (let n = 0; n < 6000; n++) socket.write(Buffer.concat([prefix(frame.length), frame]))
    }, 200)
  })
  socket.on('close', () => process.exit())
}).listen(path)
`

const skip = await whyNoGateway()

/** The machine's two replicas share one guest state, as replicas do: here it is simply the same object. */
async function joinReplica(lan: Lan, replica: string, station: TcpEchoStation): Promise<LanClient> {
  const client: LanClient = await LanClient.connect({
    address: lan.replicaAddress,
    machine: machine.name,
    mac: machine.mac,
    token: machine.token,
    replica,
    onFrame: (frameId, frame) => {
      for (const answer of station.onFrame(frame)) client.sendOutput(station.nextSequence(), answer)
      client.covered(frameId)
    },
    onConfirmed: () => {},
    onFenced: () => {},
    onClosed: () => {},
  })
  return client
}

async function echo(socket: Socket, text: string): Promise<string> {
  socket.write(text)
  let answer = ''
  while (answer.length < text.length) {
    const [chunk] = (await once(socket, 'data')) as [Buffer]
    answer += chunk.toString()
  }
  return answer
}

describe('the gateway', () => {
  it('a missing passt is one sentence that says what to install', async () => {
    const started = withLan({ passtPath: '/no/such/passt', forwards: [] }, async () => {})
    await assert.rejects(started, { name: 'WorldError', code: 'passt-missing', message: /apt install passt/ })
  })

  it('a passt that says it has no route becomes one sentence that says what to do', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'understudy-passt-'))
    const passtPath = join(folder, 'passt')
    const script = '#!/bin/sh\necho "No external routable interface for any IP protocol" >&2\nexit 1\n'
    writeFileSync(passtPath, script, { mode: 0o755 })
    const started = withLan({ passtPath, forwards: [] }, async () => {})
    await assert.rejects(started, { name: 'WorldError', code: 'no-route', message: /default route/ })
    rmSync(folder, { recursive: true })
  })

  it('a program that is not passt is reported with what it did', async () => {
    const started = withLan({ passtPath: '/bin/false', forwards: [] }, async () => {})
    await assert.rejects(started, { name: 'WorldError', code: 'gateway-failed', message: /exit code 1/ })
  })

  it('a bad guest address is refused before anything starts', async () => {
    const started = withLan({ forwards: [], guestAddress: '10.0.2.300' }, async () => {})
    await assert.rejects(started, { name: 'WorldError', code: 'bad-address', exitCode: 78 })
  })

  it('a flood from the gateway waits until its frames are covered, and none is dropped', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'understudy-passt-'))
    // Anybody may run it: passt would change its user, and so may we.
    const passtPath = join(folder, 'passt.cjs')
    writeFileSync(passtPath, floodingPasst, { mode: 0o755 })
    await withLan({ passtPath, forwards: [] }, async (lan) => {
      const state = (): MachineStatistics => lan.statistics().machines[0]!
      let received = 0n
      const replica = await LanClient.connect({
        address: lan.replicaAddress,
        machine: machine.name,
        mac: machine.mac,
        token: machine.token,
        replica: 'a',
        onFrame: (frameId) => {
          received = frameId
        },
        onConfirmed: () => {},
        onFenced: () => {},
        onClosed: () => {},
      })
      await replica.bind({ generation: 1n, coveredFrameId: 0n })
      while (received < 2048n) await new Promise((resolve) => setTimeout(resolve, 1))
      assert.equal(state().fullDropped, 0)
      while (received < 6000n) {
        replica.covered(received)
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
      assert.equal(state().fullDropped, 0)
      assert.equal(state().lastFrameId, '6000')
      replica.close()
    })
    rmSync(folder, { recursive: true })
  })

  it('a host port in use is named', { skip }, async () => {
    const busy = await listeningServer()
    const hostPort = portOf(busy)
    const forwards = [
      { hostPort: await freePort(), guestPort: 1 },
      { hostPort, guestPort: 6379 },
    ]
    await assert.rejects(
      withLan({ forwards }, async () => {}),
      { name: 'WorldError', code: 'port-in-use', message: new RegExp(`127\\.0\\.0\\.1:${hostPort} is in use`) },
    )
    busy.close()
  })

  it('a client’s connection through a host port reaches the guest, and outlives the primary', { skip }, async () => {
    const hostPort = await freePort()
    await withLan({ forwards: [{ hostPort, guestPort: 6379 }] }, async (lan) => {
      const station = new TcpEchoStation(machine.mac, '10.0.2.15', 6379)
      const primary = await joinReplica(lan, 'a', station)
      await primary.bind({ generation: 1n, coveredFrameId: 0n })

      const client = connect(hostPort, '127.0.0.1')
      assert.equal(await echo(client, 'before'), 'before')

      // The primary dies; the request arrives while nobody runs the machine.
      primary.close()
      while (lan.statistics().machines[0]!.connected) await new Promise((resolve) => setTimeout(resolve, 1))
      const answer = echo(client, 'during')
      while (lan.statistics().machines[0]!.framesKept === 0) await new Promise((resolve) => setTimeout(resolve, 1))
      const backup = await joinReplica(lan, 'b', station)
      const covered = BigInt(lan.statistics().machines[0]!.lastFrameId) - 1n
      await backup.bind({ generation: 2n, coveredFrameId: covered })
      assert.equal(await answer, 'during')
      assert.equal(await echo(client, 'after'), 'after')
      assert.equal(lan.statistics().machines[0]!.framesRedelivered, 1)
      client.destroy()
      backup.close()
    })
  })

  it('a server that speaks first is heard by a client that says nothing', { skip }, async () => {
    const hostPort = await freePort()
    await withLan({ forwards: [{ hostPort, guestPort: 25 }] }, async (lan) => {
      const replica = await joinReplica(lan, 'a', new TcpEchoStation(machine.mac, '10.0.2.15', 25, '220 guest\r\n'))
      await replica.bind({ generation: 1n, coveredFrameId: 0n })
      const client = connect(hostPort, '127.0.0.1')
      const [words] = (await once(client, 'data')) as [Buffer]
      assert.equal(words.toString(), '220 guest\r\n')
      assert.equal(await echo(client, 'HELO'), 'HELO')
      client.destroy()
      replica.close()
    })
  })

  it('passt ends with the LAN, and its death is reported when it comes first', { skip }, async () => {
    const isAlive = (processId: number): boolean => {
      try {
        return process.kill(processId, 0)
      } catch {
        return false
      }
    }
    let processId: number | undefined
    await withLan({ forwards: [] }, async (lan) => {
      processId = lan.gatewayProcessId
      assert.ok(processId && isAlive(processId))
    })
    assert.ok(processId && !isAlive(processId))

    const lost = Promise.withResolvers<void>()
    const use = async (lan: Lan): Promise<void> => {
      process.kill(lan.gatewayProcessId!, 'SIGKILL')
      await lost.promise
      assert.equal(lan.statistics().plainPorts, 0)
    }
    await withLan({ forwards: [] }, use, () => lost.resolve())
  })
})
