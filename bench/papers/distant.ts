/**
 * A backup 50 ms away, there and back, as VMware FT's "long distance": the logging channel's messages are delayed in both
 * directions. A guest that only computes must not notice; an output waits one round trip more, that of its acknowledgement.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { RedisConnection } from '../../src/host/redis-load.ts'
import type { FaultyVm } from '../../test/faults/faulty-vm.ts'
import { withFaultyVm } from '../support/faulty-guest.ts'
import { round2 } from '../support/figures.ts'
import type { Part, Report } from './part.ts'
import type { Samples } from './samples.ts'

const roundTripMs = 50
const pings = 40
const computingMs = 5000
const settleMs = 1500

interface Measured {
  readonly mips: number
  readonly pingMs: number
}

async function measure(vm: FaultyVm, isQuick: boolean): Promise<Measured> {
  await sleep(settleMs)
  const connection = await RedisConnection.connect(vm.port)
  const times: number[] = []
  while (times.length < pings) {
    const startedAt = performance.now()
    if ((await connection.command('PING')) === undefined) throw new Error('the connection ended')
    times.push(performance.now() - startedAt)
  }
  connection.close()
  await vm.type('while :; do :; done & spinner=$!\n')
  await sleep(settleMs)
  const [before, startedAt] = [(await vm.replicaIn('primary')).instructions, performance.now()]
  await sleep(isQuick ? computingMs / 2 : computingMs)
  const instructions = (await vm.replicaIn('primary')).instructions - before
  const mips = instructions / (performance.now() - startedAt) / 1000
  await vm.type('kill $spinner\n')
  return { mips, pingMs: times.sort((x, y) => x - y)[pings / 2]! }
}

function report(samples: Samples): Report | undefined {
  if (!samples.has('distant')) return undefined
  const of = (figure: string): number => samples.median('distant', figure)!
  const ratio = samples.of('distant').map(({ nearMips, farMips }) => farMips! / nearMips!)
  const throughput = [...ratio].sort((x, y) => x - y)[ratio.length >> 1]!
  const addedMs = of('farPingMs') - of('nearPingMs')
  return {
    text: `Medians of ${ratio.length} turns. VMware: "up to 20 ms" more for an output over a long distance.

| backup | a spinning guest, MIPS | PING, ms | added, round trips |
|---|---:|---:|---:|
| on the same host | ${of('nearMips').toFixed(0)} | ${of('nearPingMs').toFixed(1)} | |
| ${roundTripMs} ms away | ${of('farMips').toFixed(0)} (× ${throughput.toFixed(3)}) | ${of('farPingMs').toFixed(1)} | ${(addedMs / roundTripMs).toFixed(2)} |`,
    figures: {
      round_trip_ms: roundTripMs,
      throughput_ratio: round2(throughput),
      added_output_delay_ms: round2(addedMs),
      added_round_trips: round2(addedMs / roundTripMs),
    },
  }
}

export const distantPart: Part = {
  name: 'distant',
  title: 'A backup 50 ms away',
  async measure({ isQuick, samples, say }) {
    for (let turn = 0; turn < (isQuick ? 1 : 2); turn++) {
      await withFaultyVm({}, say, async (vm) => {
        // What the guest runs is translated then, on both.
        await measure(vm, true)
        const near = await measure(vm, isQuick)
        await vm.fault('backup', { kind: 'delayChannel', oneWayMs: roundTripMs / 2 })
        const far = await measure(vm, isQuick)
        const { isProtected, divergences } = await vm.replicaIn('primary')
        if (!isProtected || divergences > 0) throw new Error('the distant backup was lost')
        await vm.powerOffAndCheck()
        samples.add('distant', {
          ...{ nearMips: near.mips, nearPingMs: near.pingMs },
          ...{ farMips: far.mips, farPingMs: far.pingMs },
        })
        const [nearMips, farMips] = [near, far].map(({ mips }) => mips.toFixed(0))
        const [nearPing, farPing] = [near, far].map(({ pingMs }) => pingMs.toFixed(1))
        say(`  near: ${nearMips} MIPS, PING ${nearPing} ms; far: ${farMips} MIPS, PING ${farPing} ms`)
      })
    }
  },
  report,
}
