/**
 * `understudy run VM`: one machine, unprotected, its console on this terminal. Disk server and LAN are the same processes
 * as under `up`; the replica runs in this process, without a backup until `understudy protect` gives it one.
 */

import { ExitCode, WorldError } from '../base/assert.ts'
import { BackupKeeper } from './backup-keeper.ts'
import { checkDiskImages, readBootImage } from './boot-files.ts'
import { startProcess } from './child-process.ts'
import { ConsolePort } from './console-port.ts'
import { endSurroundings, requireNobodyHere, requireNotRunning, waitForEnd } from './local-pair.ts'
import type { MachineProfile } from './profiler.ts'
import { Replica } from './replica.ts'
import { listenForReplicaControl } from './replica-control.ts'
import { SiblingStarter } from './sibling-starter.ts'
import { startSurroundings } from './surroundings.ts'
import { attachTerminal } from './terminal.ts'
import { answerBeforeHarts } from './thread-priorities.ts'
import { TraceFile } from './trace-file.ts'
import { readVmConfig } from './vm-config.ts'
import { VmFolder } from './vm-folder.ts'

/**
 * Runs until the guest powers off or the user leaves.
 * @param onProfile asks for a profile, and gets it when the machine has stopped
 * @returns the exit code: 0 when the guest powered off or the user left, 9 after a guest panic
 */
export async function runAlone(
  vm: string,
  say: (line: string) => void,
  onProfile?: (profile: MachineProfile) => void,
): Promise<ExitCode> {
  const { config, path } = readVmConfig(vm)
  checkDiskImages(config)
  readBootImage(config)
  const folder = new VmFolder(config.name)
  folder.create()
  requireNotRunning(folder)
  await requireNobodyHere(folder)
  folder.clearRun()
  answerBeforeHarts()
  const { replica: shared, pids } = await startSurroundings(config, folder, startProcess, () => {})
  folder.writeRun({
    vmPath: path,
    ...pids,
    replicas: { a: { pid: process.pid } },
    former: [],
    wantsBackup: false,
  })
  const ended = Promise.withResolvers<ExitCode>()
  const viewers = new ConsolePort({ onKeys: () => {}, isReadOnly: true })
  const traceFile = new TraceFile(folder.tracePath('a'))
  const settings = {
    ...shared,
    vmPath: path,
    replica: 'a',
    listen: folder.channelEndpoint('a'),
    controlPath: folder.controlPath('a'),
    consolePath: folder.consolePath('a'),
  } as const
  const replica = new Replica(
    { ...settings, role: 'alone', isProfiled: onProfile !== undefined },
    {
      onConsole: (output) => {
        process.stdout.write(output.bytes)
        viewers.onReleased(output)
      },
      onConsoleRegenerated: () => {},
      onLive: (generation) => viewers.onLive(generation),
      onBackupsMayDiffer: () => keeper.look(performance.now()),
      onOff: (failed) => {
        viewers.onOff(failed)
        ended.resolve(failed ? ExitCode.guestPanicked : ExitCode.ok)
      },
      ...(onProfile ? { onProfile } : {}),
      onHalt: (error) => ended.reject(error),
      trace: (line) => traceFile.write(line),
    },
  )
  const trace = (line: string): void => traceFile.write(line)
  const keeper = new BackupKeeper({ replica, starter: new SiblingStarter({ replica, settings, folder, trace }), trace })
  const control = await listenForReplicaControl({
    path: folder.controlPath('a'),
    replica,
    keeper,
    onStopped: () => ended.resolve(ExitCode.ok),
  })
  await viewers.listen(folder.consolePath('a'))
  const restoreTerminal = attachTerminal(
    (bytes) => replica.sendConsoleInput(bytes),
    () => ended.resolve(ExitCode.ok),
  )
  process.once('SIGTERM', () => ended.reject(new WorldError('terminated', 'ended by SIGTERM', 143 as ExitCode)))
  try {
    await replica.start()
    if (process.stdin.isTTY) say(`${config.name}: Ctrl-] ends the machine`)
    return await ended.promise
  } finally {
    restoreTerminal()
    control.close()
    viewers.close()
    await replica.stop()
    const backupPid = folder.readRun()?.replicas.b?.pid ?? 0
    await endSurroundings(folder)
    await waitForEnd([...Object.values(pids), backupPid])
  }
}
