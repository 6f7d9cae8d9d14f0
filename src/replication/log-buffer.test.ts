import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { logIndex } from '../log/entry.ts'
import { LogBuffer } from './log-buffer.ts'

const end = (value: number) => logIndex(BigInt(value))

test('unreceived and unreplayed bytes are those of the batches that are not wholly received or replayed', () => {
  fc.assert(
    fc.property(fc.array(fc.record({ send: fc.nat(3), receive: fc.nat(9), replay: fc.nat(9) })), (rounds) => {
      const buffer = new LogBuffer(end(5))
      const sent: { end: number; bytes: number }[] = []
      let [sentEnd, received, replayed] = [5, 5, 5]
      for (const round of rounds) {
        for (let batches = 0; batches < round.send; batches++) {
          sentEnd += 1 + ((sentEnd * 7) % 3)
          sent.push({ end: sentEnd, bytes: sentEnd })
          buffer.onSent(end(sentEnd), sentEnd)
        }
        received = Math.min(sentEnd, received + round.receive)
        replayed = Math.min(received, replayed + round.replay)
        assert.ok(buffer.onProgress(end(received), end(replayed)))
        const bytesAfter = (bound: number) =>
          sent.reduce((total, batch) => total + (batch.end > bound ? batch.bytes : 0), 0)
        assert.equal(buffer.unreceivedBytes, bytesAfter(received))
        assert.equal(buffer.unreplayedBytes, bytesAfter(replayed))
      }
    }),
  )
})

test('impossible progress is refused and changes nothing', () => {
  const buffer = new LogBuffer(end(0))
  buffer.onSent(end(10), 100)
  assert.ok(buffer.onProgress(end(6), end(4)))
  for (const [received, replayed] of [
    [11, 4],
    [5, 4],
    [6, 3],
    [6, 7],
  ] as const) {
    assert.equal(buffer.onProgress(end(received), end(replayed)), false, `${received}, ${replayed}`)
  }
  assert.equal(buffer.receivedEnd, 6n)
  assert.equal(buffer.replayedEnd, 4n)
})
