/**
 * The metrics of one VM in Prometheus' text format (exposition format 0.0.4): a pure function of what its processes say of
 * themselves. Base units, prefix `understudy_`.
 *
 * Counters belong to processes: after a failover the survivor counts its own, so most carry the label `replica`, and
 * Prometheus' `rate` does the rest.
 */

import type { LanStatistics } from '../lan/lan.ts'
import { causes } from '../log/entry.ts'
import type { DelaySummary } from './delay-histogram.ts'
import type { PairStatus } from './local-pair.ts'
import { type DelayCause, delayCauses } from './output-delays.ts'
import type { ReplicaStatus } from './replica-status.ts'

type Labels = Readonly<Record<string, string>>

interface Sample {
  readonly labels: Labels
  readonly value: number
}

interface Family {
  readonly name: string
  readonly type: 'gauge' | 'counter'
  readonly help: string
  readonly samples: readonly Sample[]
}

const roles = ['primary', 'backup', 'halted'] as const

/** `lan`: absent for a VM without a network, or when its process does not answer. */
export function renderMetrics(status: PairStatus, lan: LanStatistics | undefined): string {
  return families(status, lan)
    .filter(({ samples }) => samples.length > 0)
    .map((family) => renderFamily(family, status.name))
    .join('')
}

function families(status: PairStatus, lan: LanStatistics | undefined): Family[] {
  const { replicas } = status
  const primary = replicas.find(({ role }) => role === 'primary')
  const behind = replicas.filter(({ role }) => role === 'backup').map(({ instructions }) => instructions)
  const survivors = replicas.filter(({ failover }) => failover !== undefined)
  const port = lan?.machines.find(({ name }) => name === status.name)
  const gauge = (name: string, help: string, samples: readonly Sample[]): Family => ({
    name,
    type: 'gauge',
    help,
    samples,
  })
  const counter = (name: string, help: string, samples: readonly Sample[]): Family => ({
    name: `${name}_total`,
    type: 'counter',
    help,
    samples,
  })
  const each = (value: (replica: ReplicaStatus) => number): Sample[] =>
    replicas.map((replica) => ({ labels: { replica: replica.name }, value: value(replica) }))
  const ofPrimary = (value: (status: ReplicaStatus) => number | undefined): Sample[] => {
    const number = primary && value(primary)
    return number === undefined ? [] : [{ labels: {}, value: number }]
  }
  return [
    gauge('protected', '1 while the loss of the primary would go unnoticed.', [
      { labels: {}, value: Number(status.protection === 'protected') },
    ]),
    gauge(
      'backups',
      'Backups that may take over.',
      ofPrimary(({ backups }) => backups.filter(({ isListed }) => isListed).length),
    ),
    gauge(
      'role',
      '1 for the role that the replica has.',
      replicas.flatMap(({ name, role }) =>
        roles.map((each) => ({ labels: { replica: name, role: each }, value: Number(each === role) })),
      ),
    ),
    gauge(
      'reach',
      '1 while what the replica needs answers it.',
      replicas.flatMap(({ name, reach }) => [
        { labels: { replica: name, of: 'disk' }, value: Number(reach.disk) },
        { labels: { replica: name, of: 'lan' }, value: Number(reach.lan) },
      ]),
    ),
    gauge(
      'generation',
      'The generation that the live replica holds.',
      ofPrimary(({ generation }) => generation),
    ),
    counter(
      'guest_instructions',
      'Instructions attempted by the guest.',
      each(({ instructions }) => instructions),
    ),
    counter(
      'guest_seconds',
      "Guest time since the machine's creation.",
      each(({ guestSeconds }) => guestSeconds),
    ),
    gauge(
      'lag_instructions',
      'How far the slowest backup is behind.',
      primary && behind.length > 0
        ? [{ labels: {}, value: Math.max(0, primary.instructions - Math.min(...behind)) }]
        : [],
    ),
    gauge(
      'lag_seconds',
      'Log that the slowest backup has received and not replayed.',
      ofPrimary(({ lagMs }) => (lagMs === undefined ? undefined : lagMs / 1000)),
    ),
    counter(
      'log_bytes',
      'Log written, by what it was written for.',
      primary
        ? causes.map((cause) => ({ labels: { replica: primary.name, cause }, value: primary.logBytesByCause[cause] }))
        : [],
    ),
    gauge(
      'log_unacked_bytes',
      'Log sent and not acknowledged.',
      ofPrimary(({ flow }) => flow?.unacknowledgedBytes),
    ),
    counter(
      'channel_bytes',
      'Messages on the logging channel.',
      replicas.flatMap(({ name, channelBytes }) => [
        { labels: { replica: name, dir: 'sent' }, value: channelBytes.sent },
        { labels: { replica: name, dir: 'received' }, value: channelBytes.received },
      ]),
    ),
    gauge(
      'output_delay_seconds',
      'How long outputs waited for backups, by what for: quantiles since the replica went live.',
      primary ? delayCauses.flatMap((cause) => outputDelay(cause, primary.outputDelays[cause])) : [],
    ),
    gauge(
      'outputs_held',
      'Outputs that wait for an acknowledgement.',
      ofPrimary(({ flow }) => flow?.heldOutputs),
    ),
    gauge(
      'outputs_held_bytes',
      'The bytes of these.',
      ofPrimary(({ flow }) => flow?.heldBytes),
    ),
    gauge(
      'outputs_unconfirmed',
      'Outputs that left and that their receivers have not confirmed.',
      ofPrimary(({ flow }) => flow?.unconfirmedOutputs),
    ),
    gauge(
      'cpu_ratio',
      'Share of real time that the primary may run; below 1 the backup cannot keep up.',
      ofPrimary(({ flow }) => (flow === undefined ? undefined : flow.cpuPercent / 100)),
    ),
    counter(
      'failovers',
      'Times that this replica went live.',
      each(({ failover }) => Number(failover !== undefined)),
    ),
    counter(
      'outputs_repeated',
      'Outputs that a replica going live found written (console), or issued again (disk).',
      replicas.flatMap(({ name, repeats }) => [
        { labels: { replica: name, kind: 'console' }, value: repeats.console },
        { labels: { replica: name, kind: 'disk' }, value: repeats.disk },
      ]),
    ),
    gauge('failover_seconds', 'The last failover, by its phases.', survivors.flatMap(failoverPhases)),
    counter(
      'digest_checks',
      'Comparisons of the whole machine, by result.',
      replicas.flatMap(({ name, digestChecks, divergences }) => [
        { labels: { replica: name, result: 'match' }, value: digestChecks },
        { labels: { replica: name, result: 'divergence' }, value: divergences },
      ]),
    ),
    counter(
      'net_frames',
      "Frames through the machine's port of the switch.",
      port
        ? [
            { labels: { dir: 'in' }, value: Number(port.lastFrameId) },
            { labels: { dir: 'out' }, value: port.outputsForwarded },
          ]
        : [],
    ),
    counter(
      'net_frames_dropped',
      'Frames of the machine that the switch dropped.',
      port
        ? [
            { labels: { reason: 'repeat' }, value: port.repeatsDropped },
            { labels: { reason: 'fenced' }, value: port.fencedDropped },
            { labels: { reason: 'forged' }, value: port.forgedDropped },
          ]
        : [],
    ),
  ]
}

function outputDelay(cause: DelayCause, { medianMs, p99Ms }: DelaySummary): Sample[] {
  return [
    { labels: { cause, quantile: '0.5' }, value: medianMs / 1000 },
    { labels: { cause, quantile: '0.99' }, value: p99Ms / 1000 },
  ]
}

function failoverPhases({ name, failover }: ReplicaStatus): Sample[] {
  if (!failover) return []
  const phase = (phase: string, fromMs: number, toMs: number): Sample => ({
    labels: { replica: name, phase },
    value: (toMs - fromMs) / 1000,
  })
  const { detectedAt, arbitratedAt, replayedAt, firstOutputAt } = failover
  return [
    phase('arbitration', detectedAt, arbitratedAt),
    phase('replay', arbitratedAt, replayedAt),
    ...(firstOutputAt === undefined ? [] : [phase('first_output', replayedAt, firstOutputAt)]),
  ]
}

function renderFamily({ name, type, help, samples }: Family, vm: string): string {
  const full = `understudy_${name}`
  const lines = samples.map(({ labels, value }) => `${full}{${renderLabels({ vm, ...labels })}} ${value}\n`)
  return `# HELP ${full} ${help}\n# TYPE ${full} ${type}\n${lines.join('')}`
}

function renderLabels(labels: Labels): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}="${value.replace(/[\\"\n]/g, (c) => (c === '\n' ? '\\n' : `\\${c}`))}"`)
    .join(',')
}
