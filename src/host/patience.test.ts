import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WorldError } from '../base/assert.ts'
import { untilThere } from './patience.ts'

const silence = new WorldError('cannot-connect', 'cannot connect to the disk at 192.0.2.3:7103: ECONNREFUSED')

/** Fails so many times with `error`, then answers. */
function failing(times: number, error: Error): () => Promise<string> {
  let calls = 0
  return async () => {
    if (calls++ < times) throw error
    return 'there'
  }
}

test('who is silent is waited for, and it is said once, with where; an answer ends the waiting', async () => {
  const traces: string[] = []
  const patience = { trace: (line: string) => traces.push(line), signal: new AbortController().signal }
  assert.equal(await untilThere(failing(2, silence), patience), 'there')
  assert.deepEqual(traces, [`waiting: ${silence.message}`, 'it is there now'])
})

test('who says no is not asked again, and without patience silence is an error too', async () => {
  const no = new WorldError('key-refused', 'the disk refuses our key')
  const patience = { trace: () => {}, signal: new AbortController().signal }
  await assert.rejects(untilThere(failing(1, no), patience), no)
  await assert.rejects(untilThere(failing(1, silence), undefined), silence)
})

test('whoever ends the waiting gets the last error at once', async () => {
  const ending = new AbortController()
  const patience = { trace: () => ending.abort(), signal: ending.signal }
  await assert.rejects(untilThere(failing(9, silence), patience), silence)
})
