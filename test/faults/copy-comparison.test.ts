import assert from 'node:assert/strict'
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { temporaryFolder } from '../../src/disk/test-disk.ts'
import { comparedPieceBytes, differingPieces } from './copy-comparison.ts'

const times = { standsForMs: 200, betweenLooksMs: 20 }

/** Two copies of 4 MiB, and what writes to one of them. */
function copies() {
  const folder = temporaryFolder()
  const paths = [join(folder, 'a'), join(folder, 'b')] as const
  for (const path of paths) writeFileSync(path, Buffer.alloc(64 * comparedPieceBytes, 7))
  const write = (copy: 0 | 1, piece: number, value: number): void => {
    const file = openSync(paths[copy], 'r+')
    writeSync(file, Buffer.of(value), 0, 1, piece * comparedPieceBytes + 5)
    closeSync(file)
  }
  return { paths, write }
}

test('a piece that differs while the primary stands still is stale', async () => {
  const { paths, write } = copies()
  const asked: string[] = []
  const brake = { stop: () => asked.push('stop'), goOn: () => asked.push('go on') }
  assert.deepEqual(await differingPieces(paths, brake, times), [])
  assert.deepEqual(asked, [], 'nobody stands still for equal copies')
  write(0, 40, 1)
  assert.deepEqual(await differingPieces(paths, brake, times), [40])
  assert.deepEqual(asked.slice(0, 2), ['stop', 'go on'])
  assert.equal(asked.at(-1), 'go on')
})

test('what a backup has yet to write when its primary stops, or writes only when it has gone on, is not', async () => {
  const { paths, write } = copies()
  write(0, 3, 1)
  write(0, 9, 1)
  let stops = 0
  const brake = {
    stop: () => {
      if (++stops === 1) setTimeout(() => write(1, 3, 1), 20)
    },
    goOn: () => write(1, 9, 1),
  }
  assert.deepEqual(await differingPieces(paths, brake, times), [])
  assert.ok(stops >= 2)
})
