/** The kernel's own account of a thread says how it is scheduled. A thread of each kind is asked, for a process keeps what it was given. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'

interface Account {
  readonly main: number
  readonly hart: number
  readonly helpers: readonly number[]
  /** Of the main thread, in nanoseconds; undefined where the kernel does not say. */
  readonly sliceNs?: number
  readonly refused?: string
}

const module = new URL('./thread-priorities.ts', import.meta.url).href
const hartSource = `
  import { getPriority } from 'node:os'
  import { parentPort } from 'node:worker_threads'
  import { computeBehindOthers } from ${JSON.stringify(module)}
  computeBehindOthers()
  parentPort.postMessage(getPriority(0))
`
const source = `
  import { readdirSync, readFileSync } from 'node:fs'
  import { getPriority } from 'node:os'
  import { Worker } from 'node:worker_threads'
  import { answerBeforeHarts } from ${JSON.stringify(module)}
  const refused = answerBeforeHarts()
  const tasks = readdirSync('/proc/self/task').filter((id) => readFileSync('/proc/self/task/' + id + '/comm', 'utf8').includes('V8Worker'))
  const helpers = tasks.map((id) => getPriority(Number(id)))
  const hart = await new Promise((resolve) => new Worker(${JSON.stringify(hartSource)}, { eval: true }).once('message', resolve))
  const slice = /^se\\.slice\\s*:\\s*(\\d+)$/m.exec(readFileSync('/proc/self/sched', 'utf8'))?.[1]
  console.log(JSON.stringify({ main: getPriority(0), hart, helpers, sliceNs: slice && Number(slice), refused }))
`

function account(niceness: number): Account {
  const output = execFileSync(
    'nice',
    ['-n', String(niceness), process.execPath, '--input-type=module', '--eval', source],
    {
      encoding: 'utf8',
    },
  )
  return JSON.parse(output) as Account
}

test('a hart and the compilers that work for it are nicer than the thread that answers', () => {
  const base = account(0).main
  const { main, hart, helpers } = account(1)
  assert.equal(main, base + 1)
  assert.equal(hart, main + 10)
  assert.ok(helpers.length > 0)
  for (const helper of helpers) assert.equal(helper, main + 10)
})

test('nobody is nicer than the system knows', () => {
  assert.equal(account(15).hart, 19)
})

test('the thread that answers has a short time slice, where the kernel has such', (t) => {
  const { sliceNs, refused } = account(0)
  if (refused?.includes('koffi') || sliceNs === undefined) return t.skip(refused ?? 'the kernel does not say')
  assert.equal(refused, undefined)
  if (sliceNs !== 100_000) return t.skip('a kernel before 6.12 has one slice for everyone')
})
