/**
 * A backup's part in a failover (VMware FT, "Detecting and responding to failure"), from the suspicion on: it asks the arbiter,
 * and wins or loses.
 *
 *   suspicion ──► asks ──granted──► calls its siblings for the longest tail ──► all is replayed: goes live
 *                  │ ▲
 *                  │ └──no answer: the same question again; refused, but listed a generation later: that one
 *                  ├──refused, a sibling holds the machine──► rejoins: waits for its call ──► follows it
 *                  │                                             └─ not called: the winner is lost, too ──► asks as its heir
 *                  └──refused otherwise──► halts
 *
 * Rules held here: it goes live only after the arbiter granted its generation AND everything that it ever acknowledged is
 * replayed (invariant 7); an arbiter out of reach is asked again, never guessed about (invariant 8). That it has stopped
 * acknowledging before is its state: `Backup` acknowledges in `replaying` alone, and no way leads back there but by a winner.
 */

import { assert } from '../base/assert.ts'
import type { BackupLine } from './backup-line.ts'
import type { BackupRole } from './backup-role.ts'
import type { ArbiterAnswer, BackupEffect, ChannelId, FailoverTiming } from './effects.ts'
import type { Eligibility } from './eligibility.ts'
import type { Introduction } from './hello.ts'
import type { Message, ReplicaName } from './messages.ts'
import type { PeerLines } from './peer-lines.ts'
import type { ReplicationPolicy } from './policy.ts'
import type { ReceivedLog } from './received-log.ts'
import { TailFetch } from './tail-fetch.ts'
import type { UnconfirmedOutputs } from './unconfirmed-outputs.ts'

/** What of a backup its failover has to do with. */
export interface FailoverParts {
  readonly own: Introduction
  readonly policy: ReplicationPolicy
  readonly role: BackupRole
  readonly line: BackupLine
  readonly peers: PeerLines
  readonly eligibility: Eligibility
  readonly log: ReceivedLog
  readonly unconfirmed: UnconfirmedOutputs
  /** Where what follows is put, in order. */
  readonly effects: BackupEffect[]
}

export class Failover {
  readonly #parts: FailoverParts
  #timing: FailoverTiming | undefined
  /** Of a winner that has siblings. */
  #fetch: TailFetch | undefined

  constructor(parts: FailoverParts) {
    this.#parts = parts
  }

  /** Until when siblings are waited for; infinite when none is. */
  get deadlineMs(): number {
    return this.#fetch?.deadlineMs ?? Number.POSITIVE_INFINITY
  }

  // ---- the question --------------------------------------------------------------------------------------------------

  /**
   * The primary seems lost. From here on there is no way back to following it: this backup wins, or its role here is over.
   * @param hasEnded it said so itself: nobody else asks
   */
  begin(reason: string, nowMs: number, hasEnded = false): void {
    const { role, line, policy } = this.#parts
    this.#beginAsking(reason, nowMs)
    if (!hasEnded && line.isOutplaced) role.waitsUntilMs = nowMs + policy.headStartMs
    else this.ask()
  }

  /** Whom it followed is lost: it hears that one no more, and its failover begins. */
  #beginAsking(reason: string, nowMs: number): void {
    const { role, line } = this.#parts
    role.moveTo('asking')
    this.#timing = { lastHeardMs: line.lastHeardMs, detectedMs: nowMs, wonMs: nowMs, replayedMs: nowMs }
    line.close(reason)
  }

  ask(): void {
    const { role, eligibility, effects } = this.#parts
    role.waitsUntilMs = Number.POSITIVE_INFINITY
    effects.push({ kind: 'testAndSet', generation: eligibility.generation })
  }

  onArbiterAnswer(answer: ArbiterAnswer, nowMs: number): void {
    const { role, eligibility, policy } = this.#parts
    if (role.state !== 'asking') return
    switch (answer.result) {
      case 'unreachable':
        role.waitsUntilMs = nowMs + policy.arbiterRetryMs
        return
      case 'refused':
        this.#onRefused(answer, nowMs)
        return
      case 'granted':
        eligibility.onGranted(answer.generation)
        this.#timing = { ...this.#timing!, wonMs: nowMs }
        role.moveTo('goingLive')
        this.#callSiblings(nowMs)
        this.goLiveIfReady(nowMs)
    }
  }

  // ---- the loser -----------------------------------------------------------------------------------------------------

  #onRefused(answer: Extract<ArbiterAnswer, { result: 'refused' }>, nowMs: number): void {
    const { role, eligibility, policy } = this.#parts
    switch (eligibility.onRefused(answer)) {
      case 'askAgain':
        this.ask()
        return
      case 'rejoin':
        role.moveTo('rejoining')
        role.waitsUntilMs = nowMs + policy.callMs
        return
      case 'nothing':
        role.halt('lostArbitration', answer.detail)
    }
  }

  /** The winner has not called, or its call ended. */
  askAsHeir(nowMs: number): void {
    const { role, eligibility } = this.#parts
    if (eligibility.onWinnerLost()) {
      this.#beginAsking('the winner is lost, too', nowMs)
      this.ask()
    } else role.halt('lostArbitration', 'another backup won, and has not called this one')
  }

  /**
   * A sibling holds the machine: whatever this backup was about to do in its generation is over. It gives what it has of
   * the log, and wants to follow. From the moment it answers it acknowledges nothing to its old primary, so that the winner
   * gets all that it ever received.
   */
  onCall(channel: ChannelId, call: Extract<Message, { kind: 'call' }>, nowMs: number): void {
    const { own, role, line, peers, eligibility, log, policy, effects } = this.#parts
    const isRejoining = role.state === 'rejoining'
    const isFollower = isRejoining || role.state === 'replaying' || role.state === 'asking'
    if (!isFollower || !eligibility.onCalled(call.generation, isRejoining)) {
      peers.refuse(channel, `this replica does not follow generation ${call.generation}`)
      return
    }
    if (!isRejoining) role.moveTo('rejoining')
    role.waitsUntilMs = nowMs + policy.callMs
    line.close(`replica "${call.replica}" holds the machine`)
    effects.push({ kind: 'adoptPeer', channel })
    const tail = call.tailFrom === undefined ? [] : (log.tail.from(call.tailFrom) ?? [])
    for (const batch of tail) line.send({ kind: 'entries', batch, commonEnd: batch.firstIndex }, nowMs)
    line.sayHello(own, log, nowMs)
  }

  // ---- the winner ----------------------------------------------------------------------------------------------------

  /** What its siblings have more of the log comes first. */
  #callSiblings(nowMs: number): void {
    const { own, peers, eligibility, log, policy, effects } = this.#parts
    const { siblings, generation } = eligibility
    if (siblings.length === 0) return
    const caller = { replica: own.replica, generation, log, hold: log.hold }
    this.#fetch = new TailFetch(caller, siblings, nowMs + policy.tailTimeoutMs, peers)
    effects.push({ kind: 'callSiblings', siblings })
  }

  onSiblingOpen(channel: ChannelId, replica: ReplicaName): void {
    const { role, peers } = this.#parts
    if (role.state === 'goingLive' && this.#fetch) this.#fetch.onOpen(channel, replica)
    else peers.close(channel, 'not going live')
  }

  onSiblingUnreachable(replica: ReplicaName, nowMs: number): void {
    this.#fetch?.onUnreachable(replica)
    this.goLiveIfReady(nowMs)
  }

  /** @returns false: it is of nobody who was called */
  onSiblingMessage(channel: ChannelId, message: Message, nowMs: number): boolean {
    if (!this.#fetch?.has(channel)) return false
    const { log } = this.#parts
    for (const batch of this.#fetch.onMessage(channel, message))
      if (batch.firstIndex === log.end) log.receive(batch, nowMs)
    this.goLiveIfReady(nowMs)
    return true
  }

  onSiblingClosed(channel: ChannelId, nowMs: number): void {
    this.#fetch?.onClosed(channel)
    this.goLiveIfReady(nowMs)
  }

  /** Won, every sibling heard, everything replayed: only now. */
  goLiveIfReady(nowMs: number): void {
    const { role, eligibility, log, unconfirmed, effects } = this.#parts
    if (role.state !== 'goingLive' || !log.isReplayed) return
    if (this.#fetch && !this.#fetch.isOver(nowMs)) return
    assert(this.#timing !== undefined, 'goes live after a granted question')
    role.moveTo('live')
    this.#fetch?.closeSilent()
    effects.push({
      kind: 'goLive',
      generation: eligibility.generation,
      runId: log.runId,
      logEnd: log.end,
      coveredFrameId: log.coveredFrameId,
      unconfirmed: unconfirmed.inOrder(),
      joiners: this.#fetch?.joiners ?? [],
      timing: { ...this.#timing, replayedMs: nowMs },
    })
  }
}
