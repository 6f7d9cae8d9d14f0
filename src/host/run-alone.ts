/**
 * `understudy run VM`: one machine, unprotected, its console on this terminal. Disk server and LAN are the same processes
 * as under `up`; the replica runs in this process, without a backup.
 */

import { appendFileSync } from 'node:fs'
import { ExitCode, WorldError } from '../base/assert.ts'
import { machineConfig, readBootImage } from './boot-files.ts'
import { endSurroundings, requireNotRunning, waitForEnd } from './local-pair.ts'
import { Replica } from './replica.ts'
import { listenForReplicaControl } from './replica-control.ts'
import { startSurroundings } from './surroundings.ts'
import { readVmConfig } from './vm-config.ts'
import { VmFolder } from './vm-folder.ts'

/** Ctrl-], as telnet and virsh have it. */
const leaveKey = 0x1d

/**
 * Runs until the guest powers off or the user leaves.
 * @returns the exit code: 0 when the guest powered off or the user left, 9 after a guest panic
 */
export async function runAlone(vm: string, say: (line: string) => void): Promise<ExitCode> {
  const { config, path } = readVmConfig(vm)
  machineConfig(config)
  readBootImage(config)
  const folder = new VmFolder(config.name)
  folder.create()
  requireNotRunning(folder)
  folder.clearRun()
  const { replica: shared, pids, diskPorts } = await startSurroundings(config, folder, () => {})
  folder.writeRun({
    vmPath: path,
    diskServerPid: pids[0]!,
    lanPid: pids[1] ?? 0,
    diskPorts,
    replicas: { a: { pid: process.pid }, b: { pid: 0 } },
  })
  const ended = Promise.withResolvers<ExitCode>()
  const replica = new Replica(
    { ...shared, vmPath: path, replica: 'a', role: 'alone' },
    {
      onConsole: (bytes) => process.stdout.write(bytes),
      onOff: (failed) => ended.resolve(failed ? ExitCode.guestPanicked : ExitCode.ok),
      onHalt: (error) => ended.reject(error),
      trace: (line) => appendFileSync(folder.tracePath('a'), `${new Date().toISOString()} ${line}\n`),
    },
  )
  const control = await listenForReplicaControl(folder.controlPath('a'), replica, () => ended.resolve(ExitCode.ok))
  const restoreTerminal = attachTerminal(
    (bytes) => replica.sendConsoleInput(bytes),
    () => ended.resolve(ExitCode.ok),
  )
  process.once('SIGTERM', () => ended.reject(new WorldError('terminated', 'ended by SIGTERM', 143 as ExitCode)))
  try {
    await replica.start()
    if (process.stdin.isTTY) say(`${config.name}: Ctrl-] leaves`)
    return await ended.promise
  } finally {
    restoreTerminal()
    control.close()
    await replica.stop()
    await endSurroundings(folder)
    await waitForEnd(pids)
  }
}

/** Keys go to the guest one by one; the end of a piped stdin is no key. */
function attachTerminal(onKeys: (bytes: Uint8Array) => void, onLeave: () => void): () => void {
  const { stdin } = process
  const wasRaw = stdin.isTTY ? stdin.isRaw : false
  if (stdin.isTTY) stdin.setRawMode(true)
  const onData = (chunk: Buffer): void => {
    const leave = stdin.isTTY ? chunk.indexOf(leaveKey) : -1
    if (leave !== 0) onKeys(new Uint8Array(leave < 0 ? chunk : chunk.subarray(0, leave)))
    if (leave >= 0) onLeave()
  }
  stdin.on('data', onData)
  return () => {
    stdin.off('data', onData)
    if (stdin.isTTY) stdin.setRawMode(wasRaw)
    stdin.pause()
  }
}
