import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DisksWithCopies } from './disks-with-copies.ts'

/** Notes what is asked of disks and copies; `finished` and `connected` end what waits. */
function newDisks() {
  const asked: string[] = []
  const stamps: number[] = []
  const waiting: { finished?: () => void; connected?: () => void } = {}
  const disks = new DisksWithCopies({
    disks: {
      issue: () => asked.push('issue'),
      onReplayed: () => asked.push('replayed'),
      readAgain: () => asked.push('readAgain'),
      flush: (done) => done(),
      follow: () => asked.push('follow'),
      begin: () => asked.push('begin'),
      connect: (_generation, done) => {
        waiting.connected = done
      },
    },
    hasOwn: () => true,
    isPrimary: () => true,
    stampLive: (generation) => stamps.push(generation),
  })
  disks.take({
    finish: (done) => {
      asked.push('finish')
      waiting.finished = done
    },
    close: () => asked.push('close'),
  })
  return { disks, asked, stamps, waiting }
}

test('a backup that follows from the first entry on keeps its copies as they are, and changes them from then on', () => {
  const { disks, asked } = newDisks()
  disks.onReplayed([], [])
  disks.onReplayed([], [])
  assert.deepEqual(asked, ['close', 'begin', 'replayed', 'replayed'])
})

test('a backup that begins in the middle changes nothing before its last round is over, and is not whole before', () => {
  const { disks, asked, waiting } = newDisks()
  disks.onRestored([], () => asked.push('whole'))
  disks.onReplayed([], [])
  assert.deepEqual(asked, ['follow', 'finish', 'replayed'])
  waiting.finished!()
  assert.deepEqual(asked.slice(3), ['begin', 'whole'])
})

test('copies are stamped, and others may be made of them, when what was followed is on stable storage', () => {
  const { disks, stamps, waiting } = newDisks()
  disks.onReplayed([], [])
  assert.equal(disks.isSafe, true)
  disks.connect(7)
  assert.deepEqual([disks.isSafe, stamps], [false, []])
  waiting.connected!()
  assert.deepEqual([disks.isSafe, stamps], [true, [7]])
})
