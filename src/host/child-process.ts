/**
 * The operating-system processes a VM is made of: disk server, LAN, replicas, monitor. Each is an entry file below `processes/`
 * that is given its settings over the IPC channel, answers `ready` (with what it learned, such as its ports) or one
 * error, and then lives on by itself: its starter may leave.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { ExitCode, WorldError } from '../base/assert.ts'
import { answerBeforeHarts } from './thread-priorities.ts'
import { TraceFile } from './trace-file.ts'

export type ProcessName = 'disk-server' | 'lan' | 'replica' | 'host-replica' | 'monitor'

/** The first message to a process. */
interface Assignment {
  readonly settings: unknown
  /** Where its output goes already, and its trace is to go. */
  readonly tracePath: string
}

type Answer<Ready> =
  | { readonly ready: Ready }
  | { readonly error: { readonly code: string; readonly message: string; readonly exitCode: ExitCode } }

/** The file below `processes/` that a process or thread starts in: TypeScript as we develop it, JavaScript as published. */
export function entryFile(name: ProcessName | 'hart'): string {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  return fileURLToPath(new URL(`./processes/${name}.${extension}`, import.meta.url))
}

export interface StartedProcess<Ready> {
  readonly pid: number
  readonly ready: Ready
}

/**
 * Starts a process and waits until it is ready. Its output goes to the file `tracePath`.
 * @throws the `WorldError` it reports, or one that points to its trace if it ends without a word
 */
export async function startProcess<Ready>(
  name: ProcessName,
  settings: unknown,
  tracePath: string,
): Promise<StartedProcess<Ready>> {
  const entry = entryFile(name)
  const output = openSync(tracePath, 'a', 0o600)
  const child = spawn(process.execPath, [...process.execArgv, entry], {
    stdio: ['ignore', output, output, 'ipc'],
    detached: true,
    serialization: 'advanced',
    // A flush occupies a thread of the pool while the disk works; others must not queue behind it.
    env: { ...process.env, UV_THREADPOOL_SIZE: '16' },
  })
  closeSync(output)
  try {
    child.send({ settings, tracePath } satisfies Assignment)
    const ready = await firstAnswer<Ready>(child, name, tracePath)
    return { pid: child.pid!, ready }
  } finally {
    if (child.connected) child.disconnect()
    child.unref()
  }
}

function firstAnswer<Ready>(child: ChildProcess, name: string, tracePath: string): Promise<Ready> {
  return new Promise((resolve, reject) => {
    child.once('message', (answer) => {
      const message = answer as Answer<Ready>
      if ('ready' in message) resolve(message.ready)
      else reject(new WorldError(message.error.code, message.error.message, message.error.exitCode))
    })
    child.once('error', (error) =>
      reject(new WorldError('spawn-failed', `${name}: cannot be started (${error.message})`)),
    )
    child.once('exit', (code, signal) =>
      reject(
        new WorldError('process-ended', `${name} ended at once (${signal ?? `exit code ${code}`}): see ${tracePath}`),
      ),
    )
  })
}

/** Where this process's trace goes; undefined until `startProcess` has said it. */
let traceFile: TraceFile | undefined

/** A line of this process's trace. */
export function trace(line: string): void {
  if (traceFile) traceFile.write(line)
  else console.error(`${new Date().toISOString()} ${line}`)
}

/**
 * The other side of `startProcess`: runs `main` with the settings and reports how it went. An error after that ends the
 * process with the error's exit code and one line in its trace.
 */
export function runAsProcess<Settings, Ready>(main: (settings: Settings) => Promise<Ready>): void {
  process.on('uncaughtException', (error) => endWith(error))
  answerBeforeHarts()
  process.once('message', (assignment) => {
    const { settings, tracePath } = assignment as Assignment
    traceFile = new TraceFile(tracePath)
    main(settings as Settings).then(
      (ready) => process.send?.({ ready }, undefined, undefined, () => process.disconnect?.()),
      (error: Error) => {
        const known = error instanceof WorldError
        const answer = {
          error: {
            code: known ? error.code : 'internal',
            message: error.message,
            exitCode: known ? error.exitCode : ExitCode.failure,
          },
        }
        if (!known) console.error(error)
        process.send?.(answer, undefined, undefined, () => process.exit(answer.error.exitCode))
      },
    )
  })
}

function endWith(error: Error): never {
  if (error instanceof WorldError) {
    trace(`${error.code}: ${error.message}`)
    process.exit(error.exitCode)
  }
  console.error(error)
  process.exit(ExitCode.failure)
}
