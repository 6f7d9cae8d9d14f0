/**
 * The tables of both papers, ours beside theirs: `npm run bench:papers -- --help`.
 *
 * epoch: Bressoud & Schneider's normalized performance by the length of an epoch. exact, network, delay: VMware FT's tables
 * 1 and 2 and what the Output Rule costs an output, on a Debian guest in real processes. failover, distant: how long a kill of
 * the primary is noticed, and what a distant backup costs, on VMs of their own.
 */

import { join } from 'node:path'
import type { ReadyGuest } from '../../src/host/redis-vm.ts'
import { benchGuest } from '../engine/guest-work.ts'
import {
  type BenchOptions,
  benchCommand,
  benchOptions,
  type Measured,
  runBench,
  say,
} from '../support/bench-command.ts'
import { BenchVm, type BenchVms, startBenchVms } from '../support/bench-vm.ts'
import { delayPart } from './delay.ts'
import { distantPart } from './distant.ts'
import { epochPart } from './epoch.ts'
import { exactPart } from './exact.ts'
import { failoverPart } from './failover.ts'
import { networkPart } from './network.ts'
import type { Part, Session } from './part.ts'
import { Samples } from './samples.ts'

const parts: readonly Part[] = [epochPart, exactPart, networkPart, delayPart, failoverPart, distantPart]

const memory = '512M'

const name = 'bench:papers'
const partNames = parts.map((part) => part.name)
const command = benchCommand(name, "The papers' tables, ours beside theirs. About half an hour on a quiet machine.", [
  benchOptions.quick('one short round, at most five minutes'),
  benchOptions.rounds('3; with --quick 1'),
  benchOptions.only('only these parts', partNames),
  benchOptions.guest(),
  benchOptions.waitMinutes(),
  benchOptions.continue(),
  benchOptions.write(),
  benchOptions.json(partNames.map((part) => `"${part}"`).join(',')),
])

async function measureParts(options: BenchOptions, samples: Samples, folder: string): Promise<void> {
  const chosen = parts.filter((part) => options.only?.includes(part.name) ?? true)
  const rounds = options.rounds ?? (options.quick ? 1 : 3)
  let guest: Promise<ReadyGuest> | undefined
  let vms: Promise<BenchVms> | undefined
  let readingVm: Promise<BenchVm> | undefined
  const anyGuest = (): Promise<ReadyGuest> => {
    guest ??= benchGuest(folder, options.guest, say)
    return guest
  }
  const startVms = async (): Promise<BenchVms> => {
    say('booting a protected and an unprotected VM')
    return await startBenchVms(await anyGuest(), folder, { memory })
  }
  const startReadingVm = async (): Promise<BenchVm> => {
    say('booting a VM whose backup reads the disk itself')
    return await BenchVm.start('protected', await anyGuest(), join(folder, 'reading'), { memory, backupReads: true })
  }
  const session: Session = {
    isQuick: options.quick ?? false,
    folder,
    samples,
    vms: () => {
      vms ??= startVms()
      return vms
    },
    readingVm: () => {
      readingVm ??= startReadingVm()
      return readingVm
    },
    say,
  }
  try {
    for (let round = 0; round < rounds; round++) {
      for (const part of chosen) {
        say(`${part.name}, round ${round + 1} of ${rounds}`)
        await part.measure(session, round)
        if (options.continue) samples.write(options.continue)
      }
    }
  } finally {
    await vms?.then((both) => both.end())
    await readingVm?.then((vm) => vm.end())
  }
}

async function measure(options: BenchOptions, folder: string): Promise<Measured> {
  const samples = options.continue ? Samples.read(options.continue) : new Samples()
  await measureParts(options, samples, folder)
  const reports = parts.flatMap((part) => {
    const report = part.report(samples)
    return report ? [{ ...part, ...report }] : []
  })
  const sections = reports.map(({ title, text }) => `### ${title}\n\n${text.trim()}`)
  return {
    details: options.quick ? 'the quick form' : 'the full form',
    text: sections.join('\n\n'),
    figures: Object.fromEntries(reports.map((report) => [report.name, report.figures])),
  }
}

await runBench(name, command, measure)
