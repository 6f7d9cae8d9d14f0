import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { bareGuestConfig, bareGuestImage } from '../../test/determinism/bare-guest.ts'
import { Hart } from './hart.ts'

function startHart(t: TestContext) {
  const failed = Promise.withResolvers<Error>()
  let failures = 0
  const hart = new Hart({
    config: bareGuestConfig,
    image: bareGuestImage(),
    mode: 'live',
    digestEveryMs: 1000,
    onMessage: () => {},
    onFailed: (error) => {
      failures++
      failed.resolve(error)
    },
  })
  t.after(() => hart.stop())
  return { hart, failed: failed.promise, failures: () => failures }
}

test('a hart whose thread dies is reported at once, and once', async (t) => {
  const { hart, failed, failures } = startHart(t)
  hart.send({ kind: 'powerOn' })
  hart.send({ kind: 'fault', fault: 'die' })
  assert.match((await failed).message, /a fault was injected/)
  await hart.stop()
  assert.equal(failures(), 1)
})

test('a hart that sleeps, is paused or works is not reported, and ends in order', async (t) => {
  const { hart, failures } = startHart(t)
  for (let tick = 0; tick < 300; tick++) {
    if (tick === 100) hart.send({ kind: 'powerOn' })
    if (tick === 200) hart.send({ kind: 'pause', isPaused: true })
    hart.watch()
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await hart.stop()
  assert.equal(failures(), 0)
})
