/**
 * A replica's connection to its disk: the real `SteadyRequests` over fake connections, and what `DiskBackend` adds for a
 * backup, which follows by the log what may be lost.
 */

import type { WorldError } from '../base/assert.ts'
import { sectorBytes } from '../base/units.ts'
import { formatExportName } from '../disk/names.ts'
import { NbdError } from '../disk/nbd-error.ts'
import { type DiskLink, type DiskOutcome, type DiskWork, SteadyRequests } from '../disk/steady-requests.ts'
import type { FlushReach } from '../disk/unflushed-writes.ts'
import type { DiskAnswer } from '../hypervisor/replayer.ts'
import type { LogIndex, MarkedOutput } from '../log/entry.ts'
import type { Input } from '../machine/types.ts'
import type { Actor } from './actor.ts'
import type { FromDisk, ToDisk } from './disk-server.ts'
import { diskHost, exportName, machineName, token } from './names.ts'
import type { End, Network } from './network.ts'
import type { DiskRequest } from './tiny-machine.ts'

export interface DiskLineOptions {
  readonly actor: Actor
  readonly network: Network
  readonly replica: string
  readonly onAnswer: (answer: Extract<Input, { kind: 'diskCompletion' }>) => void
  readonly onFenced: () => void
  /** The disk refuses to take again what its crash may have undone: the guest hears of it with its next flush. */
  readonly onRestoreRefused: () => void
}

const reconnectIntervalMs = 50
const connectTimeoutMs = 1000

export class DiskLine {
  readonly steady: SteadyRequests
  readonly #options: DiskLineOptions
  readonly #followed = new Map<bigint, { readonly work: DiskWork; readonly reach: FlushReach }>()
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
  }

  connect(generation: number): void {
    this.#followed.clear()
    this.#generation = generation
    this.steady.connect()
  }

  issue(request: DiskRequest): void {
    const { sequence } = request
    this.steady.request(workOf(request), (outcome) => {
      const answer = { kind: 'diskCompletion', sequence } as const
      if (outcome instanceof NbdError) this.#options.onAnswer({ ...answer, status: 'ioError' })
      else this.#options.onAnswer({ ...answer, status: 'ok', ...(outcome ? { data: outcome } : {}) })
    })
  }

  /** A backup's machine replayed these, in log order. */
  onReplayed(outputs: readonly MarkedOutput[], answers: readonly DiskAnswer[]): void {
    let next = 0
    const answersBelow = (index: LogIndex | undefined): void => {
      for (; next < answers.length && (index === undefined || answers[next]!.index < index); next++) {
        this.#followAnswer(answers[next]!)
      }
    }
    for (const { output, markerIndex } of outputs) {
      if (output.kind !== 'disk') continue
      answersBelow(markerIndex)
      this.#followed.set(output.sequence, { work: workOf(output), reach: this.steady.unflushed.beginFlush() })
    }
    answersBelow(undefined)
  }

  /** What a machine that came from elsewhere has in flight. */
  follow(requests: readonly DiskRequest[]): void {
    for (const request of requests) {
      this.#followed.set(request.sequence, { work: workOf(request), reach: this.steady.unflushed.beginFlush() })
    }
  }

  #followAnswer({ sequence, status }: DiskAnswer): void {
    const followed = this.#followed.get(sequence)
    if (!followed) return
    this.#followed.delete(sequence)
    const { work, reach } = followed
    if (work.operation === 'flush') this.steady.unflushed.onFlushed(reach)
    else if (work.operation !== 'read' && status === 'ok') this.steady.unflushed.onCompleted(work)
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

function workOf({ operation, sector, lengthBytes, data }: DiskRequest): DiskWork {
  const offset = Number(sector) * sectorBytes
  switch (operation) {
    case 'write':
      return { operation, offset, data: data! }
    case 'flush':
      return { operation }
    case 'discard':
      return { operation: 'trim', offset, lengthBytes }
    default:
      return { operation, offset, lengthBytes }
  }
}
