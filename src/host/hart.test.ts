import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { bareGuestConfig, bareGuestImage } from '../../test/determinism/bare-guest.ts'
import { decodeBatch, type LogBatch } from '../log/batch.ts'
import { type Discipline, exactDiscipline } from '../log/discipline.ts'
import { Hart } from './hart.ts'
import type { FromHartThread } from './hart-messages.ts'

/** On a thread of its own, and in its replica's. */
const runners: readonly (readonly [string, Discipline])[] = [
  ['on a thread of its own', exactDiscipline],
  ["in its replica's thread", { kind: 'epoch', protocol: 'original', instructions: 1000 }],
]

function startHart(
  t: TestContext,
  discipline: Discipline,
  mode: 'live' | 'replaying' = 'live',
  onMessage: (message: FromHartThread) => void = () => {},
) {
  const failed = Promise.withResolvers<Error>()
  let failures = 0
  const hart = new Hart({
    config: bareGuestConfig,
    image: bareGuestImage(),
    mode,
    digestEveryMs: 1000,
    discipline,
    onMessage,
    onFailed: (error) => {
      failures++
      failed.resolve(error)
    },
  })
  t.after(() => hart.stop())
  return { hart, failed: failed.promise, failures: () => failures }
}

for (const [runner, discipline] of runners) {
  test(`a hart that dies is reported at once, and once (${runner})`, async (t) => {
    const { hart, failed, failures } = startHart(t, discipline)
    hart.send({ kind: 'powerOn' })
    hart.send({ kind: 'fault', fault: 'die' })
    assert.match((await failed).message, /a fault was injected/)
    await hart.stop()
    assert.equal(failures(), 1)
  })

  test(`a hart that sleeps, is paused or works is not reported, and ends in order (${runner})`, async (t) => {
    const { hart, failures } = startHart(t, discipline)
    for (let tick = 0; tick < 45; tick++) {
      if (tick === 15) hart.send({ kind: 'powerOn' })
      if (tick === 30) hart.send({ kind: 'pause', isPaused: true })
      hart.watch()
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    await hart.stop()
    assert.equal(failures(), 0)
  })

  test(`what the world says while a hart goes live is not lost: it enters once the replay is done (${runner})`, async (t) => {
    const batches: LogBatch[] = []
    const recorded = Promise.withResolvers<void>()
    const { hart: primary } = startHart(t, discipline, 'live', (message) => {
      if (message.kind !== 'recorded') return
      batches.push(...message.batches)
      if (message.bytesByCause.clock > 0) recorded.resolve()
    })
    primary.send({ kind: 'powerOn' })
    await recorded.promise
    await primary.stop()
    const heard = Promise.withResolvers<void>()
    const { hart: backup } = startHart(t, discipline, 'replaying', (message) => {
      if (message.kind === 'recorded' && message.bytesByCause.console > 0) heard.resolve()
    })
    // All of it is there before the thread takes its first turn.
    for (const batch of batches) backup.send({ kind: 'append', batch })
    backup.send({ kind: 'goLive' })
    backup.sendInput({ kind: 'consoleInput', bytes: Uint8Array.of(0x61) })
    await heard.promise
  })

  test(`every frame is counted with the time it waited for its log entry (${runner})`, async (t) => {
    const entered = Promise.withResolvers<void>()
    const { hart } = startHart(t, discipline, 'live', (message) => {
      if (message.kind === 'recorded' && message.bytesByCause.frame > 0) entered.resolve()
    })
    assert.equal(hart.frameDelays.count, 0)
    hart.send({ kind: 'powerOn' })
    hart.sendInput({ kind: 'frame', frameId: 1n, bytes: new Uint8Array(60) })
    await entered.promise
    const { count, medianMs, p99Ms } = hart.frameDelays
    assert.equal(count, 1)
    assert.ok(medianMs > 0 && medianMs === p99Ms)
  })

  test(`a hart that goes live with an empty log switches the machine on: its primary died before it had (${runner})`, async (t) => {
    const switchedOn = Promise.withResolvers<LogBatch>()
    const { hart } = startHart(t, discipline, 'replaying', (message) => {
      if (message.kind === 'recorded') switchedOn.resolve(message.batches[0]!)
    })
    hart.send({ kind: 'goLive' })
    const [first] = decodeBatch((await switchedOn.promise).bytes)
    assert.equal(first?.index, 0n)
    assert.equal(first?.body.kind, 'boot')
  })

  test(`entries of a group of frames are flushed together: a batch for the group, not one for each (${runner})`, async (t) => {
    const frames = 64
    const entered = Promise.withResolvers<number>()
    let seen = 0
    let batches = 0
    const { hart } = startHart(t, discipline, 'live', (message) => {
      if (message.kind !== 'recorded') return
      for (const batch of message.batches) {
        const inBatch = decodeBatch(batch.bytes).filter(({ body }) => body.kind === 'frame').length
        seen += inBatch
        if (inBatch > 0) batches++
      }
      if (seen === frames) entered.resolve(batches)
    })
    // They are there before the thread takes its first turn.
    hart.send({ kind: 'powerOn' })
    for (let id = 1; id <= frames; id++) {
      hart.sendInput({ kind: 'frame', frameId: BigInt(id), bytes: new Uint8Array(60) })
    }
    assert.ok((await entered.promise) <= frames / 4, `${batches} batches for ${frames} frames`)
  })
}
