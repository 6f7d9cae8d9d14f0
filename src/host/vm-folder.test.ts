import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { isAlive } from './vm-folder.ts'

test('a process that has ended is not alive, also while its parent has not asked for its end; one that stands still is', async (t) => {
  // The shell becomes a program that knows nothing of the child it has.
  const parent = spawn('sh', ['-c', 'sleep 60 & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'ignore'] })
  t.after(() => parent.kill('SIGKILL'))
  const [text] = (await once(parent.stdout, 'data')) as [Buffer]
  const pid = Number(text)
  assert.ok(isAlive(pid))
  process.kill(pid, 'SIGSTOP')
  assert.ok(isAlive(pid))
  process.kill(pid, 'SIGKILL')
  while (isAlive(pid)) await sleep(5)
  assert.match(readFileSync(`/proc/${pid}/stat`, 'latin1'), /\) Z /, 'it is still there for its parent')
  assert.ok(isAlive(process.pid) && !isAlive(0))
})
