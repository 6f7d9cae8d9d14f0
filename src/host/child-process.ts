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

/** A `WorldError` on its way to another process. */
interface Failure {
  readonly code: string
  readonly message: string
  readonly exitCode: ExitCode
}

export type Answer<Ready> = { readonly ready: Ready } | { readonly error: Failure }

/** The file below `processes/` that a process or thread starts in: TypeScript as we develop it, JavaScript as published. */
export function entryFile(name: ProcessName | 'hart' | 'session'): string {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  return fileURLToPath(new URL(`./processes/${name}.${extension}`, import.meta.url))
}

export interface StartedProcess<Ready> {
  readonly pid: number
  readonly ready: Ready
}

/** See `startProcess`. */
export type StartProcess = <Ready>(
  name: ProcessName,
  settings: unknown,
  tracePath: string,
) => Promise<StartedProcess<Ready>>

let sharesSession = false

/** From now on those that this process starts belong to its session. */
export function shareSession(): void {
  sharesSession = true
}

/**
 * Starts a process and waits until it is ready. Its output goes to the file `tracePath`. It belongs to the session of the VM's process
 * that starts it, and to one of its own if anybody else does (vm-session.ts).
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
    detached: !sharesSession,
    serialization: 'advanced',
    // A flush occupies a thread of the pool while the disk works; others must not queue behind it.
    env: { ...process.env, UV_THREADPOOL_SIZE: '16' },
  })
  closeSync(output)
  try {
    child.send({ settings, tracePath } satisfies Assignment)
    const ready = await nextAnswer<Ready>(child, name, tracePath)
    return { pid: child.pid!, ready }
  } finally {
    if (child.connected) child.disconnect()
    child.unref()
  }
}

/**
 * The next thing it answers.
 * @throws the `WorldError` it answers, or one that points to the trace of `name` if it ends without a word
 */
export function nextAnswer<Ready>(child: ChildProcess, name: string, tracePath: string): Promise<Ready> {
  return new Promise((resolve, reject) => {
    const onMessage = (answer: unknown): void => {
      stopListening()
      const message = answer as Answer<Ready>
      if ('ready' in message) resolve(message.ready)
      else reject(errorOf(message.error))
    }
    const onError = (error: Error): void => {
      stopListening()
      reject(new WorldError('spawn-failed', `${name}: cannot be started (${error.message})`))
    }
    const onExit = (code: number | null, signal: string | null): void => {
      stopListening()
      const how = signal ?? `exit code ${code}`
      reject(new WorldError('process-ended', `${name} ended at once (${how}): see ${tracePath}`))
    }
    const stopListening = (): void => {
      child.off('message', onMessage).off('error', onError).off('exit', onExit)
    }
    child.on('message', onMessage).on('error', onError).on('exit', onExit)
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
  shareSession()
  process.on('uncaughtException', (error) => endWith(error))
  answerBeforeHarts()
  process.once('message', (assignment) => {
    const { settings, tracePath } = assignment as Assignment
    traceFile = new TraceFile(tracePath)
    main(settings as Settings).then(
      (ready) => process.send?.({ ready }, undefined, undefined, () => process.disconnect?.()),
      (reason: Error) => {
        const error = failureOf(reason)
        process.send?.({ error }, undefined, undefined, () => process.exit(error.exitCode))
      },
    )
  })
}

/** What a starter is told of an error; our own mistakes are traced as well. */
export function failureOf(error: Error): Failure {
  if (error instanceof WorldError) return { code: error.code, message: error.message, exitCode: error.exitCode }
  console.error(error)
  return { code: 'internal', message: error.message, exitCode: ExitCode.failure }
}

const errorOf = ({ code, message, exitCode }: Failure): WorldError => new WorldError(code, message, exitCode)

function endWith(error: Error): never {
  if (error instanceof WorldError) {
    trace(`${error.code}: ${error.message}`)
    process.exit(error.exitCode)
  }
  console.error(error)
  process.exit(ExitCode.failure)
}
