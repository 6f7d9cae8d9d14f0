import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { isAlive } from '../../src/host/vm-folder.ts'

const reaper = new URL('./reaper.ts', import.meta.url).href

/** What a system test does to VMs: starts processes that live on by themselves, one of them through another; freezes one. */
const starter = `
  import { spawn } from 'node:child_process'
  import { endWithThisProcess, endWhatIsLeft } from '${reaper}'
  const start = (...args) => {
    const child = spawn(args[0], args.slice(1), { detached: true, stdio: ['ignore', 'pipe', 'ignore'] })
    child.unref()
    child.stdout.unref()
    return child
  }
  const stranger = start('sleep', '60')
  endWithThisProcess()
  const frozen = start('sleep', '60')
  process.kill(frozen.pid, 'SIGSTOP')
  const shell = start('sh', '-c', 'setsid sleep 60 & echo $!; wait')
  shell.stdout.ref().once('data', (text) => {
    console.log([stranger.pid, frozen.pid, shell.pid, Number(text)].join(' '))
    shell.stdout.unref()
    if (process.argv[1] === 'now') endWhatIsLeft()
    process.stdin.on('data', () => process.exit()).resume()
  })
`

async function start(t: { after(work: () => void): void }, word = ''): Promise<[ChildProcess, number, number[]]> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', starter, word], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  const [line] = (await once(createInterface(child.stdout!), 'line')) as [string]
  const [stranger, ...started] = line.split(' ').map(Number) as [number, ...number[]]
  t.after(() => process.kill(stranger, 'SIGKILL'))
  assert.equal(started.length, 3)
  return [child, stranger, started]
}

async function haveEnded(pids: readonly number[]): Promise<void> {
  const deadline = performance.now() + 30_000
  while (pids.some(isAlive)) {
    assert.ok(performance.now() < deadline, `still there: ${pids.filter(isAlive).join(' ')}`)
    await sleep(20)
  }
}

for (const [how, end] of [
  ['is killed', (child: ChildProcess) => child.kill('SIGKILL')],
  ['is ended', (child: ChildProcess) => child.kill('SIGTERM')],
  ['ends by itself', (child: ChildProcess) => child.stdin!.write('\n')],
] as const) {
  test(`when a process ${how}, whatever it started ends: what lives on by itself, what stands still, and nothing else`, async (t) => {
    const [child, stranger, started] = await start(t)
    assert.ok([stranger, ...started].every(isAlive), 'they live until then')
    end(child)
    await haveEnded(started)
    assert.ok(isAlive(stranger), 'it was started before')
  })
}

test('what is left can be ended at once, and the process goes on', async (t) => {
  const [child, stranger, started] = await start(t, 'now')
  await haveEnded(started)
  assert.ok(isAlive(stranger))
  assert.equal(child.exitCode, null)
})
