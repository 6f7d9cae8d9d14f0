/**
 * The tables of both papers, ours beside theirs:
 *
 *     npm run bench:papers -- [--quick] [--json] [--write] [--only PART,…] [--rounds N] [--guest FOLDER] [--wait-minutes M] [--continue FILE]
 *
 * epoch: Bressoud & Schneider's normalized performance by the length of an epoch. exact, network, delay: VMware FT's tables
 * 1 and 2 and what the Output Rule costs an output, on a Debian guest in real processes. failover, distant: how long a kill of
 * the primary is noticed, and what a distant backup costs, on VMs of their own.
 *
 * --quick: one short round, at most five minutes on a quiet machine; otherwise rounds as each part takes them, about fifteen
 * minutes. --only takes names of parts. --continue adds what this run measures to what FILE has, keeps all of it there and
 * reports on all: a long measurement in several pieces (the file must be of the same commit). --write puts the tables into
 * docs/BENCHMARKS.md. --json: the last line is an object.
 */

import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { ReadyGuest } from '../../src/host/redis-vm.ts'
import { benchGuest } from '../engine/guest-work.ts'
import { BenchVm, type BenchVms, startBenchVms } from '../support/bench-vm.ts'
import { conclude, conditions, inBenchFolder } from '../support/conclusion.ts'
import { waitUntilQuiet } from '../support/host.ts'
import { delayPart } from './delay.ts'
import { distantPart } from './distant.ts'
import { epochPart } from './epoch.ts'
import { exactPart } from './exact.ts'
import { failoverPart } from './failover.ts'
import { networkPart } from './network.ts'
import type { Part, Session } from './part.ts'
import { Samples } from './samples.ts'

const parts: readonly Part[] = [epochPart, exactPart, networkPart, delayPart, failoverPart, distantPart]

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    only: { type: 'string' },
    rounds: { type: 'string' },
    guest: { type: 'string' },
    'wait-minutes': { type: 'string', default: '0' },
    continue: { type: 'string' },
  },
})

const memory = '512M'

const say = (line: string): void => console.error(line)

function chosenParts(): readonly Part[] {
  const names = options.only?.split(',')
  const chosen = parts.filter(({ name }) => names?.includes(name) ?? true)
  if (chosen.length < (names?.length ?? 1)) throw new Error(`--only takes ${parts.map(({ name }) => name).join(', ')}`)
  return chosen
}

async function measure(chosen: readonly Part[], rounds: number, samples: Samples, folder: string): Promise<void> {
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
    isQuick: options.quick,
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

async function main(folder: string): Promise<void> {
  const rounds = Number(options.rounds ?? (options.quick ? 1 : 3))
  if (!Number.isSafeInteger(rounds) || rounds < 1) throw new Error('--rounds takes a count')
  const chosen = chosenParts()
  const load = await waitUntilQuiet(Number(options['wait-minutes']) * 60_000, (now) =>
    say(`waiting for a quiet machine (load ${now.toFixed(1)})`),
  )
  const samples = options.continue ? Samples.read(options.continue) : new Samples()
  await measure(chosen, rounds, samples, folder)
  const reports = parts.flatMap((part) => {
    const report = part.report(samples)
    return report ? [{ ...part, ...report }] : []
  })
  const sections = reports.map(({ title, text }) => `### ${title}\n\n${text.trim()}`)
  conclude(
    {
      name: 'bench:papers',
      text: [conditions(load, options.quick ? 'the quick form' : 'the full form'), ...sections].join('\n\n'),
      figures: Object.fromEntries(reports.map(({ name, figures }) => [name, figures])),
      load,
    },
    options,
  )
}

await inBenchFolder(main)
