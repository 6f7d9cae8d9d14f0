/**
 * What keeps the VM busy during a fault, and what judges it afterwards: three connections to Redis (INCR; SET and GET; a
 * long download), each answer checked against what was acknowledged before, and somebody typing at the console.
 *
 * An INCR or SET whose answer never came may have been carried out or not; one that was answered must be there, once.
 */

import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Prng } from '../../src/base/prng.ts'
import { RedisClient, type Reply } from './redis-client.ts'

export interface LoadFindings {
  /** Acknowledged and not there (any more), or a wrong answer. */
  lost: number
  /** Carried out more often than acknowledged. */
  duplicated: number
  /** Connections that ended under us. */
  resets: number
  /** Answered INCRs, SETs and GETs. */
  answers: number
  downloads: number
  /** Lines of ours that the guest printed on its console. */
  consoleLines: number
  /** Longest wait for an answer. */
  longestStallMs: number
}

const counterKey = 'faults:count'
const downloadKey = 'faults:download'
const downloadBytes = 1024 * 1024
const storeKeys = 40

export class MixedLoad {
  readonly findings: LoadFindings = {
    lost: 0,
    duplicated: 0,
    resets: 0,
    answers: 0,
    downloads: 0,
    consoleLines: 0,
    longestStallMs: 0,
  }
  readonly #port: number
  readonly #type: (text: string) => Promise<unknown>
  readonly #trace: (line: string) => void
  readonly #prng: Prng
  #clients: RedisClient[] = []
  #workers: Promise<void>[] = []
  #isStopping = false
  #count = 0
  #isCountUncertain = false
  readonly #store = new Map<string, string>()
  /** A SET without an answer: its key has either value. */
  #uncertain: { readonly key: string; readonly value: string } | undefined
  readonly #seed: number
  #nextValue = 0
  #nextLine = 0
  #downloadHash: string | undefined
  /** For answers since `startMeasuring` (`performance.now()`). */
  #waits: { readonly from: number; readonly until: number }[] = []

  /** @param type types at the guest's console */
  constructor(port: number, seed: number, type: (text: string) => Promise<unknown>, trace: (line: string) => void) {
    this.#port = port
    this.#type = type
    this.#trace = trace
    this.#seed = seed
    this.#prng = new Prng(seed)
  }

  /** Forgets stalls so far. */
  startMeasuring(): void {
    this.findings.longestStallMs = 0
    this.#waits = []
  }

  /** @returns the longest wait for an answer of those that were waited for between these two moments (`performance.now()`) */
  longestWaitMs(from: number, until: number): number {
    const then = this.#waits.filter((wait) => wait.from < until && wait.until > from)
    return Math.max(0, ...then.map((wait) => wait.until - wait.from))
  }

  /** Every connection has ended. */
  get isIdle(): boolean {
    return this.#clients.every(({ isEnded }) => isEnded)
  }

  /** Takes what a guest has from earlier trials as the beginning. */
  async adopt(): Promise<void> {
    const client = await RedisClient.connect(this.#port)
    this.#count = Number((await client.command('GET', counterKey)) ?? 0)
    for (let index = 0; index < storeKeys; index++) {
      const key = `faults:${index}`
      const value = await client.command('GET', key)
      if (typeof value === 'string') this.#store.set(key, value)
    }
    client.close()
  }

  get acknowledgedIncrements(): number {
    return this.#count
  }

  /** Opens the connections; may be called again after `stop`, for the same guest or one that booted from its disk. */
  async start(): Promise<void> {
    this.#isStopping = false
    this.#clients = await Promise.all([0, 1, 2].map(() => RedisClient.connect(this.#port)))
    const [counter, store, downloader] = this.#clients as [RedisClient, RedisClient, RedisClient]
    if (this.#downloadHash === undefined) {
      const data = new Prng(1).bytes(downloadBytes)
      const text = Buffer.from(data).toString('latin1')
      await store.command('SET', downloadKey, text)
      this.#downloadHash = hashOf(text)
    }
    this.#workers = [this.#increment(counter), this.#setAndGet(store), this.#download(downloader), this.#atTheConsole()]
  }

  /** Ends after the answers under way; a connection without one after `timeoutMs` counts as ended. */
  async stop(timeoutMs: number): Promise<void> {
    this.#isStopping = true
    const timer = setTimeout(() => this.closeConnections(), timeoutMs)
    await Promise.all(this.#workers)
    clearTimeout(timer)
    this.closeConnections()
  }

  /**
   * Nothing that the guest printed may stand on its console twice. Its terminal echoes what is typed, in the middle of
   * other lines too, so that a line may be torn; a whole one that is there twice was printed once.
   */
  judgeConsole(text: string): void {
    const seen = new Set<string>()
    for (const [line] of text.matchAll(new RegExp(`^line ${this.#seed}-\\d+(?=\\r?$)`, 'gm'))) {
      if (seen.has(line)) {
        this.#trace(`"${line}" stands on the console twice`)
        this.findings.duplicated++
      }
      seen.add(line)
    }
    this.findings.consoleLines = seen.size
  }

  /** At once: no worker goes on, nor types at the console. */
  closeConnections(): void {
    this.#isStopping = true
    for (const client of this.#clients) client.close()
  }

  /** Compares everything acknowledged with what the guest has now, over a new connection. */
  async verify(): Promise<void> {
    const client = await RedisClient.connect(this.#port)
    try {
      const count = Number((await client.command('GET', counterKey)) ?? Number.NaN)
      this.#judgeCount(count, 'at the end')
      for (const [key, value] of this.#store) {
        const found = await client.command('GET', key)
        const isPending = this.#uncertain?.key === key && found === this.#uncertain.value
        if (found !== value && !isPending) this.#lose(`${key} is ${show(found)}, ${value} was acknowledged`)
        if (isPending) this.#store.set(key, this.#uncertain!.value)
      }
      this.#uncertain = undefined
      if (this.#downloadHash !== undefined) {
        const found = await client.command('GET', downloadKey)
        if (typeof found !== 'string' || hashOf(found) !== this.#downloadHash) this.#lose('the download is damaged')
      }
    } finally {
      client.close()
    }
  }

  /** After a verify on a guest that was booted again: what it has is what counts from here. */
  #judgeCount(count: number, when: string): void {
    const most = this.#count + (this.#isCountUncertain ? 1 : 0)
    if (!(count >= this.#count)) {
      this.#trace(`counter ${when}: ${count}, ${this.#count} was acknowledged`)
      this.findings.lost += Number.isNaN(count) ? 1 : this.#count - count
    } else if (count > most) {
      this.#trace(`counter ${when}: ${count}, only ${this.#count} was acknowledged`)
      this.findings.duplicated += count - most
    }
    this.#count = count
    this.#isCountUncertain = false
  }

  async #increment(client: RedisClient): Promise<void> {
    while (!this.#isStopping) {
      this.#isCountUncertain = true
      const reply = await this.#timed(client.command('INCR', counterKey))
      if (reply === undefined) return this.#onReset('INCR')
      this.#isCountUncertain = false
      this.findings.answers++
      const value = Number(reply)
      if (value === this.#count + 1) this.#count = value
      else this.#judgeIncrement(value, reply)
    }
  }

  #judgeIncrement(value: number, reply: Reply): void {
    this.#trace(`INCR answered ${show(reply)} after ${this.#count}`)
    if (value > this.#count) this.findings.duplicated += value - this.#count - 1
    else this.findings.lost++
    if (Number.isFinite(value)) this.#count = value
  }

  async #setAndGet(client: RedisClient): Promise<void> {
    while (!this.#isStopping) {
      const key = `faults:${this.#prng.below(storeKeys)}`
      const value = `${this.#seed}-${this.#nextValue++}`
      this.#uncertain = { key, value }
      const stored = await this.#timed(client.command('SET', key, value))
      if (stored === undefined) return this.#onReset('SET')
      if (stored === 'OK') this.#store.set(key, value)
      else this.#lose(`SET answered ${show(stored)}`)
      this.#uncertain = undefined
      const other = `faults:${this.#prng.below(storeKeys)}`
      const found = await this.#timed(client.command('GET', other))
      if (found === undefined) return this.#onReset('GET')
      this.findings.answers += 2
      const expected = this.#store.get(other) ?? null
      if (found !== expected) this.#lose(`GET ${other} answered ${show(found)}, not ${expected}`)
      await sleep(10)
    }
  }

  async #download(client: RedisClient): Promise<void> {
    while (!this.#isStopping) {
      const reply = await client.command('GET', downloadKey)
      if (reply === undefined) return this.#onReset('download')
      this.findings.downloads++
      if (typeof reply !== 'string' || hashOf(reply) !== this.#downloadHash) this.#lose('a download came damaged')
      await sleep(100)
    }
  }

  async #atTheConsole(): Promise<void> {
    while (!this.#isStopping) {
      await this.#type(`echo line ${this.#seed}-${this.#nextLine++}\n`)
      await sleep(300)
    }
  }

  async #timed(reply: Promise<Reply | undefined>): Promise<Reply | undefined> {
    const startedAt = performance.now()
    const answer = await reply
    const endedAt = performance.now()
    this.#waits.push({ from: startedAt, until: endedAt })
    this.findings.longestStallMs = Math.max(this.findings.longestStallMs, endedAt - startedAt)
    return answer
  }

  #onReset(what: string): void {
    this.#trace(`the connection of ${what} ended`)
    this.findings.resets++
  }

  #lose(what: string): void {
    this.#trace(what)
    this.findings.lost++
  }
}

function hashOf(text: string): string {
  return createHash('sha256').update(text, 'latin1').digest('hex')
}

function show(reply: Reply | undefined): string {
  return reply instanceof Error ? reply.message : String(reply).slice(0, 60)
}
