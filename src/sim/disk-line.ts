/**
 * A replica's connection to its disk: the real `SteadyRequests` over fake connections, and the real `FollowedRequests` of a
 * backup, which knows by the log what may be lost.
 */

import type { WorldError } from '../base/assert.ts'
import { formatExportName } from '../disk/names.ts'
import { NbdError } from '../disk/nbd-error.ts'
import { type DiskLink, type DiskOutcome, SteadyRequests } from '../disk/steady-requests.ts'
import type { DiskAnswer as LoggedDiskAnswer } from '../hypervisor/replayer.ts'
import type { MarkedOutput } from '../log/entry.ts'
import { answerOf, type DiskAnswer, FollowedRequests, followInOrder, workOf } from '../replica/disk-requests.ts'
import type { DiskRequest } from '../replica/hart-messages.ts'
import type { DisksPort } from '../replica/replica-world.ts'
import type { Actor } from './actor.ts'
import type { FromDisk, ToDisk } from './disk-server.ts'
import { diskHost, exportName, machineName, token } from './names.ts'
import type { End, Network } from './network.ts'

export interface DiskLineOptions {
  readonly actor: Actor
  readonly network: Network
  readonly replica: string
  readonly onAnswer: (answer: DiskAnswer) => void
  readonly onFenced: () => void
  /** The disk refuses to take again what its crash may have undone: the guest hears of it with its next flush. */
  readonly onRestoreRefused: () => void
  /** A flush for the sake of a new backup has failed. */
  readonly onFlushFailed: () => void
}

const reconnectIntervalMs = 50
const connectTimeoutMs = 1000

export class DiskLine implements DisksPort {
  readonly steady: SteadyRequests
  readonly #options: DiskLineOptions
  readonly #followed: FollowedRequests
  #generation = 0

  constructor(options: DiskLineOptions) {
    this.#options = options
    this.steady = new SteadyRequests({
      connect: () => this.#connect(),
      connectLater: () => options.actor.after(reconnectIntervalMs * 1000, () => this.steady.connect()),
      onFenced: options.onFenced,
      trace: (line) => {
        if (line.includes('is refused now')) options.onRestoreRefused()
      },
    })
    this.#followed = new FollowedRequests(this.steady.unflushed)
  }

  connect(generation: number): void {
    this.#followed.clear()
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
      (request) => this.#followed.onRequest(request),
      (answer) => this.#followed.onAnswer(answer),
    )
  }

  onRestored(inFlight: readonly DiskRequest[], done: () => void): void {
    for (const request of inFlight) this.#followed.onRequest(request)
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

  #connect(): void {
    const { actor, network, replica } = this.#options
    let attempt: 'open' | 'over' = 'open'
    let opening: End<ToDisk, FromDisk> | undefined
    const failed = (error: WorldError): void => {
      if (attempt === 'over') return
      attempt = 'over'
      opening?.close()
      this.steady.onConnectFailed(error)
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
            this.#onOpened(end, message.bootId)
          } else if (message.kind === 'refused') {
            failed(new NbdError(message.isFenced ? 'fenced' : 'refused', message.detail))
          }
        },
        onClosed: () => failed(new NbdError('unreachable', 'the connection was closed')),
      })
      const pass = { machine: machineName, generation: this.#generation, replica, token }
      end.send({ kind: 'open', name: formatExportName(exportName, pass) })
    })
  }

  #onOpened(end: End<ToDisk, FromDisk>, bootId: string | undefined): void {
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
      this.steady.onLinkEnded(link, error)
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
    this.steady.onConnected(link)
  }
}
