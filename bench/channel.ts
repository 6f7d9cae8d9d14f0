/**
 * How long a message takes to the other process and back on the logging channel, by transport: plain TCP on loopback (what
 * it was once, for comparison only), a unix socket (one host), TCP with TLS (two hosts, here without the cable between): `node bench/channel.ts --help`.
 *
 * The transports take turns, so that a busy host is unfair to none. A round trip is one small message each way, one at a
 * time: what an acknowledgement costs. The other figure is how fast pieces of 1 MiB come back, eight under way.
 */

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MiB } from '../src/base/units.ts'
import { countFrom } from '../src/cli/count-argument.ts'
import { LoggingChannel } from '../src/host/logging-channel.ts'
import type { Endpoint } from '../src/net/address.ts'
import { connectTo, tune } from '../src/net/connect.ts'
import { Listener } from '../src/net/listener.ts'
import { generateKey } from '../src/net/shared-key.ts'
import type { Message } from '../src/replication/messages.ts'
import { developerCommand, runDeveloperCommand } from '../test/support/developer-command.ts'
import { benchOptions } from './support/bench-command.ts'
import { median, percentile, round2 } from './support/figures.ts'

const transports = ['plain TCP', 'unix socket', 'TCP with TLS'] as const
type Transport = (typeof transports)[number]

const pieces = 128
const piecesUnderWay = 8

const ping: Message = { kind: 'confirmed', ends: { frame: 1_000_000n, console: 1000n } }
const piece: Message = {
  kind: 'artefacts',
  identity: { machine: 'bench', instructionTableHash: 1n, configDigest: 2n, imageDigest: 3n },
  lengthBytes: MiB,
  offset: 0,
  bytes: new Uint8Array(MiB),
}

interface Opened {
  readonly send: (message: Message) => void
  onMessage: () => void
  readonly close: () => void
}

function overSocket(socket: Socket): Opened {
  const opened: Opened = {
    send: (message) => channel.send(message),
    onMessage: () => {},
    close: () => channel.close(),
  }
  const channel = new LoggingChannel(socket, {
    onMessage: () => opened.onMessage(),
    onBadMessage: (detail) => {
      throw new Error(detail)
    },
    onClosed: () => {},
  })
  return opened
}

/** The other process: sends every message back. */
function echo(socket: Socket): void {
  const channel: LoggingChannel = new LoggingChannel(socket, {
    onMessage: (message) => channel.send(message),
    onBadMessage: (detail) => {
      throw new Error(detail)
    },
    onClosed: () => {},
  })
}

async function listen(transport: Transport, endpoint: Endpoint): Promise<Endpoint> {
  if (transport !== 'plain TCP') {
    const { address } = await Listener.open({ purpose: 'bench', endpoint, onConnection: echo })
    return { ...endpoint, address }
  }
  const server = createServer((socket) => {
    tune(socket)
    echo(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { address: { host: '127.0.0.1', port: (server.address() as { port: number }).port } }
}

async function open(transport: Transport, endpoint: Endpoint): Promise<Opened> {
  if (transport !== 'plain TCP') return overSocket(await connectTo(endpoint, { purpose: 'bench' }))
  const socket = connect(endpoint.address.port!, endpoint.address.host!)
  await once(socket, 'connect')
  tune(socket)
  return overSocket(socket)
}

/** Microseconds of each round trip. */
async function roundTrips(channel: Opened, messages: number): Promise<number[]> {
  const times: number[] = []
  await new Promise<void>((resolve) => {
    let sentAt = performance.now()
    channel.onMessage = () => {
      const now = performance.now()
      times.push((now - sentAt) * 1000)
      if (times.length === messages) return resolve()
      sentAt = performance.now()
      channel.send(ping)
    }
    channel.send(ping)
  })
  return times
}

/** MiB per second, there and back. */
async function throughput(channel: Opened): Promise<number> {
  const startedAt = performance.now()
  await new Promise<void>((resolve) => {
    let sent = 0
    let received = 0
    channel.onMessage = () => {
      if (++received === pieces) return resolve()
      if (sent < pieces) channel.send(piece)
      sent++
    }
    for (; sent < piecesUnderWay; sent++) channel.send(piece)
  })
  return pieces / ((performance.now() - startedAt) / 1000)
}

async function measure(messages: number, rounds: number): Promise<readonly object[]> {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-bench-'))
  const key = generateKey()
  const endpoints: Readonly<Record<Transport, Endpoint>> = {
    'plain TCP': { address: { host: '127.0.0.1', port: 0 } },
    'unix socket': { address: { path: join(folder, 'channel.socket') } },
    'TCP with TLS': { address: { host: '127.0.0.1', port: 0 }, key },
  }
  const times: Record<Transport, number[]> = { 'plain TCP': [], 'unix socket': [], 'TCP with TLS': [] }
  const speeds: Record<Transport, number[]> = { 'plain TCP': [], 'unix socket': [], 'TCP with TLS': [] }
  const peers: ChildProcess[] = []
  try {
    for (let round = 0; round < rounds; round++) {
      for (const transport of transports) {
        const peer = fork(import.meta.filename, ['--echo'], { serialization: 'advanced' })
        peers.push(peer)
        peer.send({ transport, endpoint: endpoints[transport] })
        const [endpoint] = (await once(peer, 'message')) as [Endpoint]
        const channel = await open(transport, endpoint)
        await roundTrips(channel, 2000)
        times[transport].push(...(await roundTrips(channel, messages)))
        speeds[transport].push(await throughput(channel))
        channel.close()
        peer.kill()
      }
    }
  } finally {
    for (const peer of peers) peer.kill()
    rmSync(folder, { recursive: true, force: true })
  }
  return transports.map((transport) => ({
    transport,
    medianUs: round2(median(times[transport])),
    p99Us: round2(percentile(times[transport], 0.99)),
    mibPerSecond: Math.round(median(speeds[transport])),
  }))
}

if (process.argv[2] === '--echo') {
  process.once('message', async (message) => {
    const { transport, endpoint } = message as { transport: Transport; endpoint: Endpoint }
    process.send!(await listen(transport, endpoint))
  })
} else {
  const command = developerCommand(
    'node bench/channel.ts',
    'How long a message takes on the logging channel, by transport.',
  )
    .option('--messages <N>', 'round trips in a round', countFrom(1), 20_000)
    .addOption(benchOptions.rounds('5'))
    .option('--json', 'print [{"transport","medianUs","p99Us","mibPerSecond"},…]')
  await runDeveloperCommand<{ messages: number; rounds?: number; json?: boolean }>(command, async (options) => {
    const rows = await measure(options.messages, options.rounds ?? 5)
    if (options.json) console.log(JSON.stringify(rows))
    else console.table(rows)
  })
}
