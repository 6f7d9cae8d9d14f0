/** Trials one after the other on one VM, and their sum. The VM is started again whenever a trial has used it up. */

import { FaultyVm, type FaultyVmOptions } from './faulty-vm.ts'
import { runTrial, type TrialReport } from './trial.ts'

/** The sum, in the words of the command's JSON. */
export interface Totals {
  trials: number
  lost: number
  duplicated: number
  resets: number
  divergences: number
  two_live: number
  unclean_filesystems: number
  /** Trials that did not come to their end: nobody went on, the guest hung. There if there are any. */
  failed?: number
}

export interface Campaign {
  readonly totals: Totals
  readonly reports: readonly (TrialReport & { readonly holds: boolean })[]
}

export async function runCampaign(
  seeds: readonly number[],
  say: (line: string) => void,
  options: FaultyVmOptions = {},
): Promise<Campaign> {
  const totals: Totals = {
    trials: 0,
    lost: 0,
    duplicated: 0,
    resets: 0,
    divergences: 0,
    two_live: 0,
    unclean_filesystems: 0,
  }
  const reports: (TrialReport & { holds: boolean })[] = []
  let vm: FaultyVm | undefined
  try {
    for (const [index, seed] of seeds.entries()) {
      vm ??= await FaultyVm.create(say, options)
      const report = await runTrial(vm, seed, index === seeds.length - 1, say)
      add(totals, report)
      const holds = promisesHold(report)
      reports.push({ ...report, holds })
      say(describe(report, holds))
      if (holds) continue
      say(`  repeat it with: npm run faults -- --kills 1 --seed ${seed}${wordsOf(options)}`)
      say(`  its traces are kept in ${vm.statePath}`)
      await vm.remove(true)
      vm = undefined
    }
  } finally {
    await vm?.remove(false)
  }
  return { totals, reports }
}

function add(totals: Totals, report: TrialReport): void {
  totals.trials++
  totals.lost += report.lost
  totals.duplicated += report.duplicated
  totals.resets += report.resets
  totals.divergences += report.divergences
  totals.two_live += report.twoLive
  totals.unclean_filesystems += report.uncleanFilesystems
  if (report.failure !== undefined) totals.failed = (totals.failed ?? 0) + 1
}

/** The options, as the command has them. */
function wordsOf({ discipline, bus, backups = 1, ownDisks, memory }: FaultyVmOptions): string {
  const disk = `${bus === 'scsi' ? ' --scsi' : ''}${ownDisks ? ' --own-disks' : ''}`
  const others = ` --backups ${backups}${disk}${memory === undefined ? '' : ` --memory ${memory}`}`
  if (discipline?.kind !== 'epoch') return others
  return `${others} --discipline epoch --protocol ${discipline.protocol} --epoch ${discipline.instructions}`
}

function promisesHold(report: TrialReport): boolean {
  const { lost, duplicated, resets, divergences, twoLive, uncleanFilesystems, failure } = report
  return lost + duplicated + resets + divergences + twoLive + uncleanFilesystems === 0 && failure === undefined
}

function describe(report: TrialReport, holds: boolean): string {
  const took = report.phasesMs.map((ms) => (ms / 1000).toFixed(0)).join(' + ')
  const { seed, kind, answers, consoleLines, stallMs, expectedResets, failure, lost, duplicated, resets } = report
  const reset = expectedResets > 0 ? `, ${expectedResets} connections ended with it` : ''
  const figures = `${answers} answers, ${consoleLines} console lines, longest stall ${stallMs} ms${reset}, took ${took} s`
  if (holds) return `seed ${seed} ${kind}: ok (${figures})`
  const { divergences, twoLive, uncleanFilesystems } = report
  const counts = { lost, duplicated, resets, divergences, twoLive, uncleanFilesystems }
  return `seed ${seed} ${kind}: FAILED ${failure ?? JSON.stringify(counts)} (${figures})`
}
