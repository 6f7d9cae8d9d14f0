/** NBD servers that nobody here wrote, as child processes of a test: nbdkit and qemu-nbd, on unix sockets. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { createConnection } from 'node:net'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

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

/** @param command what to run, in the foreground, listening on `socket` */
export async function foreignServer(
  t: TestContext,
  socket: string,
  exportName: string,
  command: readonly string[],
): Promise<ForeignServer> {
  let child: ChildProcess | undefined
  const kill = async (): Promise<void> => {
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
      if (started.exitCode !== null) throw new Error(`${command.join(' ')}: exit code ${started.exitCode}: ${words}`)
      await sleep(10)
    }
  }
  t.after(kill)
  await start()
  return { uri: `nbd+unix:///${exportName}?socket=${socket}`, kill, startAgain: start }
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
