/**
 * An attack over real sockets: conversations one after the other, each until the other side has had enough or has read
 * everything, while the caller's honest peer is served; and the heap before and after.
 */

import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { Prng } from '../../src/base/prng.ts'
import type { SocketAddress } from '../../src/net/address.ts'
import { memoryInUse } from '../support/memory-in-use.ts'

export const hostileMessages = 100_000

/** Longer without a sign, and the attacked one counts as hung. */
const patienceMs = 60_000
/** Attackers at the same time. */
const attackers = 8
/** What a heap may gain from 10^5 messages: code that was compiled, tables that were filled once. */
const mostGrowthBytes = 16 * 2 ** 20

export interface AttackOptions {
  readonly address: SocketAddress
  readonly seed: number
  /** The messages of one hostile conversation. */
  readonly conversation: (prng: Prng, socket: Socket) => readonly Uint8Array[] | Promise<readonly Uint8Array[]>
  /** Serves an honest peer once; called every now and then, and at the end. */
  readonly honest: () => Promise<void>
  /** Default 10^5. */
  readonly messages?: number
}

/** @returns how many conversations it took */
export async function attack(options: AttackOptions): Promise<number> {
  const { honest, messages = hostileMessages } = options
  await honest()
  let sent = 0
  let conversations = 0
  const run = async (goal: number): Promise<void> => {
    const one = async (): Promise<void> => {
      while (sent < goal) {
        const prng = new Prng(options.seed * 1_000_003 + conversations++)
        sent += await converse(options, prng)
      }
    }
    await Promise.all(Array.from({ length: attackers }, one))
  }
  // The first tenth warms up: what is compiled and allocated once is no growth.
  await run(Math.floor(messages / 10))
  await assertNoGrowth(async () => {
    for (let part = 2; part <= 10; part++) {
      await Promise.all([run((messages / 10) * part), within('an honest peer is served', honest())])
    }
  })
  return conversations
}

export async function assertNoGrowth(work: () => Promise<void>): Promise<void> {
  const before = await memoryInUse()
  await work()
  const growth = (await memoryInUse()) - before
  assert.ok(growth < mostGrowthBytes, `memory grew by ${growth} bytes`)
}

/** @returns messages sent */
async function converse({ address, conversation }: AttackOptions, prng: Prng): Promise<number> {
  const socket = address.path === undefined ? connect(address.port, address.host) : connect(address.path)
  socket.on('error', () => {})
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  await Promise.race([new Promise((resolve) => socket.once('connect', resolve)), closed])
  const messages = await conversation(prng, socket)
  socket.resume()
  const bytes = Buffer.concat(messages)
  // Cut where no message ends.
  const cut = prng.below(bytes.length + 1)
  socket.write(bytes.subarray(0, cut))
  socket.end(bytes.subarray(cut))
  await within('a hostile conversation ends', closed, () => socket.destroy())
  return messages.length
}

/** Counts trace lines, and insists that each is one line of bounded length. */
export class TraceJudge {
  lines = 0
  readonly trace = (line: string): void => {
    this.lines++
    assert.ok(line.length < 1000 && !/[\n\r]/.test(line), `a bad line of trace: ${line.slice(0, 2000)}`)
  }
}

export async function within<Result>(
  what: string,
  promise: Promise<Result>,
  otherwise = (): void => {},
): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      otherwise()
      reject(new Error(`not within ${patienceMs / 1000} s: ${what}`))
    }, patienceMs)
  })
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
