/**
 * Hostile peers on the logging channel, both sides: a primary that is protected, alone or starting hears hostile backups,
 * and backups hear a hostile primary. The sans-I/O roles are driven through the real channel over real sockets; arbiter
 * and hart are a line each.
 */

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { WorldError } from '../../src/base/assert.ts'
import { hash64 } from '../../src/base/digest.ts'
import { Prng } from '../../src/base/prng.ts'
import { PeerChannels } from '../../src/host/peer-channels.ts'
import { PrimaryChannel } from '../../src/host/primary-channel.ts'
import { batchEnd, decodeBatch } from '../../src/log/batch.ts'
import type { BootArtefacts } from '../../src/log/boot-artefacts.ts'
import { logIndex } from '../../src/log/entry.ts'
import { Backup } from '../../src/replication/backup.ts'
import type { BackupEffect, PrimaryEffect } from '../../src/replication/effects.ts'
import { encodeMessage } from '../../src/replication/message-codec.ts'
import type { Message } from '../../src/replication/messages.ts'
import { defaultReplicationPolicy } from '../../src/replication/policy.ts'
import { Primary } from '../../src/replication/primary.ts'
import { fullReach } from '../../src/replication/reach.ts'
import { batchAt, hello, identity, markedFrame, welcome } from '../support/replication.ts'
import { assertNoGrowth, attack, hostileMessages, within } from './attack.ts'
import { mutate } from './mutator.ts'

const folder = mkdtempSync(join(tmpdir(), 'understudy-hostile-channel-'))
after(() => rmSync(folder, { recursive: true }))

/** Length and checksum say what the message is now. */
function seal(message: Uint8Array): Uint8Array {
  const body = message.subarray(4, Math.max(4, message.length - 8))
  const sealed = new Uint8Array(4 + body.length + 8)
  const view = new DataView(sealed.buffer)
  view.setUint32(0, body.length + 8, true)
  sealed.set(body, 4)
  view.setBigUint64(4 + body.length, hash64(body), true)
  return sealed
}

/** A primary as its host runs it, with a hart that writes an entry and makes an output whenever somebody acknowledges. */
class PrimaryHost {
  readonly primary: Primary
  readonly channels = new PeerChannels({
    onOpen: (id) => {
      this.strangers++
      this.#carryOut(this.primary.onChannelOpen(id, performance.now()))
    },
    onMessage: (id, message) => {
      this.#carryOut(this.primary.onMessage(id, message, performance.now()))
      if (message.kind === 'ack') this.turn()
    },
    onBadMessage: (id, detail) => this.#carryOut(this.primary.onBadMessage(id, detail, performance.now())),
    onClosed: (id) => {
      this.strangers--
      this.#carryOut(this.primary.onChannelClosed(id, performance.now()))
    },
  })
  readonly path: string
  logEnd = 0
  released = 0
  lost = 0
  /** Connections that are open. */
  strangers = 0
  #sequence = 0
  #isRunning = false
  #ticker: NodeJS.Timeout | undefined

  constructor(name: string, options: Partial<ConstructorParameters<typeof Primary>[0]>) {
    this.path = join(folder, name)
    this.primary = new Primary({ identity, replica: 'a', generation: 1, state: 'alone', runId: 7n, ...options })
  }

  async open(): Promise<void> {
    await this.channels.listen({ address: { path: this.path } }, () => {})
    this.#carryOut(this.primary.start(0))
    this.#ticker = setInterval(() => {
      this.#carryOut(this.primary.onTick(performance.now()))
      this.turn()
    }, 5)
  }

  close(): void {
    clearInterval(this.#ticker)
    this.channels.closeAll()
  }

  /** The hart's: one entry with the marker of one output. */
  turn(): void {
    if (!this.#isRunning) return
    const marker = this.logEnd++
    this.#sequence++
    this.#carryOut(this.primary.onBatch(batchAt(marker), performance.now()))
    this.#carryOut(this.primary.onOutputs([markedFrame(this.#sequence, marker)]))
  }

  #carryOut(effects: readonly PrimaryEffect[]): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case 'send':
          this.channels.send(effect.channel, effect.message)
          break
        case 'closeChannel':
          assert.ok(effect.reason.length < 2000)
          this.channels.close(effect.channel)
          break
        case 'release': {
          this.released += effect.outputs.length
          const last = effect.outputs.at(-1)!.output
          setImmediate(() => this.#carryOut(this.primary.onConfirmed('frame', last.sequence)))
          break
        }
        case 'openGeneration': {
          const generation = effect.generation + 1
          setImmediate(() =>
            this.#carryOut(this.primary.onArbiterAnswer({ result: 'granted', generation }, performance.now())),
          )
          break
        }
        case 'backupLost':
          this.lost++
          break
        case 'resumeHart':
          this.#isRunning = true
          break
        case 'pauseHart':
          this.#isRunning = false
          break
        case 'halt':
          assert.fail(`the primary halted: ${effect.detail}`)
      }
    }
  }
}

/** A backup as its host runs it: it replays at once. */
class BackupHost {
  readonly backup: Backup
  readonly channel: PrimaryChannel
  readonly ended = Promise.withResolvers<string>()
  received = 0

  constructor(path: string, replica: string, nextIndex: number) {
    this.channel = new PrimaryChannel([{ address: { path } }])
    this.backup = new Backup({ identity, replica, nextIndex: logIndex(BigInt(nextIndex)) }, performance.now())
  }

  async open(): Promise<void> {
    this.channel.listen({
      onMessage: (message) => this.#carryOut(this.backup.onMessage(message, performance.now())),
      onBadMessage: (detail) => this.#carryOut(this.backup.onBadMessage(detail, performance.now())),
      onClosed: () => this.#carryOut(this.backup.onChannelClosed(performance.now())),
    })
    await this.channel.connect()
    this.#carryOut(this.backup.onChannelOpen(performance.now()))
  }

  leave(): void {
    this.#carryOut(this.backup.onShutdown('enough', performance.now()))
  }

  #carryOut(effects: readonly BackupEffect[]): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case 'send':
          this.channel.send(effect.message)
          break
        case 'closeChannel':
          this.channel.close()
          break
        case 'replay': {
          this.received++
          const { count } = decodeBatchOrEnd(effect.batch.bytes)
          const replayedEnd = batchEnd(effect.batch)
          this.#carryOut(this.backup.onReplayed({ replayedEnd, count, outputs: [] }, performance.now()))
          break
        }
        case 'testAndSet':
          this.#carryOut(this.backup.onArbiterAnswer({ result: 'refused', detail: 'not you' }, performance.now()))
          break
        case 'halt':
          assert.ok(effect.detail.length < 2000)
          this.ended.resolve(effect.reason)
      }
    }
  }
}

/** Entries that make no sense are the replayer's to refuse; here they only must not crash. */
function decodeBatchOrEnd(bytes: Uint8Array): { count: bigint } {
  try {
    return { count: decodeBatch(bytes).at(-1)?.count ?? 0n }
  } catch (error) {
    assert.ok(error instanceof WorldError)
    return { count: 0n }
  }
}

/** An honest backup joins, sees the log grow by ten batches, and leaves. The place may be taken for a while. */
async function honestBackup(host: PrimaryHost, name: string): Promise<void> {
  const deadline = performance.now() + 50_000
  for (;;) {
    const backup = new BackupHost(host.path, name, host.logEnd)
    await backup.open()
    while (backup.backup.state !== 'halted' && backup.received < 10) {
      assert.ok(performance.now() < deadline, 'an honest backup finds a place')
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    const isServed = backup.received >= 10
    if (backup.backup.state !== 'halted') backup.leave()
    if (isServed) return
  }
}

let names = 0

function politeBackup(logEnd: number): Message[] {
  const reach = fullReach
  const end = (index: number) => logIndex(BigInt(index))
  const ack = (ahead: number): Message => ({
    kind: 'ack',
    progress: { receivedEnd: end(logEnd + ahead), replayedEnd: end(logEnd), replayedCount: 5n, lagMs: 1 },
    reach,
  })
  return [
    hello(`evil-${++names}`, { nextIndex: end(logEnd) }),
    ...[ack(0), ack(0), ack(1), ack(1), ack(2), ack(2), ack(3), ack(3), ack(4), ack(5), ack(6)],
    { kind: 'goodbye', reason: 'enough' },
  ]
}

test('a primary hears 10^5 mutated messages of backups, before and after hello, and still protects an honest one', async (t) => {
  const host = new PrimaryHost('alone', {})
  t.after(() => host.close())
  await host.open()
  let honest = 0
  await attack({
    address: { path: host.path },
    seed: 4,
    honest: () => honestBackup(host, `honest-${++honest}`),
    conversation: (prng) => {
      const [hello, ...rest] = politeBackup(host.logEnd).map(encodeMessage)
      return prng.chance(0.3) ? mutate(prng, [hello!, ...rest], seal) : [hello!, ...mutate(prng, rest, seal)]
    },
  })
  assert.ok(host.lost > 100, `${host.lost} hostile backups got in`)
})

const artefacts: BootArtefacts = {
  config: { ramBytes: 2 ** 28, disks: [] },
  image: { kind: 'elf', file: new Uint8Array(3 * 2 ** 20) },
  protection: { backups: 1, heartbeatMs: 100, timeoutMs: 2000, digestEveryMs: 1000, lagMs: 30, backupReads: false },
  discipline: { kind: 'exact' },
}

test('a starting primary hears 10^5 mutated messages of strangers that want its boot image', async (t) => {
  const host = new PrimaryHost('starting', {
    state: 'starting',
    policy: { ...defaultReplicationPolicy, backups: 1000 },
    artefacts,
  })
  t.after(() => host.close())
  await host.open()
  await attack({
    address: { path: host.path },
    seed: 5,
    honest: async () => {},
    conversation: (prng) => {
      const fetch: Message = { kind: 'fetch', machine: identity.machine, instructionTableHash: 1n, offset: 3 * 2 ** 20 }
      return mutate(prng, [...politeBackup(0), fetch, fetch].map(encodeMessage), seal)
    },
  })
})

function politePrimary(): Message[] {
  const confirmed: Message = { kind: 'confirmed', ends: { frame: 3n, console: 2n } }
  const heartbeat: Message = { kind: 'heartbeat', logEnd: logIndex(2n), isRunning: true, reach: fullReach }
  const entries = (first: number): Message => ({
    kind: 'entries',
    batch: batchAt(first, 2, 9n, 20),
    commonEnd: logIndex(0n),
  })
  return [
    hello('a', { role: 'primary', generation: 2, runId: 7n, hold: 1 }),
    welcome(2, [
      { replica: 'b', address: 'unix:/b' },
      { replica: 'c', address: '' },
    ]),
    ...[entries(0), entries(2), confirmed, heartbeat, entries(4), heartbeat, confirmed, entries(6), entries(8)],
    ...[entries(10), heartbeat, entries(12), confirmed],
    { kind: 'call', generation: 3, replica: 'c', tailFrom: logIndex(0n) },
    { kind: 'goodbye', reason: 'enough' },
  ]
}

test('backups hear 10^5 mutated messages of a hostile primary, and each ends in good order', async (t) => {
  const path = join(folder, 'hostile-primary')
  let sent = 0
  let connections = 0
  const server = createServer((socket) => {
    const prng = new Prng(6_000_000 + connections++)
    const [hello, ...rest] = politePrimary().map(encodeMessage)
    const messages = prng.chance(0.3) ? mutate(prng, [hello!, ...rest], seal) : [hello!, ...mutate(prng, rest, seal)]
    sent += messages.length
    socket.on('error', () => {})
    socket.resume()
    socket.end(Buffer.concat(messages))
  }).listen(path)
  t.after(() => server.close())
  const reasons = new Map<string, number>()
  const run = async (goal: number): Promise<void> => {
    while (sent < goal) {
      const host = new BackupHost(path, 'b', 0)
      await host.open()
      const reason = await within('a backup ends', host.ended.promise)
      reasons.set(reason, (reasons.get(reason) ?? 0) + 1)
    }
  }
  await run(hostileMessages / 10)
  await assertNoGrowth(() => run(hostileMessages))
  assert.deepEqual(
    [...reasons.keys()].sort(),
    ['goodbye', 'lostArbitration', 'neverPaired', 'refused'].filter((reason) => reasons.has(reason)),
  )
  assert.ok(reasons.get('lostArbitration')! > 100, 'many were heard beyond the welcome')
})

test('a peer that goes on sending after a bad message, and reads nothing, is not kept', async (t) => {
  const host = new PrimaryHost('deaf', { state: 'starting', artefacts })
  t.after(() => host.close())
  await host.open()
  const socket = connect(host.path)
  socket.on('error', () => {})
  // So that the primary's last words to it have to wait for ever.
  const answered = new Promise((resolve) => socket.once('readable', resolve))
  const fetch = encodeMessage({ kind: 'fetch', machine: identity.machine, instructionTableHash: 1n, offset: 0 })
  socket.write(Buffer.concat(Array.from({ length: 8 }, () => fetch)))
  await answered
  const closed = new Promise((resolve) => socket.once('close', resolve))
  const piece = Buffer.alloc(2 ** 20, 0xff)
  const send = (): void => {
    while (socket.writable && socket.write(piece));
  }
  socket.on('drain', send)
  await assertNoGrowth(async () => {
    send()
    await within('the connection ends', closed)
  })
})

test('a stranger that asks for the boot image again and again, and reads nothing, is dropped', async (t) => {
  const host = new PrimaryHost('greedy', { state: 'starting', artefacts })
  t.after(() => host.close())
  await host.open()
  const socket = connect(host.path)
  socket.on('error', () => {})
  socket.pause()
  const fetch = encodeMessage({ kind: 'fetch', machine: identity.machine, instructionTableHash: 1n, offset: 0 })
  // Two thousand pieces of a mebibyte.
  socket.write(Buffer.concat(Array.from({ length: 2000 }, () => fetch)))
  let most = 0
  await within(
    'the stranger is dropped',
    (async () => {
      for (let rounds = 0; rounds < 3 || host.strangers > 0; rounds++) {
        most = Math.max(most, process.memoryUsage().arrayBuffers)
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    })(),
  )
  assert.ok(most < 400 * 2 ** 20, `${most} bytes waited for it`)
  socket.destroy()
})
