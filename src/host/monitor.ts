/**
 * The HTTP door of one VM for monitoring: `/metrics` for Prometheus, `/readyz` for whoever balances load or pages people.
 * It keeps nothing: each request asks the VM's processes, and one that does not answer in time counts as gone.
 *
 * `/readyz` is 200 only while the VM is protected, 503 otherwise: a VM that serves but could not survive its host is not
 * as it should be.
 */

import { createServer, type ServerResponse } from 'node:http'
import type { LanStatistics } from '../lan/lan.ts'
import { formatAddress, parseAddress } from '../net/address.ts'
import { listenOn } from '../net/listen.ts'
import { ask } from './control.ts'
import { statusOf } from './local-pair.ts'
import { renderMetrics } from './metrics.ts'
import type { VmFolder } from './vm-folder.ts'

export interface Monitor {
  /** `HOST:PORT`, or the path of the unix socket. */
  readonly address: string
  readonly close: () => void
}

const answerTimeoutMs = 1000

/**
 * @param listen what `[metrics] listen` says: `HOST:PORT`, in plain text as Prometheus asks, or `unix:/PATH`
 * @throws WorldError when the address cannot be had
 */
export async function startMonitor(folder: VmFolder, listen: string): Promise<Monitor> {
  const server = createServer((request, response) => {
    answer(folder, request.method ?? '', request.url ?? '', response).catch((error: Error) =>
      reply(response, 500, `${error.message}\n`),
    )
  })
  const bound = await listenOn(server, parseAddress(listen), 'metrics')
  const close = (): void => {
    server.close()
    server.closeAllConnections()
  }
  return { address: bound.path ?? formatAddress(bound), close }
}

async function answer(folder: VmFolder, method: string, url: string, response: ServerResponse): Promise<void> {
  const path = url.split('?')[0]
  if (path !== '/metrics' && path !== '/readyz') {
    reply(response, 404, 'here are /metrics and /readyz\n')
    return
  }
  if (method !== 'GET' && method !== 'HEAD') {
    reply(response, 405, 'GET only\n')
    return
  }
  const status = await statusOf(folder, answerTimeoutMs)
  if (path === '/readyz') {
    reply(response, status.protection === 'protected' ? 200 : 503, `${status.protection}\n`)
    return
  }
  const lan = await ask<LanStatistics>(folder.controlPath('lan'), 'status', {}, answerTimeoutMs)
  reply(response, 200, renderMetrics(status, lan), 'text/plain; version=0.0.4; charset=utf-8')
}

function reply(response: ServerResponse, code: number, text: string, type = 'text/plain; charset=utf-8'): void {
  response.writeHead(code, { 'content-type': type, 'cache-control': 'no-store' })
  response.end(text)
}
