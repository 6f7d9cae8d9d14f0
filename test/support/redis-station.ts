/**
 * The network traffic of a recorded boot: a host that finds the guest while it boots, pings it with all sizes of
 * packets, sends datagrams nobody wants, and counts with Redis over one TCP connection. It checks every answer.
 */

import assert from 'node:assert/strict'
import type { Prng } from '../../src/base/prng.ts'
import { type Mac, parseIpv4, parseMac } from '../../src/lan/frame.ts'
import { EthernetPeer } from './ethernet-peer.ts'
import type { Station } from './synthetic-world.ts'
import { TcpClient } from './tcp-client.ts'

export const guestAddress = '10.0.2.15'
export const stationAddress = '10.0.2.2'
const redisPort = 6379
const longestPingBytes = 1400

export class RedisStation implements Station {
  readonly #peer = new EthernetPeer(
    parseMac('52:54:00:0a:00:02') as Mac,
    parseIpv4(stationAddress),
    parseIpv4(guestAddress),
  )
  readonly #redis: TcpClient
  readonly #prng: Prng
  #answers = ''
  /** Commands sent and not answered yet, oldest first. */
  #open: ('PING' | 'INCR')[] = []
  #pongs = 0
  #hasLeft = false
  #counted = 0

  constructor(prng: Prng) {
    this.#prng = prng
    this.#redis = new TcpClient(this.#peer, 50_001, redisPort, (bytes) => this.#onAnswer(bytes))
  }

  /** INCRs that Redis acknowledged, each with the next number. */
  get counted(): number {
    return this.#counted
  }

  /** ICMP echo replies with the right content. */
  get echoes(): number {
    return this.#peer.pongs
  }

  get redisPongs(): number {
    return this.#pongs
  }

  /** Ends the connection without a word, as a client does that is gone; pings go on. */
  leaveRedis(): void {
    this.#hasLeft = true
    this.#redis.abandon()
  }

  onFrame(frame: Uint8Array): Uint8Array[] {
    this.#peer.onFrame(frame)
    this.#keepBusy()
    return this.#peer.takeFrames()
  }

  onTick(): Uint8Array[] {
    if (!this.#peer.knowsGuest) this.#peer.askForGuest()
    else if (!this.#redis.isOpen && !this.#hasLeft) this.#redis.connect()
    if (this.#peer.knowsGuest) {
      this.#peer.ping(this.#prng.below(longestPingBytes))
      if (this.#prng.chance(0.3)) this.#peer.sendDatagram(9, this.#prng.bytes(this.#prng.below(100)))
    }
    return this.#peer.takeFrames()
  }

  /** A few commands are under way at any time, so that answers and commands cross. */
  #keepBusy(): void {
    if (!this.#redis.isOpen || this.#open.length > 1) return
    const commands = Array.from({ length: 1 + this.#prng.below(4) }, () =>
      this.#prng.pick(['PING', 'INCR', 'INCR'] as const),
    )
    this.#open.push(...commands)
    const text = commands.map((command) => (command === 'PING' ? 'PING\r\n' : 'INCR counter\r\n')).join('')
    this.#redis.send(new TextEncoder().encode(text))
  }

  #onAnswer(bytes: Uint8Array): void {
    this.#answers += new TextDecoder().decode(bytes)
    for (;;) {
      const end = this.#answers.indexOf('\r\n')
      if (end < 0) return
      const line = this.#answers.slice(0, end)
      this.#answers = this.#answers.slice(end + 2)
      const command = this.#open.shift()
      assert.ok(command, `an answer nobody asked for: ${line}`)
      if (command === 'INCR') assert.equal(line, `:${++this.#counted}`)
      else {
        assert.equal(line, '+PONG')
        this.#pongs++
      }
    }
  }
}
