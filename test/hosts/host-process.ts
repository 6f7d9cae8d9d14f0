import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { becomesTrue } from '../support/becomes-true.ts'

/** A process on a host: what it said, and how it ended. */
export class HostProcess {
  readonly child: ChildProcess
  readonly exitCode: Promise<number | null>
  hasEnded = false
  /** stdout and stderr, as they came. */
  said = ''

  constructor(child: ChildProcess) {
    this.child = child
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.said += text
        if (process.env.UNDERSTUDY_TEST_TRACE) process.stderr.write(text)
      })
    }
    this.exitCode = new Promise((resolve) => {
      child.once('close', (code) => {
        this.hasEnded = true
        resolve(code)
      })
    })
  }

  /** It says this, or has said it. */
  async says(pattern: RegExp): Promise<void> {
    await becomesTrue(`${pattern}`, () => {
      assert.ok(pattern.test(this.said) || !this.hasEnded, `it ended without ${pattern}:\n${this.said}`)
      return pattern.test(this.said)
    })
  }
}
