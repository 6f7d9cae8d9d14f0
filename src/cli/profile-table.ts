/** A machine's profile as a table for people. */

import type { MachineProfile } from '../host/profiler.ts'

type Row = readonly [name: string, figure: string, remark?: string]

const whole = new Intl.NumberFormat('en-US')

function figures(counts: Readonly<Record<string, number>>): Row[] {
  return Object.entries(counts)
    .filter(([, count]) => count > 0)
    .sort(([, one], [, other]) => other - one)
    .map(([name, count]) => [`  ${name}`, whole.format(count)])
}

/** How often, by the work done; nothing where nothing ran. */
function perThousand(count: number, instructions: number): string {
  return instructions === 0 ? '' : `${((count / instructions) * 1000).toFixed(3)} per 1000 instructions`
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0)
}

function rowsOf(profile: MachineProfile): Row[] {
  const { instructions, tlbMisses, deviceAccesses, regions } = profile
  const total = Number(instructions.interpreter + instructions.regions)
  const share = (count: bigint): string => (total === 0 ? '' : `${((Number(count) / total) * 100).toFixed(1)} %`)
  const deviceCount = deviceAccesses.loads + deviceAccesses.stores
  const mips = profile.cpuMs === 0 ? 0 : total / 1000 / profile.cpuMs
  return [
    ['instructions', whole.format(total), `${mips.toFixed(0)} million per second of CPU time`],
    ['  interpreter', whole.format(instructions.interpreter), share(instructions.interpreter)],
    ['  regions', whole.format(instructions.regions), share(instructions.regions)],
    ['CPU time', `${(profile.cpuMs / 1000).toFixed(2)} s`, 'of the thread that ran the machine'],
    ['exits of the engine', whole.format(sum(profile.exits)), perThousand(sum(profile.exits), total)],
    ...figures(profile.exits),
    ['entries into the core', whole.format(profile.coreRuns), 'timers and long runs split a run'],
    ['TLB misses', whole.format(sum(tlbMisses)), perThousand(sum(tlbMisses), total)],
    ...figures(tlbMisses),
    ['translations dropped', whole.format(profile.translationFlushes)],
    ['traps', whole.format(sum(profile.traps)), perThousand(sum(profile.traps), total)],
    ...figures(profile.traps),
    ['device accesses', whole.format(deviceCount), perThousand(deviceCount, total)],
    ...Object.entries(profile.devices).map(
      ([name, { loads, stores }]): Row => [
        `  ${name}`,
        whole.format(loads + stores),
        `${whole.format(loads)} loads, ${whole.format(stores)} stores`,
      ],
    ),
    ['instructions decoded', whole.format(profile.decodedInstructions)],
    ['stores into code', whole.format(profile.storesIntoCode)],
    ['regions built', whole.format(regions.built), `in ${whole.format(regions.modules)} modules`],
    ['  guest instructions', whole.format(regions.translatedInstructions)],
    ['  bytes built', whole.format(regions.builtBytes), `${whole.format(regions.liveBytes)} alive`],
    ['  lost to stores', whole.format(regions.invalidated)],
    ['  lost to the cap', whole.format(regions.evicted)],
    ['  translation time', `${(regions.translationMs / 1000).toFixed(2)} s`],
    ['  entered', whole.format(regions.entries)],
    ...figures(regions.leaves).map(([name, figure]): Row => [`  left:${name.slice(1)}`, figure]),
  ]
}

/** The lines of the table, aligned. */
export function profileTable(profile: MachineProfile): string {
  const rows = rowsOf(profile)
  const nameWidth = Math.max(...rows.map(([name]) => name.length))
  const figureWidth = Math.max(...rows.map(([, figure]) => figure.length))
  return rows
    .map(([name, figure, remark = '']) =>
      `${name.padEnd(nameWidth)}  ${figure.padStart(figureWidth)}  ${remark}`.trimEnd(),
    )
    .join('\n')
}
