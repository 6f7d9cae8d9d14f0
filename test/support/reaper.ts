/**
 * Ends what a test, a campaign or a benchmark has started, when it ends itself: by Ctrl-C, a time limit, an error, SIGKILL.
 * The processes of a VM live on by themselves; left behind they would disturb whatever runs or is measured next.
 *
 * Whatever is started from here inherits a mark in its environment. A small shell waits on a pipe whose other end only this
 * process holds. When that is closed, it kills every process with the mark. So there is nothing to register, no signal to
 * catch, and a replica that stands still (SIGSTOP) is found as well.
 */

import { spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'

const variable = 'UNDERSTUDY_TEST_RUN'
/** `$1` is the mark. A process may start another one just before it is killed: looked for until there is none. */
const reap = `
for round in 1 2 3 4 5 6 7 8 9 10; do
  pids=$(grep -slzxF "$1" /proc/[0-9]*/environ | cut -d / -f 3)
  [ -n "$pids" ] || exit 0
  kill -9 $pids
  sleep 0.1
done`

let mark: string | undefined

/** From now on: what this process starts ends with it, at the latest. */
export function endWithThisProcess(): void {
  if (mark !== undefined) return
  const { [variable]: _, ...environment } = process.env
  const id = `${process.pid}-${randomUUID()}`
  mark = `${variable}=${id}`
  const reaper = spawn('/bin/sh', ['-c', `read -r _; ${reap}`, 'reaper', mark], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
    env: environment,
  })
  reaper.unref()
  // It is a socket, and must not keep this process alive.
  ;(reaper.stdin as unknown as { unref(): void }).unref()
  process.env[variable] = id
}

/** Ends all that this process has started since `endWithThisProcess`, now. */
export function endWhatIsLeft(): void {
  if (mark === undefined) return
  const { [variable]: _, ...environment } = process.env
  spawnSync('/bin/sh', ['-c', reap, 'reaper', mark], { env: environment, stdio: 'ignore' })
}
