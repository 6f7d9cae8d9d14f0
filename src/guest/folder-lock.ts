/**
 * One builder at a time in a cache folder. The lock is a file that names its owner's process, so that a killed builder's
 * lock is recognised and taken over. It guards against two of our own processes, not against other programs.
 */

import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { WorldError } from '../base/assert.ts'
import { throwIfCancelled } from './command.ts'
import type { OnGuestProgress } from './guest-progress.ts'

/** Locks that this very process holds: another file with our process number is a leftover. */
const held = new Set<string>()

const retryMs = 200
const giveUpMs = 15 * 60_000

function isAlive(processId: number): boolean {
  try {
    process.kill(processId, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

async function tryLock(path: string): Promise<boolean> {
  try {
    await writeFile(path, `${process.pid}\n`, { flag: 'wx' })
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EEXIST') throw new WorldError('cache-unusable', `cannot write the cache: ${path}: ${code}`)
  }
  const text = await readFile(path, 'utf8').catch(() => undefined)
  const owner = Number(text)
  // An empty file is a lock being written at this moment.
  if (text === undefined || text === '' || (owner === process.pid ? held.has(path) : isAlive(owner))) return false
  await rm(path, { force: true })
  return false
}

/** Runs `work` while this process alone holds the folder. */
export async function withFolderLock<T>(
  folder: string,
  onProgress: OnGuestProgress,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  const path = join(folder, 'lock')
  for (let waitedMs = 0; !(await tryLock(path)); waitedMs += retryMs) {
    if (waitedMs === 0) onProgress({ phase: 'index', detail: 'waiting for another build to finish' })
    if (waitedMs > giveUpMs) throw new WorldError('cache-busy', `another build holds ${path}: remove it if none runs`)
    throwIfCancelled(signal)
    await sleep(retryMs)
  }
  held.add(path)
  try {
    return await work()
  } finally {
    held.delete(path)
    await rm(path, { force: true })
  }
}
