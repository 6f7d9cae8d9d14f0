/**
 * A replica's connection to its disk: the real `SteadyRequests` over fake connections, and the real `FollowedRequests` of a
 * backup, which knows by the log what may be lost. A backup that reads for itself has another connection, without a pass.
 */

import type { WorldError } from '../base/assert.ts'
import { formatExportName } from '../disk/names.ts'
import { NbdError } from '../disk/nbd-error.ts'
import { type DiskLink, type DiskOutcome, SteadyRequests } from '../disk/steady-requests.ts'
import type { DiskAnswer as LoggedDiskAnswer, NeededRead } from '../hypervisor/replayer.ts'
import type { DiskRequest, MarkedOutput } from '../log/entry.ts'
import { answerOf, type DiskAnswer, FollowedRequests, followInOrder, workOf } from '../replica/disk-requests.ts'
import { ReplayedReads } from '../replica/replayed-reads.ts'
import type { DisksPort } from '../replica/replica-world.ts'
import type { Actor } from './actor.ts'
import type { FromDisk, ToDisk } from './disk-server.ts'
import { diskHost, exportName, machineName, token } from './names.ts'
import type { End, Network } from './network.ts'

export interface DiskLineOptions {
  readonly actor: Actor
  readonly network: Network
  readonly replica: string
  /** A backup reads as soon as its machine asks: the log is going to leave out what was read. */
  readonly readsAhead: boolean
  readonly onAnswer: (answer: DiskAnswer) => void
  /** A backup has read what its primary read. */
  readonly onRead: (sequence: bigint, data: Uint8Array) => void
  readonly onFenced: () => void
  /** The disk refuses to take again what its crash may have undone: the guest hears of it with its next flush. */
  readonly onRestoreRefused: () => void
  /** A flush for the sake of a new backup has failed. */
  readonly onFlushFailed: () => void
}

const reconnectIntervalMs = 50
const connectTimeoutMs = 1000
const readAgainMs = 20

export class DiskLine implements DisksPort {
  readonly steady: SteadyRequests
  readonly #options: DiskLineOptions
  readonly #followed: FollowedRequests
  /** Of a backup. */
  readonly #reader: SteadyRequests
  readonly #reads: ReplayedReads
  #generation = 0

  constructor(options: DiskLineOptions) {
    this.#options = options
    this.#reader = new SteadyRequests({
      connect: () => this.#connect(this.#reader, exportName),
      connectLater: () => options.actor.after(reconnectIntervalMs * 1000, () => this.#reader.connect()),
      trace: () => {},
    })
    this.steady = new SteadyRequests({
      connect: () => {
        const pass = { machine: machineName, generation: this.#generation, replica: options.replica, token }
        this.#connect(this.steady, formatExportName(exportName, pass))
      },
      connectLater: () => options.actor.after(reconnectIntervalMs * 1000, () => this.steady.connect()),
      onFenced: options.onFenced,
      trace: (line) => {
        if (line.includes('is refused now')) options.onRestoreRefused()
      },
    })
    this.#followed = new FollowedRequests(this.steady.unflushed)
    this.#reads = new ReplayedReads({
      readsAhead: options.readsAhead,
      inTurn: (_request, begin) => begin(() => {}),
      read: (request, done) => this.#read(request, done),
      later: (again) => options.actor.after(readAgainMs * 1000, again),
      onRead: options.onRead,
      trace: () => {},
    })
  }

  connect(generation: number): void {
    this.#followed.clear()
    this.#reads.end()
    this.#reader.drop()
    this.#generation = generation
    this.steady.connect()
  }

  issue(request: DiskRequest): void {
    this.steady.request(workOf(request), (outcome) => this.#options.onAnswer(answerOf(request, outcome)))
  }

  onReplayed(outputs: readonly MarkedOutput[], answers: readonly LoggedDiskAnswer[]): void {
    followInOrder(
      outputs,
      answers,
      (request) => this.#follow(request),
      (answer) => {
        this.#reads.onAnswer(answer.sequence)
        this.#followed.onAnswer(answer)
      },
    )
  }

  #follow(request: DiskRequest): void {
    this.#followed.onRequest(request)
    this.#reads.onRequest(request)
  }

  readAgain(need: NeededRead): void {
    this.#reads.onNeeded(need)
  }

  #read(request: DiskRequest, done: (outcome: DiskOutcome) => void): void {
    this.#reader.connect()
    this.#reader.request(workOf(request), (outcome) => {
      if (outcome instanceof Uint8Array) this.#followed.mend(request, outcome)
      done(outcome)
    })
  }

  /** The replica has ended. */
  drop(): void {
    this.#reads.end()
    this.#reader.drop()
    this.steady.drop()
  }

  onRestored(inFlight: readonly DiskRequest[], done: () => void): void {
    for (const request of inFlight) this.#follow(request)
    done()
  }

  flush(done: () => void, failed: (detail: string) => void): void {
    this.steady.secure((error) => {
      if (error) {
        this.#options.onFlushFailed()
        failed(error.message)
      } else done()
    })
  }

  #connect(steady: SteadyRequests, name: string): void {
    const { actor, network } = this.#options
    let attempt: 'open' | 'over' = 'open'
    let opening: End<ToDisk, FromDisk> | undefined
    const failed = (error: WorldError): void => {
      if (attempt === 'over') return
      attempt = 'over'
      opening?.close()
      steady.onConnectFailed(error)
    }
    actor.after(connectTimeoutMs * 1000, () => failed(new NbdError('unreachable', 'no answer')))
    network.connect<ToDisk, FromDisk>(actor, diskHost, 'disk', (end) => {
      if (attempt === 'over' || !end) {
        end?.close()
        failed(new NbdError('unreachable', 'nobody listens'))
        return
      }
      opening = end
      end.listen({
        onMessage: (message) => {
          if (message.kind === 'opened') {
            attempt = 'over'
            this.#onOpened(steady, end, message.bootId)
          } else if (message.kind === 'refused') {
            failed(new NbdError(message.isFenced ? 'fenced' : 'refused', message.detail))
          }
        },
        onClosed: () => failed(new NbdError('unreachable', 'the connection was closed')),
      })
      end.send({ kind: 'open', name })
    })
  }

  #onOpened(steady: SteadyRequests, end: End<ToDisk, FromDisk>, bootId: string | undefined): void {
    const { actor } = this.#options
    const pending = new Map<number, (outcome: DiskOutcome) => void>()
    let nextId = 1
    let isOver = false
    const onOver = (): void => {
      if (isOver) return
      isOver = true
      const error = new NbdError('connection-lost', 'the connection was closed')
      const lost = [...pending.values()]
      pending.clear()
      for (const answered of lost) answered(error)
      steady.onLinkEnded(link, error)
    }
    const link: DiskLink = {
      bootId,
      send: (work, answered) => {
        if (isOver) {
          actor.after(0, () => answered(new NbdError('connection-lost', 'the connection is over')))
          return
        }
        const id = nextId++
        pending.set(id, answered)
        end.send({ kind: 'request', id, work })
      },
      destroy: () => {
        end.close()
        actor.after(0, onOver)
      },
    }
    end.listen({
      onMessage: (message) => {
        if (message.kind !== 'done' && message.kind !== 'failed') return
        const answered = pending.get(message.id)
        pending.delete(message.id)
        if (message.kind === 'done') answered?.(message.data)
        else answered?.(new NbdError(message.reason, `the disk says ${message.reason}`))
      },
      onClosed: onOver,
    })
    steady.onConnected(link)
  }
}
