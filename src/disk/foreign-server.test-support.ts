/** NBD servers that nobody here wrote, as processes of a test: nbdkit, qemu-nbd and nbd-server, on unix sockets. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { isAlive } from '../host/vm-folder.ts'

/** For `test`: skips with a reason when one of the tools is not there. */
export function needs(...tools: readonly string[]): { skip: string | false } {
  const missing = tools.find((tool) => spawnSync(tool, ['--version']).error !== undefined)
  return { skip: missing === undefined ? false : `${missing} is not installed` }
}

export interface ForeignServer {
  /** For `NbdStore.open`. */
  readonly uri: string
  /** SIGKILL: what only its memory had is gone. */
  kill(): Promise<void>
  /** Another process at the same place. */
  startAgain(): Promise<void>
}

/**
 * @param command what to run, in the foreground, listening on `socket`
 * @param pidFile of a server that goes into the background, with children of its own: where it writes its id
 */
export async function foreignServer(
  t: TestContext,
  socket: string,
  exportName: string,
  command: readonly string[],
  pidFile?: string,
): Promise<ForeignServer> {
  let child: ChildProcess | undefined
  const kill = async (): Promise<void> => {
    if (pidFile !== undefined && existsSync(pidFile)) await killGroup(Number(readFileSync(pidFile, 'utf8')), pidFile)
    const running = child
    child = undefined
    if (!running || running.exitCode !== null || running.signalCode !== null) return
    const exited = new Promise((resolve) => running.once('exit', resolve))
    running.kill('SIGKILL')
    await exited
  }
  const start = async (): Promise<void> => {
    rmSync(socket, { force: true })
    const started = spawn(command[0]!, command.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
    child = started
    let words = ''
    started.stderr!.on('data', (chunk: Buffer) => {
      words += chunk
    })
    while (!(existsSync(socket) && (await answers(socket)))) {
      if (started.exitCode !== null && (pidFile === undefined || started.exitCode !== 0))
        throw new Error(`${command.join(' ')}: exit code ${started.exitCode}: ${words}`)
      await sleep(10)
    }
  }
  t.after(kill)
  await start()
  return { uri: `nbd+unix:///${exportName}?socket=${socket}`, kill, startAgain: start }
}

/** A server in the background leads a group of its own, in which it has a child per connection. */
async function killGroup(leader: number, pidFile: string): Promise<void> {
  rmSync(pidFile, { force: true })
  for (;;) {
    const members = membersOf(leader)
    if (members.length === 0) return
    try {
      for (const pid of members) process.kill(pid, 'SIGKILL')
    } catch {
      // It has just ended by itself.
    }
    await sleep(10)
  }
}

/** Those that have not ended. */
function membersOf(group: number): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return pids.map(Number).filter((pid) => groupOf(pid) === group && isAlive(pid))
}

function groupOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[2])
  } catch {
    return undefined
  }
}

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = createConnection(socket)
    connection.on('error', () => resolve(false))
    connection.once('data', () => {
      connection.destroy()
      resolve(true)
    })
  })
}

/** nbdkit ends with its parent, so a killed test run leaves nothing behind. */
export function nbdkit(socket: string, ...rest: readonly string[]): string[] {
  return ['nbdkit', '--foreground', '--exit-with-parent', '--unix', socket, ...rest]
}

export function qemuNbd(socket: string, exportName: string, image: string): string[] {
  return [
    'qemu-nbd',
    '--persistent',
    '--shared=8',
    '--format=raw',
    '--socket',
    socket,
    '--export-name',
    exportName,
    image,
  ]
}

/** Writes its configuration beside the socket. @returns for `foreignServer`: what to run, and where its id will stand */
export function nbdServer(socket: string, exportName: string, image: string): { command: string[]; pidFile: string } {
  const [configuration, pidFile] = [`${socket}.conf`, `${socket}.pid`]
  const lines = ['[generic]', `unixsock=${socket}`, 'listenaddr=127.0.0.1', `[${exportName}]`, `exportname=${image}`]
  writeFileSync(configuration, `${[...lines, 'flush=true', 'fua=true', 'trim=true'].join('\n')}\n`)
  return { command: ['nbd-server', '-C', configuration, '-p', pidFile], pidFile }
}

/** A foreign server that keeps what is flushed on an image. */
export interface DurableForeignKind {
  readonly name: string
  readonly tool: string
  start(t: TestContext, folder: string, image: string): Promise<ForeignServer>
}

export const durableForeignKinds: readonly DurableForeignKind[] = [
  {
    name: 'nbdkit',
    tool: 'nbdkit',
    start: (t, folder, image) => foreignServer(t, `${folder}/nbd`, 'disk', nbdkit(`${folder}/nbd`, 'file', image)),
  },
  {
    name: 'qemu-nbd',
    tool: 'qemu-nbd',
    start: (t, folder, image) => foreignServer(t, `${folder}/nbd`, 'disk', qemuNbd(`${folder}/nbd`, 'disk', image)),
  },
  {
    name: 'nbd-server',
    tool: 'nbd-server',
    start: (t, folder, image) => {
      const { command, pidFile } = nbdServer(`${folder}/nbd`, 'disk', image)
      return foreignServer(t, `${folder}/nbd`, 'disk', command, pidFile)
    },
  },
]
