import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SiblingCalls } from './sibling-calls.ts'

/** Siblings that answer, or not, on a clock that the test moves. */
function newCalls() {
  let nowMs = 0
  const timers: { readonly atMs: number; readonly run: () => void }[] = []
  const open = new Set<number>()
  const world = { isThere: true, dials: [] as number[], open, told: [] as string[], pass }
  function pass(ms: number): void {
    for (const endMs = nowMs + ms; nowMs < endMs; nowMs++) {
      for (let due = next(); due; due = next()) due.run()
    }
  }
  function next() {
    const index = timers.findIndex(({ atMs }) => atMs <= nowMs)
    return index < 0 ? undefined : timers.splice(index, 1)[0]
  }
  const calls = new SiblingCalls(
    {
      nowMs: () => nowMs,
      after: (delayMs, run) => timers.push({ atMs: nowMs + delayMs, run }),
      dial(_sibling, opened, failed) {
        world.dials.push(nowMs)
        if (!world.isThere) failed()
        else {
          open.add(world.dials.length)
          opened(world.dials.length)
        }
      },
      isOpen: (channel) => open.has(channel),
    },
    { callMs: 1000, callAgainMs: 100 },
    {
      onOpen: (channel, replica) => world.told.push(`${replica} on ${channel}`),
      onUnreachable: (replica) => world.told.push(`no ${replica}`),
    },
  )
  return { calls, world }
}

const sibling = { replica: 'c', address: 'here' }

test('a sibling is called again and again, for a while', () => {
  const { calls, world } = newCalls()
  world.isThere = false
  calls.call([sibling])
  world.pass(250)
  assert.deepEqual(world.told, ['no c', 'no c', 'no c'])
  world.isThere = true
  world.pass(50 + 1)
  assert.equal(world.told.at(-1), 'c on 4')
  world.open.clear()
  world.isThere = false
  world.pass(5000)
  assert.ok(world.dials.at(-1)! < 1000, 'and then no more')
})

test('one whose connection stays is not called again, until that has ended', () => {
  const { calls, world } = newCalls()
  calls.call([sibling])
  world.pass(500)
  assert.deepEqual(world.told, ['c on 1'])
  world.open.clear()
  world.pass(300)
  assert.deepEqual(world.told, ['c on 1', 'c on 2'])
})

test('calls that are closed report nothing any more', () => {
  const { calls, world } = newCalls()
  world.isThere = false
  calls.call([sibling])
  calls.close()
  world.pass(1000)
  assert.deepEqual(world.told, ['no c'])
})
