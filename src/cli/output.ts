/**
 * What commands print: data to stdout, talk to stderr; one line per error; a progress line that redraws itself on a
 * terminal and prints a line per step elsewhere. `NO_COLOR` is honoured by not using colour at all.
 */

import type { OutputConfiguration } from 'commander'
import { ExitCode, WorldError } from '../base/assert.ts'

export function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

/** For commander: what it has to say against a command line is one line, as all our errors. */
export function oneLineErrors(prefix: string): OutputConfiguration {
  return {
    outputError: (text, write) => {
      const [, words] = /^(?:error: )?(.*)$/s.exec(text.trim())!
      write(`${prefix}: ${words!.replaceAll('\n', ' ')} (see --help)\n`)
    },
  }
}

/** Bigints become decimal strings if they are too large for JSON numbers. */
export function jsonText(value: unknown): string {
  return JSON.stringify(value, (_, item) => {
    if (typeof item !== 'bigint') return item
    return item <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(item) : item.toString()
  })
}

/** Who reads what we print may have read enough (`| head`): that is no failure, and there is nobody left to tell. */
export function endWithReader(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    process.exit(ExitCode.ok)
  })
}

export function printJson(value: unknown): void {
  process.stdout.write(`${jsonText(value)}\n`)
}

/** One clear line and an exit code for whatever went wrong; a stack trace only for our own bugs, and only on request. */
export function reportError(error: unknown): ExitCode {
  if (error instanceof WorldError) {
    say(`understudy: ${error.message}`)
    return error.exitCode
  }
  const message = error instanceof Error ? error.message : String(error)
  say(`understudy: internal error: ${message} (set UNDERSTUDY_TRACE=1 for details, and please report it)`)
  if (process.env.UNDERSTUDY_TRACE && error instanceof Error) say(error.stack ?? '')
  return ExitCode.failure
}

/** A line that shows how far long work is. */
export class ProgressLine {
  #last = ''
  readonly #isTerminal = process.stderr.isTTY === true

  show(phase: string, text: string): void {
    if (this.#isTerminal) {
      process.stderr.write(`\r\x1b[K${phase}: ${text}`)
    } else if (phase !== this.#last) {
      say(`${phase}: ${text}`)
    }
    this.#last = phase
  }

  end(): void {
    if (this.#isTerminal && this.#last) process.stderr.write('\r\x1b[K')
    this.#last = ''
  }
}
