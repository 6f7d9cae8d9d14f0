/** `understudy status`: how a VM is doing, once or again and again. */

import { setTimeout as sleep } from 'node:timers/promises'
import { type PairStatus, pairStatus } from '../host/local-pair.ts'
import { printJson } from './output.ts'

const redrawIntervalMs = 1000

export function describeStatus(status: PairStatus): string[] {
  const { name, protection, replicas } = status
  return [
    `${name}: ${protection}`,
    ...absences(status),
    ...replicas.map(({ name, role, pid, detail }) => `  ${name}  ${role.padEnd(9)} pid ${pid}  ${detail}`),
  ]
}

/** What this host cannot know, of a VM that is spread over hosts. */
function absences({ protection, replicas, others }: PairStatus): string[] {
  if (protection === 'elsewhere') {
    return ['  no replica on this host', ...others.map(({ name, pid }) => `  ${name.padEnd(7)} pid ${pid}`)]
  }
  const roles = replicas.map(({ role }) => role)
  if (roles.includes('backup') && !roles.includes('primary')) return ['  the primary is not on this host']
  if (roles.includes('backup')) return []
  const elsewhere = replicas.flatMap(({ backups, keeper }) =>
    backups.map(({ name }) => `  backup ${name} is on ${keeper?.hosts[name] ?? 'another host'}`),
  )
  return protection === 'protected' ? elsewhere : []
}

/** One line of what an operator is paged for: no counters, so that it changes only when something happened. */
export function summarizeStatus({ name, protection, replicas }: PairStatus): string {
  const parts = replicas.map(({ name, role, generation, isOff, failover, divergences }) => {
    const events = [isOff && 'guest is off', failover && `after a failover: ${failover.cause}`]
    if (divergences > 0) events.push(`${divergences} divergences`)
    return [`${name} ${role} in generation ${generation}`, ...events.filter(Boolean)].join(', ')
  })
  return [`${name}: ${protection}`, ...parts].join('; ')
}

/** Until SIGINT. On a terminal the whole status is redrawn; elsewhere a line (or a JSON object) tells each change. */
export async function watchStatus(vm: string, isJson: boolean): Promise<void> {
  const interrupted = new AbortController()
  process.once('SIGINT', () => interrupted.abort())
  const isRedrawn = process.stdout.isTTY === true && !isJson
  let last = ''
  while (!interrupted.signal.aborted) {
    const status = await pairStatus(vm)
    const summary = summarizeStatus(status)
    if (isRedrawn) process.stdout.write(`\x1b[H\x1b[J${describeStatus(status).join('\n')}\n`)
    else if (summary !== last) {
      if (isJson) printJson({ time: new Date().toISOString(), ...status })
      else process.stdout.write(`${new Date().toISOString()} ${summary}\n`)
    }
    last = summary
    await sleep(redrawIntervalMs, undefined, { signal: interrupted.signal }).catch(() => {})
  }
}
