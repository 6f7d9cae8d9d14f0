/** Fake connections to a fake disk server, opened by an export's name as `NbdClient` does it. */

import { WorldError } from '../base/assert.ts'
import { NbdError } from '../disk/nbd-error.ts'
import type { DiskLink, DiskOutcome, SteadyRequests } from '../disk/steady-requests.ts'
import type { Actor } from './actor.ts'
import type { DiskNews, FromDisk, ToDisk } from './disk-server.ts'
import type { End, Network } from './network.ts'

/** Who opens what, where. */
export interface DiskRoute {
  readonly actor: Actor
  readonly network: Network
  /** The server's host, and its address there. */
  readonly host: string
  readonly address: string
  /** With the replica's pass, or without. */
  readonly exportName: string
}

/** A connection that can also tell what is told of an own copy. */
export interface SimDiskLink extends DiskLink {
  tell(news: DiskNews, answered: (news: readonly bigint[] | NbdError) => void): void
}

const connectTimeoutMs = 1000

/** Opens a connection for these requests, and reports to them. */
export function openSteadily(steady: SteadyRequests, route: DiskRoute): void {
  const link = openDisk(
    route,
    (opened) => {
      if (opened instanceof WorldError) steady.onConnectFailed(opened)
      else steady.onConnected(opened)
    },
    (error) => steady.onLinkEnded(link(), error),
  )
}

/**
 * @param answered once: with the open connection, or why there is none
 * @param ended the open connection is over
 * @returns the open connection, for who was answered with it
 */
export function openDisk(
  { actor, network, host, address, exportName }: DiskRoute,
  answered: (link: SimDiskLink | WorldError) => void,
  ended: (error: NbdError) => void,
): () => SimDiskLink {
  let attempt: 'open' | 'over' = 'open'
  let opening: End<ToDisk, FromDisk> | undefined
  let link: SimDiskLink | undefined
  const failed = (error: WorldError): void => {
    if (attempt === 'over') return
    attempt = 'over'
    opening?.close()
    answered(error)
  }
  actor.after(connectTimeoutMs * 1000, () => failed(new NbdError('unreachable', 'no answer')))
  network.connect<ToDisk, FromDisk>(actor, host, address, (end) => {
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
          link = linkOver(actor, end, message.bootId, ended)
          answered(link)
        } else if (message.kind === 'refused') {
          failed(new NbdError(message.isFenced ? 'fenced' : 'refused', message.detail))
        }
      },
      onClosed: () => failed(new NbdError('unreachable', 'the connection was closed')),
    })
    end.send({ kind: 'open', name: exportName })
  })
  return () => link!
}

function linkOver(
  actor: Actor,
  end: End<ToDisk, FromDisk>,
  bootId: string | undefined,
  ended: (error: NbdError) => void,
): SimDiskLink {
  const pending = new Map<number, (outcome: DiskOutcome) => void>()
  const pendingNews = new Map<number, (news: readonly bigint[] | NbdError) => void>()
  let nextId = 1
  let isOver = false
  const onOver = (): void => {
    if (isOver) return
    isOver = true
    const error = new NbdError('connection-lost', 'the connection was closed')
    const lost = [...pending.values(), ...pendingNews.values()]
    pending.clear()
    pendingNews.clear()
    for (const answered of lost) answered(error)
    ended(error)
  }
  const isRefused = (answered: (error: NbdError) => void): boolean => {
    if (isOver) actor.after(0, () => answered(new NbdError('connection-lost', 'the connection is over')))
    return isOver
  }
  end.listen({
    onMessage: (message) => {
      if (message.kind === 'told') {
        const answered = pendingNews.get(message.id)
        pendingNews.delete(message.id)
        answered?.(message.news)
      } else if (message.kind === 'done' || message.kind === 'failed') {
        const answered = pending.get(message.id) ?? pendingNews.get(message.id)
        pending.delete(message.id)
        pendingNews.delete(message.id)
        if (message.kind === 'failed') answered?.(new NbdError(message.reason, `the disk says ${message.reason}`))
        else (answered as ((outcome: DiskOutcome) => void) | undefined)?.(message.data)
      }
    },
    onClosed: onOver,
  })
  return {
    bootId,
    send: (work, answered) => {
      if (isRefused(answered)) return
      const id = nextId++
      pending.set(id, answered)
      end.send({ kind: 'request', id, work })
    },
    tell: (news, answered) => {
      if (isRefused(answered)) return
      const id = nextId++
      pendingNews.set(id, answered)
      end.send({ kind: 'tell', id, news })
    },
    destroy: () => {
      end.close()
      actor.after(0, onOver)
    },
  }
}
