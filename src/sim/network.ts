/**
 * The fake network: reliable, ordered byte streams between processes, as TCP and unix sockets are, carrying whole messages.
 * Each direction has its own delays, so messages of different connections overtake each other freely.
 *
 *   sender ──► in flight (delay) ──► arrived at the receiver's kernel ──► read by the process, unless it is paused
 *                  │
 *                  └── cable cut: stays there until the cable is mended (TCP sends again), or the connection is reset
 *
 * A cable is all that connects two hosts, one way. Cutting it cuts every connection over it, silently: no end is told.
 */

import { assert } from '../base/assert.ts'
import type { Actor, Death } from './actor.ts'
import type { Chance } from './chance.ts'
import type { Timeline } from './timeline.ts'

/** One direction between two hosts. */
export class Cable {
  readonly name: string
  isCut = false
  /** On top of the ordinary delay. */
  extraDelayUs = 0
  readonly #stalled = new Set<() => void>()
  /** Of the message sent last among those that have arrived: when, and from which end. */
  #newestUs = 0
  #newestFrom: End | undefined

  constructor(name: string) {
    this.name = name
  }

  cut(): void {
    this.isCut = true
  }

  mend(): void {
    this.isCut = false
    const stalled = [...this.#stalled]
    this.#stalled.clear()
    for (const goOn of stalled) goOn()
  }

  /** @returns whether something that was sent later on another connection was here before */
  onArrived(sentUs: number, from: End): boolean {
    if (sentUs < this.#newestUs) return from !== this.#newestFrom
    this.#newestUs = sentUs
    this.#newestFrom = from
    return false
  }

  onMended(goOn: () => void): void {
    this.#stalled.add(goOn)
  }
}

/** What one end of a connection is told. */
export interface EndEvents<Received> {
  readonly onMessage: (message: Received) => void
  /** The other end closed, died, or the connection was reset. Not told to who closed it. */
  readonly onClosed: () => void
}

/** After so long a kernel finds out that the peer's host is gone (net/connect.ts has 15 s). */
const keepAliveUs = 1_500_000
/** TCP's least time before it sends again. */
const resetAfterUs = 50_000

export interface Delays {
  readonly leastUs: number
  readonly mostUs: number
}

/** For who counts what a network does to its users. */
export interface NetworkWitness {
  /** A message overtook an older one on another connection between the same hosts. */
  onOvertaken(): void
  /** Messages of this process got lost with their connection. */
  onLostInFlight(from: string): void
}

interface InFlight<Message> {
  /** Undefined is the end of the stream. */
  readonly message: Message | undefined
  readonly sentUs: number
}

/** One end. What is sent before the other end listens waits in its kernel. */
export class End<Sent = unknown, Received = unknown> {
  readonly actor: Actor
  readonly #timeline: Timeline
  readonly #chance: Chance
  readonly #cable: Cable
  readonly #delays: Delays
  readonly #witness: NetworkWitness
  /** In flight from here to the peer, in order. */
  #flight: InFlight<Sent>[] = []
  #lastArrivalUs = 0
  #events: EndEvents<Received> | undefined
  #unread: (Received | undefined)[] = []
  #isClosed = false
  #isBroken = false
  #loseNext = 0
  #isStalled = false
  peer!: End<Received, Sent>
  readonly #mourner = (how: Death): void => this.#onDeath(how)

  constructor(actor: Actor, timeline: Timeline, chance: Chance, cable: Cable, delays: Delays, witness: NetworkWitness) {
    this.actor = actor
    this.#witness = witness
    this.#timeline = timeline
    this.#chance = chance
    this.#cable = cable
    this.#delays = delays
    actor.onDeath(this.#mourner)
  }

  get isOpen(): boolean {
    return !this.#isClosed
  }

  listen(events: EndEvents<Received>): void {
    this.#events = events
    // Reset before anybody listened.
    if (this.#isClosed && this.#isBroken) this.actor.after(0, () => events.onClosed())
    for (const message of this.#unread.splice(0)) this.#read(message)
  }

  send(message: Sent): void {
    if (this.#isClosed || this.actor.isDead) return
    if (this.#loseNext > 0) {
      this.#loseNext--
      return
    }
    this.#put(message)
  }

  /** Ends the stream behind what was sent. Nothing is told any more at this end. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.actor.forgetOnDeath(this.#mourner)
    this.#put(undefined)
  }

  /** For faults: both ends are told, and what is in flight is lost. */
  reset(): void {
    this.#break()
    this.peer.#break()
  }

  /** For faults: so many messages from here get lost (a proxy in between, a bug of a kernel). */
  loseNext(messages: number): void {
    this.#loseNext = messages
  }

  #loseFlight(): void {
    if (this.#flight.some(({ message }) => message !== undefined)) this.#witness.onLostInFlight(this.actor.name)
    this.#flight = []
  }

  #break(): void {
    this.#loseFlight()
    this.#isBroken = true
    if (this.#isClosed || this.actor.isDead) return
    this.#isClosed = true
    this.actor.forgetOnDeath(this.#mourner)
    this.actor.deliver(() => this.#events?.onClosed())
  }

  #onDeath(how: Death): void {
    if (how === 'host') {
      this.#isClosed = true
      this.#loseFlight()
      this.#isBroken = true
      this.#timeline.after(keepAliveUs, () => this.peer.#receive(undefined))
    } else {
      this.#isClosed = true
      this.#put(undefined)
    }
  }

  #put(message: Sent | undefined): void {
    if (this.#isBroken) return
    this.#flight.push({ message, sentUs: this.#timeline.nowUs })
    const { leastUs, mostUs } = this.#delays
    const delayUs = leastUs + this.#chance.below(mostUs - leastUs + 1) + this.#cable.extraDelayUs
    this.#lastArrivalUs = Math.max(this.#lastArrivalUs, this.#timeline.nowUs + delayUs)
    this.#timeline.at(this.#lastArrivalUs, () => this.#arrive())
  }

  /** The oldest message in flight reaches the peer's kernel, if the cable is whole. */
  #arrive(): void {
    if (this.#flight.length === 0) return
    if (this.#cable.isCut) {
      if (this.#isStalled) return
      this.#isStalled = true
      this.#cable.onMended(() => {
        this.#isStalled = false
        for (let left = this.#flight.length; left > 0; left--) {
          this.#lastArrivalUs = Math.max(this.#lastArrivalUs, this.#timeline.nowUs + this.#delays.leastUs)
          this.#timeline.at(this.#lastArrivalUs, () => this.#arrive())
        }
      })
      return
    }
    const { message, sentUs } = this.#flight.shift()!
    if (this.#cable.onArrived(sentUs, this as unknown as End)) this.#witness.onOvertaken()
    this.peer.#receive(message)
  }

  #receive(message: Received | undefined): void {
    this.actor.deliver(() => this.#read(message))
  }

  #read(message: Received | undefined): void {
    if (this.#isClosed) return
    if (!this.#events) {
      this.#unread.push(message)
      return
    }
    if (message !== undefined) {
      this.#events.onMessage(message)
      return
    }
    this.#isClosed = true
    this.actor.forgetOnDeath(this.#mourner)
    this.#events.onClosed()
  }
}

type Accept = (end: End) => void

interface Listening {
  readonly actor: Actor
  readonly accept: Accept
}

/** Who listens where, and the cables between hosts. Hosts are named like their processes: `a`, `b`, `disk`, `lan`. */
export class Network {
  readonly #timeline: Timeline
  readonly #chance: Chance
  readonly #delays: Delays
  readonly #cables = new Map<string, Cable>()
  readonly #listening = new Map<string, Listening>()
  readonly #ends = new Map<string, Set<End>>()
  readonly #witness: NetworkWitness

  constructor(timeline: Timeline, chance: Chance, delays: Delays, witness: NetworkWitness) {
    this.#witness = witness
    this.#timeline = timeline
    this.#chance = chance
    this.#delays = delays
  }

  /** From one host to another, this way only. */
  cable(from: string, to: string): Cable {
    const name = `${from}>${to}`
    let cable = this.#cables.get(name)
    if (!cable) {
      cable = new Cable(name)
      this.#cables.set(name, cable)
    }
    return cable
  }

  get cables(): Iterable<Cable> {
    return this.#cables.values()
  }

  /** Open connections that `from` made to `to`, as ends of `from`. */
  connections(from: string, to: string): readonly End[] {
    return [...(this.#ends.get(`${from}>${to}`) ?? [])].filter((end) => end.isOpen || end.peer.isOpen)
  }

  /** A host whose power was gone is up again: it resets what is sent on connections that it knows nothing of. */
  onHostIsBack(name: string): void {
    for (const [route, ends] of this.#ends) {
      if (!route.endsWith(`>${name}`)) continue
      for (const end of ends)
        if (end.isOpen && end.peer.actor.isDead) this.#timeline.after(resetAfterUs, () => end.reset())
    }
  }

  listen<Sent, Received>(address: string, actor: Actor, accept: (end: End<Sent, Received>) => void): void {
    this.#listening.set(address, { actor, accept: accept as unknown as Accept })
  }

  /**
   * Connects to a process that listens. `answered` gets the open end, or undefined if nobody listens there; over a cable
   * that is cut it is not called before that is mended.
   */
  connect<Sent, Received>(
    from: Actor,
    to: string,
    address: string,
    answered: (end: End<Sent, Received> | undefined) => void,
  ): void {
    const there = this.cable(from.name, to)
    const back = this.cable(to, from.name)
    this.#over(there, () => {
      const listening = this.#listening.get(address)
      let end: End<Sent, Received> | undefined
      if (listening && !listening.actor.isDead && !from.isDead) {
        const { actor, accept } = listening
        end = new End<Sent, Received>(from, this.#timeline, this.#chance, there, this.#delays, this.#witness)
        const peer = new End<Received, Sent>(actor, this.#timeline, this.#chance, back, this.#delays, this.#witness)
        end.peer = peer
        peer.peer = end
        this.#remember(from.name, to, end as unknown as End)
        actor.deliver(() => accept(peer as unknown as End))
      }
      this.#over(back, () => from.deliver(() => answered(end)))
    })
  }

  #remember(from: string, to: string, end: End): void {
    const name = `${from}>${to}`
    let ends = this.#ends.get(name)
    if (!ends) this.#ends.set(name, (ends = new Set()))
    for (const old of ends) if (!old.isOpen && !old.peer.isOpen) ends.delete(old)
    ends.add(end)
  }

  #over(cable: Cable, run: () => void): void {
    const { leastUs, mostUs } = this.#delays
    assert(mostUs >= leastUs, 'delays are a range')
    this.#timeline.after(leastUs + this.#chance.below(mostUs - leastUs + 1) + cable.extraDelayUs, () => {
      if (cable.isCut) cable.onMended(run)
      else run()
    })
  }
}
