/**
 * Running the host's programs (apt, dpkg-deb, mke2fs) from the guest builder.
 *
 * The idea: a program is started without a shell, in the C locale, and either gives its output or becomes one
 * `WorldError` line. What the line says is the caller's to decide, since only the caller knows what was being done; the
 * failed command carries its standard error for that. An abort signal ends the child.
 *
 * It does not retry and does not guess paths: `findProgram` looks through PATH and the system folders that ordinary
 * users often lack (`/usr/sbin`).
 */

import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Readable } from 'node:stream'
import { WorldError } from '../base/assert.ts'

export interface CommandOptions {
  readonly folder?: string
  /** Added to the environment of this process. */
  readonly environment?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal | undefined
  /** Receives each line that the command writes to its file descriptor 3, for apt's machine-readable progress. */
  readonly onStatusLine?: (line: string) => void
}

export interface CommandResult {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

/** The absolute path of a program, or undefined. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin', '/usr/bin', '/bin']
  for (const folder of folders) {
    if (folder === '') continue
    const path = join(folder, name)
    try {
      accessSync(path, constants.X_OK)
      if (statSync(path).isFile()) return path
    } catch {
      // Not there: the next folder may have it.
    }
  }
  return undefined
}

/** Throws when the user cancelled: called between the steps of a build. */
export function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted)
    throw new WorldError(
      'cancelled',
      'cancelled: nothing was changed, the next build starts from what is already downloaded',
    )
}

function start(program: string, parameters: readonly string[], options: CommandOptions): ChildProcess {
  throwIfCancelled(options.signal)
  const spawnOptions: SpawnOptions = {
    env: { ...process.env, LC_ALL: 'C', LANGUAGE: 'C', ...options.environment },
    stdio: ['ignore', 'pipe', 'pipe', options.onStatusLine ? 'pipe' : 'ignore'],
  }
  if (options.folder !== undefined) spawnOptions.cwd = options.folder
  if (options.signal) spawnOptions.signal = options.signal
  return spawn(program, [...parameters], spawnOptions)
}

/** Resolves with the exit code; 128 when a signal ended the child. */
function exitOf(child: ChildProcess, program: string, signal: AbortSignal | undefined): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      if (error.name === 'AbortError') return // 'close' follows, and there `throwIfCancelled` says it.
      reject(new WorldError('program-missing', `cannot run ${program}: ${error.code ?? error.message}`))
    })
    child.once('close', (code) => {
      try {
        throwIfCancelled(signal)
        resolve(code ?? 128)
      } catch (error) {
        reject(error)
      }
    })
  })
}

function collect(stream: Readable | null, onLine?: (line: string) => void): () => string {
  let text = ''
  let rest = ''
  stream?.setEncoding('utf8')
  stream?.on('data', (chunk: string) => {
    if (!onLine) {
      text += chunk
      return
    }
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) onLine(line)
  })
  return () => text
}

/** Runs a program to its end and gives back what it said; a failing exit code is a result, not an error. */
export async function runCommand(
  program: string,
  parameters: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const child = start(program, parameters, options)
  const stdout = collect(child.stdout)
  const stderr = collect(child.stderr)
  if (options.onStatusLine) collect(child.stdio[3] as Readable, options.onStatusLine)
  const exitCode = await exitOf(child, program, options.signal)
  return { exitCode, stdout: stdout(), stderr: stderr() }
}

/** Gives a program's standard output piece by piece; afterwards throws what `onFailure` makes of a failing exit. */
export async function* streamCommand(
  program: string,
  parameters: readonly string[],
  onFailure: (stderr: string) => WorldError,
  options: CommandOptions = {},
): AsyncGenerator<Uint8Array> {
  const child = start(program, parameters, options)
  const stderr = collect(child.stderr)
  const exit = exitOf(child, program, options.signal)
  exit.catch(() => {}) // It is awaited below; a reader that stops early must not leave it unhandled.
  let isDrained = false
  try {
    for await (const chunk of child.stdout as Readable) yield chunk as Uint8Array
    isDrained = true
  } finally {
    if (!isDrained) child.kill()
  }
  if ((await exit) !== 0) throw onFailure(stderr())
}

/** The last line that says something, without a program's own prefix: most tools put the reason there. */
export function lastLine(text: string): string {
  const lines = text.split('\n').filter((line) => line.trim() !== '')
  return (lines.at(-1) ?? 'no reason given').replace(/^(E|W|dpkg-deb|mke2fs|debugfs): */, '').trim()
}
