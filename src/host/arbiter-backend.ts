/**
 * The arbiter as a replica's host sees it: a session that is kept, and answers in the words of `replication/`. Whether the
 * arbiter was out of reach or said no is told apart; what follows from it is decided there, not here.
 *
 * By default the arbiter is a part of the disk server, and one session is all there is. With etcd there are two: etcd
 * grants, and the disk server, which fences, is told what was granted, at once and again whenever its session is opened.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { ExitCode, WorldError } from '../base/assert.ts'
import { type ArbiterAccess, ArbiterError } from '../disk/arbiter-access.ts'
import { ArbiterClient } from '../disk/arbiter-client.ts'
import type { ArbiterRecordFields } from '../disk/arbiter-record.ts'
import { EtcdArbiter } from '../etcd/etcd-arbiter.ts'
import type { EtcdSettings } from '../etcd/etcd-settings.ts'
import type { Endpoint } from '../net/address.ts'
import { verdictOnOpening, verdictOnTestAndSet } from '../replica/arbiter-verdicts.ts'
import type { ArbiterAnswer } from '../replication/effects.ts'
import type { Generation, ReplicaName } from '../replication/messages.ts'
import { ReachProbe } from '../replication/reach-probe.ts'

export interface ArbiterBackendOptions {
  /** The disk server's arbiter. */
  readonly endpoint: Endpoint
  /** Who decides instead of it. */
  readonly etcd?: EtcdSettings | undefined
  readonly machine: string
  readonly replica: ReplicaName
  readonly token: string
  /** A later generation has begun: this replica must stop. */
  readonly onFenced: () => void
  readonly trace: (line: string) => void
}

const answerTimeoutMs = 2000
const reconnectIntervalMs = 200
/** How long a starting machine keeps asking while the previous holder's connection is still closing. */
const startRetries = 50
const startRetryIntervalMs = 20
/** … and while a holder that may come back is awaited. */
const awaitRetryIntervalMs = 100

export class ArbiterBackend {
  readonly #options: ArbiterBackendOptions
  readonly #diskServer: ArbiterClient
  /** Who grants: the disk server, or another one. */
  readonly #arbiter: ArbiterAccess
  readonly #reachOfDiskServer = new ReachProbe(() => this.#diskServer.ping(() => this.#reachOfDiskServer.onAnswer()))
  readonly #reachOfArbiter: ReachProbe
  #isClosed = false

  /** @throws WorldError `bad-configuration` */
  constructor(options: ArbiterBackendOptions) {
    const { endpoint, etcd, machine, replica, token, onFenced } = options
    this.#options = options
    const whose = { machine, replica, onFenced }
    this.#diskServer = new ArbiterClient({
      ...endpoint,
      ...whose,
      token,
      onSessionLost: () => void this.#keepSession(this.#diskServer),
    })
    if (etcd) {
      const cluster = new EtcdArbiter(etcd, { ...whose, onSessionLost: () => void this.#keepSession(cluster) })
      this.#arbiter = cluster
      this.#reachOfArbiter = probeByReading(cluster)
    } else {
      this.#arbiter = this.#diskServer
      this.#reachOfArbiter = this.#reachOfDiskServer
    }
  }

  /** Opens the sessions. @throws ArbiterError */
  async connect(): Promise<void> {
    await this.#arbiter.connect(answerTimeoutMs)
    if (this.#arbiter !== this.#diskServer) await this.#diskServer.connect(answerTimeoutMs)
  }

  /**
   * Starting a machine takes the next generation, and is refused while a holder is connected (invariant 8). A holder that
   * may be about to come back is awaited here too.
   * @param holderHasEnded no process of a holder is left
   * @param check looks at the record before the arbiter is asked, and throws what speaks against it
   * @throws WorldError `held-elsewhere`; ArbiterError
   */
  async takeGeneration(
    holderHasEnded: boolean,
    check: (record: ArbiterRecordFields) => void = () => {},
  ): Promise<Generation> {
    for (let attempt = 0; ; ) {
      check(await this.#arbiter.read(answerTimeoutMs))
      const answer = await this.#arbiter.start(answerTimeoutMs, holderHasEnded)
      if (answer.granted) {
        this.#tellDiskServer(answer.generation)
        return answer.generation
      }
      if (answer.reason === 'holder-connected' && attempt++ >= startRetries) {
        throw new WorldError(
          'held-elsewhere',
          `VM ${this.#options.machine} runs already: replica ${answer.holder} holds it in generation ${answer.generation}`,
          ExitCode.wrongState,
        )
      }
      await sleep(answer.reason === 'holder-connected' ? startRetryIntervalMs : awaitRetryIntervalMs)
    }
  }

  /** As the holder of `generation`: opens the next one, with exactly these backups. */
  async openGeneration(generation: Generation, eligible: readonly ReplicaName[]): Promise<ArbiterAnswer> {
    return await this.#ask(async () => {
      return verdictOnOpening(await this.#arbiter.openGeneration(generation, eligible, answerTimeoutMs))
    })
  }

  /** As an eligible backup of `generation`: takes over. */
  async testAndSet(generation: Generation): Promise<ArbiterAnswer> {
    return await this.#ask(async () => {
      const answer = await this.#arbiter.testAndSet(generation, answerTimeoutMs)
      if (answer.won) this.#tellDiskServer(answer.generation)
      return verdictOnTestAndSet(answer)
    })
  }

  /** Nobody holds the machine any more: a clean end. An arbiter out of reach finds out by itself. */
  async release(generation: Generation): Promise<void> {
    await this.#arbiter.release(generation, answerTimeoutMs).catch(() => {})
    const adopted = this.#diskServer.heldGeneration
    if (this.#arbiter === this.#diskServer || adopted === undefined) return
    await this.#diskServer.release(adopted, answerTimeoutMs).catch(() => {})
  }

  /**
   * Call at every tick.
   * @returns whether this replica could serve the disks: it reaches the disk server and, if it would have to be granted the
   *   machine first, the arbiter
   */
  onTick(isPrimary: boolean): boolean {
    this.#reachOfDiskServer.onTick()
    if (this.#reachOfArbiter !== this.#reachOfDiskServer) this.#reachOfArbiter.onTick()
    return this.#reachOfDiskServer.isInReach && (isPrimary || this.#reachOfArbiter.isInReach)
  }

  close(): void {
    this.#isClosed = true
    this.#diskServer.close()
    this.#arbiter.close()
  }

  /**
   * So that older requests are refused from now on. Nothing waits for it: the disks say the same when they are connected,
   * and answer no request before the older ones have drained.
   */
  #tellDiskServer(generation: Generation): void {
    if (this.#arbiter === this.#diskServer) return
    this.#diskServer.adopt(generation, answerTimeoutMs).catch((error: Error) => this.#options.trace(error.message))
  }

  async #ask(question: () => Promise<ArbiterAnswer>): Promise<ArbiterAnswer> {
    try {
      return await question()
    } catch (error) {
      if (!(error instanceof ArbiterError)) throw error
      this.#options.trace(error.message)
      return { result: 'unreachable', detail: error.message }
    }
  }

  /** A holder without a session would count as gone: anybody could start the machine, and it would not hear of it. */
  async #keepSession(session: ArbiterAccess): Promise<void> {
    this.#options.trace('arbiter: the session is lost; connecting again')
    while (!this.#isClosed) {
      try {
        await session.connect(answerTimeoutMs)
        this.#options.trace('arbiter: the session is back')
        return
      } catch (error) {
        if (!(error instanceof ArbiterError)) throw error
        await sleep(reconnectIntervalMs)
      }
    }
  }
}

function probeByReading(session: ArbiterAccess): ReachProbe {
  const probe = new ReachProbe(() => {
    session.read(answerTimeoutMs).then(
      () => probe.onAnswer(),
      (error) => {
        if (!(error instanceof ArbiterError)) throw error
      },
    )
  })
  return probe
}
