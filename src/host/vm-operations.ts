/**
 * What an operator asks of a running VM: press its power button, shut it down, take its backup away, give it one.
 *
 * A press is an input, so a log entry: it survives a failover, and the guest alone decides what it means. Servers shut
 * down in order. So shutting down is to press the button and wait, and to pull the plug when the guest does not answer.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { ExitCode, WorldError } from '../base/assert.ts'
import { formatBytes } from '../base/units.ts'
import type { TransferStatus } from '../replication/candidates.ts'
import { ask } from './control.ts'
import { type PairStatus, pairStatus, processesOf, requireRunning, statusOf, takeDown } from './local-pair.ts'
import { findVmFolder } from './vm-argument.ts'
import { readVmConfig } from './vm-config.ts'
import { isAlive, type ReplicaName, type VmFolder } from './vm-folder.ts'

/** A guest that is still booting misses a press: it is pressed again while we wait. */
const pressAgainMs = 2000
const lookEveryMs = 50
const unprotectWithinMs = 10_000
const protectWithinMs = 60_000

/**
 * Presses the power button of a VM.
 * @throws WorldError `no-primary`, `no-power-button-driver`
 */
export async function pressPowerButton(vm: string): Promise<void> {
  const folder = await runningFolder(vm)
  if (!(await press(folder, await primaryOf(folder)))) {
    throw new WorldError(
      'no-power-button-driver',
      `the guest of VM ${folder.name} does not listen to its power button: it is still booting, or has no driver (modules virtio_input and evdev)`,
      ExitCode.wrongState,
    )
  }
}

/** How a VM ended. */
export type VmEnd =
  /** The guest shut itself down. */
  | { readonly end: 'poweredOff' }
  /** For the guest, the plug was pulled. */
  | { readonly end: 'plugPulled'; readonly reason: string }

/**
 * Shuts a VM down: presses its power button, and pulls the plug when the guest has no driver for it or is not off after
 * `timeoutMs`. Every process of the VM has ended then, and nobody fails over.
 */
export async function shutDown(vm: string, timeoutMs: number, onProgress: (text: string) => void): Promise<VmEnd> {
  const folder = await runningFolder(vm)
  const reason = await waitForPowerOff(folder, await pidsToEnd(folder), timeoutMs, onProgress)
  if (reason !== undefined) {
    await takeDown(vm)
    return { end: 'plugPulled', reason }
  }
  // What an operator of this host has started beside the replica does not end with the guest.
  if ((await statusOf(folder)).others.length > 0) await takeDown(vm)
  return { end: 'poweredOff' }
}

/** Which processes end when the guest is off: all that `up` started; of a VM that is spread over hosts, its replicas. */
async function pidsToEnd(folder: VmFolder): Promise<number[]> {
  const run = folder.readRun()
  if (!run) return (await statusOf(folder)).replicas.map(({ pid }) => pid)
  return processesOf(run)
}

/** @returns undefined when the guest is off and all these processes have ended; otherwise why that cannot be waited for */
async function waitForPowerOff(
  folder: VmFolder,
  pids: readonly number[],
  timeoutMs: number,
  onProgress: (text: string) => void,
): Promise<string | undefined> {
  const startedAt = performance.now()
  let pressedAt = Number.NEGATIVE_INFINITY
  let wasHeard = false
  for (;;) {
    const now = performance.now()
    if (pids.length > 0 && !pids.some((pid) => pid > 0 && isAlive(pid))) return undefined
    if (now - startedAt > timeoutMs) return `the guest is not off after ${timeoutMs / 1000} s`
    if (now - pressedAt >= pressAgainMs) {
      pressedAt = now
      const primary = await findPrimary(folder)
      if (!primary && !wasHeard) return 'no replica runs it now'
      if (primary && (await press(folder, primary))) wasHeard = true
      // Once it was heard the guest may be on its way, and take its driver away.
      if (!wasHeard) return 'the guest does not listen to its power button'
      onProgress(`waiting for the guest, ${Math.round((now - startedAt) / 1000)} s`)
    }
    await sleep(lookEveryMs)
  }
}

/**
 * Takes the backup away; the machine runs on, and nobody starts another one. Does nothing when there is none.
 * @throws WorldError `timed-out`: the arbiter is out of reach, and the VM still protected
 */
export async function unprotect(vm: string): Promise<PairStatus> {
  const folder = await runningFolder(vm)
  await wantBackup(folder, false)
  const deadline = performance.now() + unprotectWithinMs
  for (;;) {
    const status = await statusOf(folder)
    const primary = await primaryOf(folder)
    const isAlone = status.replicas.find(({ role }) => role === 'primary')?.state === 'alone'
    // The backup is told to end, and is there for a moment longer.
    const hasEnded = status.replicas.every(({ role }) => role === 'primary')
    const isLate = performance.now() > deadline
    if (isAlone && (hasEnded || isLate)) return status
    if (!isAlone) await ask(folder.controlPath(primary), 'unprotect')
    if (isLate) {
      throw new WorldError(
        'timed-out',
        `VM ${folder.name}: the arbiter has not dropped the backup within ${unprotectWithinMs / 1000} s; outputs wait for both until it answers ("understudy repair" starts a dead disk server again)`,
        ExitCode.timedOut,
      )
    }
    await sleep(lookEveryMs)
  }
}

/**
 * Gives a running VM a backup, while it runs, and sees to it that it has one from then on.
 * @throws WorldError `no-spare-host`: its replicas are on hosts of their own, and none waits to become a backup
 */
export async function protect(vm: string, onProgress: (text: string) => void): Promise<PairStatus> {
  const folder = await runningFolder(vm)
  const deadline = performance.now() + protectWithinMs
  const isKept = await wantBackup(folder, true)
  for (;;) {
    const status = await pairStatus(vm)
    if (status.protection === 'protected') {
      if (folder.readRun()) await wantBackup(folder, isAutomatic(folder))
      return status
    }
    await primaryOf(folder)
    const { transfer, keeper } = status.replicas.find(({ role }) => role === 'primary') ?? {}
    if (!isKept && !transfer) throw noSpareHost(folder)
    onProgress(describeTransfer(transfer, keeper?.doing))
    if (performance.now() > deadline) {
      const why = keeper?.doing ?? '"understudy logs" says why'
      throw new WorldError(
        'timed-out',
        `VM ${folder.name} is not protected after ${protectWithinMs / 1000} s: ${why}`,
        ExitCode.timedOut,
      )
    }
    await sleep(lookEveryMs)
  }
}

function noSpareHost(folder: VmFolder): WorldError {
  return new WorldError(
    'no-spare-host',
    `no host waits to become the backup of VM ${folder.name}: start "understudy replica" on one, with role = "backup" and channel.connect to this one`,
    ExitCode.wrongState,
  )
}

function describeTransfer(transfer: TransferStatus | undefined, doing = 'starting a backup'): string {
  if (transfer === undefined) return doing
  return transfer.sentBytes === undefined
    ? 'the backup joins'
    : `copying the machine, ${formatBytes(transfer.sentBytes)}`
}

/** Whether the VM's file wants the next backup to come by itself too. */
function isAutomatic(folder: VmFolder): boolean {
  const run = folder.readRun()
  return run !== undefined && readVmConfig(run.vmPath).config.protection.automatic
}

/**
 * Moves a role to another process: the backup becomes the primary, or another backup takes the present one's place. No
 * client notices more of it than of a failover; the VM is not protected until the new backup has joined.
 * @throws WorldError `not-protected`: there is no backup that could take over
 */
export async function move(
  vm: string,
  role: 'primary' | 'backup',
  onProgress: (text: string) => void,
): Promise<PairStatus> {
  const folder = await runningFolder(vm)
  if (role === 'backup') {
    // Without somebody who starts another one, the VM would only lose its backup.
    if (!(await isKept(folder))) throw noSpareHost(folder)
    await unprotect(vm)
    return await protect(vm, onProgress)
  }
  const before = await primaryOf(folder)
  const answer = await ask<{ isBegun: boolean }>(folder.controlPath(before), 'handOver')
  if (!answer?.isBegun) {
    throw new WorldError(
      'not-protected',
      `VM ${folder.name} has no backup that could take over: "understudy status" says how it is doing`,
      ExitCode.notProtected,
    )
  }
  const deadline = performance.now() + unprotectWithinMs
  for (; (await findPrimary(folder)) === undefined && folder.readRun(); await sleep(lookEveryMs)) {
    if (performance.now() > deadline)
      throw new WorldError(
        'timed-out',
        `VM ${folder.name}: the backup did not go live within ${unprotectWithinMs / 1000} s; it goes on asking the arbiter`,
        ExitCode.timedOut,
      )
  }
  return folder.readRun() ? await protect(vm, onProgress) : await pairStatus(vm)
}

/**
 * Says it to whoever starts backups by himself: of a VM of `up` that stands in its run, which outlives any replica; on hosts
 * of their own the primary keeps it.
 * @returns whether somebody does
 */
async function wantBackup(folder: VmFolder, wantsBackup: boolean): Promise<boolean> {
  const run = folder.readRun()
  if (run) {
    folder.writeRun({ ...run, wantsBackup })
    return true
  }
  const primary = await findPrimary(folder)
  if (primary === undefined) return false
  const answer = await ask<{ isKept: boolean }>(folder.controlPath(primary), 'wantBackup', { isWanted: wantsBackup })
  return answer?.isKept ?? false
}

/** Whether somebody starts backups by himself. */
async function isKept(folder: VmFolder): Promise<boolean> {
  const { replicas } = await statusOf(folder)
  return replicas.find(({ role }) => role === 'primary')?.keeper !== undefined
}

async function runningFolder(vm: string): Promise<VmFolder> {
  const folder = findVmFolder(vm)
  await requireRunning(folder)
  return folder
}

async function findPrimary(folder: VmFolder): Promise<ReplicaName | undefined> {
  return (await statusOf(folder)).replicas.find(({ role }) => role === 'primary')?.name
}

async function primaryOf(folder: VmFolder): Promise<ReplicaName> {
  const primary = await findPrimary(folder)
  if (primary === undefined) {
    throw new WorldError('no-primary', `VM ${folder.name} has no primary now`, ExitCode.wrongState)
  }
  return primary
}

async function press(folder: VmFolder, replica: ReplicaName): Promise<boolean> {
  const answer = await ask<{ isHeard: boolean }>(folder.controlPath(replica), 'powerButton')
  return answer?.isHeard ?? false
}
