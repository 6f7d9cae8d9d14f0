/** What something cost a VM, and what its logging channel carried meanwhile: the sample behind most rows of VMware's tables. */

import { type BenchVm, type Cost, type Mode, modes } from '../support/bench-vm.ts'
import { medianOf } from '../support/figures.ts'
import type { Sample, Samples } from './samples.ts'

/**
 * Seconds of the work (wall, hart's thread, all threads of the replicas); how much of it was done; bytes that the primary
 * sent on the logging channel and got back, and the seconds in which it did.
 */
export interface MeasuredCost extends Cost {
  readonly amount: number
  readonly sentBytes: number
  readonly receivedBytes: number
  readonly channelSeconds: number
}

/** @param work what it did, in whatever unit both modes use, and its cost if that is not the whole time that it took */
export async function costOf(
  vm: BenchVm,
  work: () => Promise<{ readonly amount: number; readonly cost?: Cost; readonly seconds?: number }>,
): Promise<MeasuredCost> {
  const before = (await vm.primary()).channelBytes
  const startedAt = performance.now()
  const stopwatch = await vm.stopwatch()
  const { amount, cost = stopwatch.read(), seconds = cost.wall } = await work()
  const after = (await vm.primary()).channelBytes
  const channelSeconds = (performance.now() - startedAt) / 1000
  await vm.requireMode()
  return {
    ...cost,
    wall: seconds,
    amount,
    sentBytes: after.sent - before.sent,
    receivedBytes: after.received - before.received,
    channelSeconds,
  }
}

export function addCost(samples: Samples, row: string, mode: Mode, cost: MeasuredCost): void {
  samples.add(`${row}/${mode}`, { ...cost } satisfies Sample)
}

export interface CostRow {
  /** Protected / unprotected, of what was done in a second: VMware's measure. 1 is free of charge. */
  readonly ratio: number | undefined
  /** The same of a second of the primary hart's CPU time: what is left where each replica has a core of its own. */
  readonly cpuRatio: number | undefined
  /** Done in a second. */
  readonly rates: Readonly<Record<Mode, number | undefined>>
  /** To the backup. */
  readonly logBitsPerSecond: number | undefined
  /** From it. */
  readonly backBitsPerSecond: number | undefined
  readonly rounds: number
}

/** @param unprotectedRow whose unprotected samples it is compared with */
export function costRow(samples: Samples, row: string, unprotectedRow = row): CostRow {
  const of = (mode: Mode): readonly Sample[] =>
    samples.of(mode === 'protected' ? `${row}/${mode}` : `${unprotectedRow}/${mode}`)
  const rate = (mode: Mode, per: 'wall' | 'hart' | 'channelSeconds', what: 'amount' | 'sentBytes' | 'receivedBytes') =>
    medianOf(of(mode).map((sample) => sample[what]! / sample[per]!))
  const ratio = (per: 'wall' | 'hart'): number | undefined => {
    const [without, with_] = modes.map((mode) => rate(mode, per, 'amount'))
    return without !== undefined && with_ !== undefined ? with_ / without : undefined
  }
  const bits = (what: 'sentBytes' | 'receivedBytes'): number | undefined => {
    const bytes = rate('protected', 'channelSeconds', what)
    return bytes === undefined ? undefined : bytes * 8
  }
  return {
    ratio: ratio('wall'),
    cpuRatio: ratio('hart'),
    rates: { unprotected: rate('unprotected', 'wall', 'amount'), protected: rate('protected', 'wall', 'amount') },
    logBitsPerSecond: bits('sentBytes'),
    backBitsPerSecond: bits('receivedBytes'),
    rounds: samples.of(`${row}/protected`).length,
  }
}
