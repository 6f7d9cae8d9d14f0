/**
 * The session (setsid(2)) that the processes of a VM share.
 *
 * Linux gives every session that wants it the same share of the processor, whatever the niceness of its threads
 * (`sched_autogroup`). With a session for each process, the thread of one replica that has to acknowledge would wait until
 * the other one's hart has used up its share; in one session it goes first (thread-priorities.ts). Docs/BENCHMARKS.md,
 * "Output delay by cause", has what that makes.
 *
 *   up ── settings ──► starter, the leader of the session ──► disk server, LAN, replicas
 *
 * The session outlives its leader, which ends with whoever began it. Backups that a primary starts later are of it by themselves.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import {
  type Answer,
  entryFile,
  failureOf,
  nextAnswer,
  type ProcessName,
  type StartedProcess,
  type StartProcess,
  shareSession,
  startProcess,
} from './child-process.ts'

interface Wish {
  readonly name: ProcessName
  readonly settings: unknown
  readonly tracePath: string
}

export class VmSession {
  readonly #starter: ChildProcess

  constructor() {
    this.#starter = spawn(process.execPath, [...process.execArgv, entryFile('session')], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      detached: true,
      serialization: 'advanced',
    })
  }

  /** As `startProcess`, in this session. One after the other. */
  readonly start: StartProcess = async <Ready>(name: ProcessName, settings: unknown, tracePath: string) => {
    this.#starter.send({ name, settings, tracePath } satisfies Wish)
    return await nextAnswer<StartedProcess<Ready>>(this.#starter, name, tracePath)
  }

  /** Nothing more is to be started. What was started goes on. */
  end(): void {
    if (this.#starter.connected) this.#starter.disconnect()
    this.#starter.unref()
  }
}

/** The other side of `VmSession`: the leader. It ends when nobody asks any more. */
export function leadSession(): void {
  shareSession()
  process.on('message', (message) => {
    const { name, settings, tracePath } = message as Wish
    startProcess(name, settings, tracePath).then(
      (ready) => tell({ ready }),
      (error: Error) => tell({ error: failureOf(error) }),
    )
  })
}

function tell(answer: Answer<StartedProcess<unknown>>): void {
  process.send?.(answer)
}
