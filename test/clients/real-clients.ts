/**
 * Clients that nobody here wrote, as child processes: redis-benchmark, redis-cli in a pipe, curl, ssh. Each is started,
 * says when it is in the middle of its work, and judges its own end: exit code, errors it printed, every answer there
 * once and in order.
 *
 * None of them may connect again behind our back: curl and ssh never do, redis-benchmark fails on a lost connection, and
 * redis-cli, which would, asks at its beginning and at its end which connection it is.
 */

import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'

export interface RealClient {
  readonly name: string
  /** It has had answers and wants more. */
  isAtWork(): boolean
  /** Answers, lines or bytes so far: what they are is the client's matter. */
  progress(): number
  /** Longest time without a byte from the guest so far, in milliseconds. */
  longestGapMs(): number
  /**
   * Waits for its end.
   * @returns what it saw that it should not have seen; empty if all is well
   */
  finish(timeoutMs: number): Promise<string[]>
  /** Ends it if it still runs. */
  abandon(): void
}

/** A program with its output, its end and the gaps between. */
class Program {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>
  readonly #closed: Promise<unknown>
  #errors = ''
  #lastDataAt = performance.now()
  #longestGapMs = 0

  constructor(command: string, parameters: readonly string[], onOutput: (chunk: Buffer) => void) {
    this.child = spawn(command, parameters, { stdio: ['pipe', 'pipe', 'pipe'] })
    this.child.stdin.on('error', () => {})
    this.child.stderr.on('data', (chunk) => {
      this.#errors += String(chunk)
    })
    this.child.stdout.on('data', (chunk: Buffer) => {
      const now = performance.now()
      this.#longestGapMs = Math.max(this.#longestGapMs, now - this.#lastDataAt)
      this.#lastDataAt = now
      onOutput(chunk)
    })
    this.#closed = once(this.child, 'close')
  }

  get isRunning(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null
  }

  get longestGapMs(): number {
    return this.#longestGapMs
  }

  abandon(): void {
    if (this.isRunning) this.child.kill('SIGKILL')
  }

  /** @returns why its end was not a good one */
  async faultsOfEnd(timeoutMs: number): Promise<string[]> {
    const timer = setTimeout(() => this.abandon(), timeoutMs)
    await this.#closed
    clearTimeout(timer)
    const { exitCode, signalCode } = this.child
    const faults: string[] = []
    if (signalCode !== null) faults.push(`did not end within ${timeoutMs / 1000} s`)
    else if (exitCode !== 0) faults.push(`ended with exit code ${exitCode}`)
    if (this.#errors !== '') faults.push(`wrote to stderr: ${this.#errors.trim()}`)
    return faults
  }
}

const benchmarkTests = ['SET', 'GET', 'INCR']

/** Ten connections for each of three tests in turn, so that some are opened after the kill. */
export function startBenchmark(port: number, requests: number): RealClient {
  let output = ''
  const parameters = [
    '-p',
    `${port}`,
    '-t',
    benchmarkTests.join(',').toLowerCase(),
    '-n',
    `${requests}`,
    '-c',
    '10',
    '-q',
  ]
  const program = new Program('redis-benchmark', parameters, (chunk) => {
    output += String(chunk)
  })
  const figures = (): number => output.match(/rps=\d+/g)?.length ?? 0
  return {
    name: 'redis-benchmark',
    isAtWork: () => program.isRunning && figures() > 2,
    progress: figures,
    longestGapMs: () => program.longestGapMs,
    abandon: () => program.abandon(),
    finish: async (timeoutMs) => {
      const faults = await program.faultsOfEnd(timeoutMs)
      for (const test of benchmarkTests) {
        const isThere = new RegExp(`(^|[\\r\\n ])${test}: [1-9][\\d.]* requests per second`).test(output)
        if (!isThere) faults.push(`no result of ${test}; it wrote last ${output.trim().slice(-100)}`)
      }
      if (/error/i.test(output)) faults.push(`wrote ${output.trim().slice(-200)}`)
      return faults
    },
  }
}

/** Counts in a pipe, one INCR after the other, on one connection. */
export function startCounting(port: number, key: string): RealClient {
  const answers: string[] = []
  let rest = ''
  let isStopping = false
  const program = new Program('redis-cli', ['-p', `${port}`], (chunk) => {
    const lines = (rest + String(chunk)).split('\n')
    rest = lines.pop()!
    answers.push(...lines)
    if (!isStopping) for (const _ of lines) program.child.stdin.write(`INCR ${key}\n`)
  })
  program.child.stdin.write('CLIENT ID\n')
  return {
    name: 'redis-cli',
    isAtWork: () => program.isRunning && answers.length > 5,
    progress: () => answers.length,
    longestGapMs: () => program.longestGapMs,
    abandon: () => program.abandon(),
    finish: async (timeoutMs) => {
      isStopping = true
      program.child.stdin.end('CLIENT ID\n')
      const faults = await program.faultsOfEnd(timeoutMs)
      const first = answers.shift()
      const last = answers.pop()
      if (first !== last) faults.push(`connection ${first} became connection ${last}`)
      const wrong = answers.findIndex((answer, index) => answer !== `${index + 1}`)
      if (wrong >= 0) faults.push(`INCR number ${wrong + 1} was answered ${answers[wrong]}`)
      return faults
    },
  }
}

export interface ExpectedFile {
  readonly sizeBytes: number
  readonly sha256: string
}

/** One download, slow enough to be in the middle for `sizeBytes` / `rateBytes` seconds. */
export function startDownload(url: string, rateBytes: number, expected: ExpectedFile): RealClient {
  const hash = createHash('sha256')
  let received = 0
  const program = new Program('curl', ['-sSf', '--limit-rate', `${rateBytes}`, url], (chunk) => {
    hash.update(chunk)
    received += chunk.length
  })
  return {
    name: 'curl',
    isAtWork: () => program.isRunning && received > expected.sizeBytes / 64,
    progress: () => received,
    longestGapMs: () => program.longestGapMs,
    abandon: () => program.abandon(),
    finish: async (timeoutMs) => {
      const faults = await program.faultsOfEnd(timeoutMs)
      if (received !== expected.sizeBytes) faults.push(`received ${received} bytes of ${expected.sizeBytes}`)
      else if (hash.digest('hex') !== expected.sha256) faults.push('received other bytes than the file has')
      return faults
    },
  }
}

const goodbye = 'that was all'

/** A login whose command prints numbers for about `lines` / 40 seconds. */
export function startLogin(port: number, privateKeyPath: string, lines: number): RealClient {
  let output = ''
  const command = `i=0; while [ $i -lt ${lines} ]; do i=$((i+1)); echo $i; sleep 0.02; done; echo ${goodbye}`
  const options = ['BatchMode=yes', 'IdentitiesOnly=yes', 'LogLevel=ERROR', 'ServerAliveInterval=0']
  const unknown = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null']
  const program = new Program(
    'ssh',
    [
      ...['-F', '/dev/null', '-p', `${port}`, '-i', privateKeyPath],
      ...[...options, ...unknown].flatMap((option) => ['-o', option]),
      'root@127.0.0.1',
      command,
    ],
    (chunk) => {
      output += String(chunk)
    },
  )
  const printed = (): string[] => output.split('\n').slice(0, -1)
  return {
    name: 'ssh',
    isAtWork: () => program.isRunning && printed().length > 5,
    progress: () => printed().length,
    longestGapMs: () => program.longestGapMs,
    abandon: () => program.abandon(),
    finish: async (timeoutMs) => {
      const faults = await program.faultsOfEnd(timeoutMs)
      const expected = [...Array.from({ length: lines }, (_, index) => `${index + 1}`), goodbye]
      const found = printed()
      const wrong = expected.findIndex((line, index) => line !== found[index])
      if (wrong >= 0) faults.push(`line ${wrong + 1} is ${found[wrong]}`)
      else if (found.length !== expected.length) faults.push(`printed ${found.length - expected.length} lines too many`)
      return faults
    },
  }
}
