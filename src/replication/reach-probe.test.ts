import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defaultReachPolicy, ReachProbe } from './reach-probe.ts'

const { askEveryTicks, silenceTicks } = defaultReachPolicy

test('who answers now and then is in reach; who does not is out of it after so many ticks, and back with the first answer', () => {
  let asked = 0
  const probe = new ReachProbe(() => asked++)
  const tick = (times: number) => {
    for (let tick = 0; tick < times; tick++) probe.onTick()
  }
  for (let answers = 0; answers < 20; answers++) {
    tick(askEveryTicks)
    assert.ok(probe.isInReach)
    probe.onAnswer()
  }
  assert.equal(asked, 20)
  tick(silenceTicks - 1)
  assert.ok(probe.isInReach)
  tick(1)
  assert.ok(!probe.isInReach)
  tick(1000)
  assert.ok(!probe.isInReach)
  probe.onAnswer()
  assert.ok(probe.isInReach)
})
