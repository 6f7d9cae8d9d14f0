import assert from 'node:assert/strict'
import { test } from 'node:test'
import { causeOf, type EntryBody } from './entry.ts'

test('log bytes go to the cause an operator would name', () => {
  const bytes = new Uint8Array(1)
  const cases: readonly [EntryBody, string][] = [
    [{ kind: 'boot', rngSeed: bytes, wallClockNs: 0n }, 'power'],
    [{ kind: 'powerButton' }, 'power'],
    [{ kind: 'clock', ticks: 0n, ratePer2p32: 0n, capTicks: 0n }, 'clock'],
    [{ kind: 'frame', frameId: 0n, bytes }, 'frame'],
    [{ kind: 'diskCompletion', sequence: 0n, status: 'ok' }, 'disk'],
    [{ kind: 'consoleInput', bytes }, 'console'],
    [{ kind: 'entropy', bytes }, 'entropy'],
    [{ kind: 'marker', sequence: 0n, outputKind: 'disk', checksum: 0n }, 'marker'],
    [{ kind: 'digest', digest: 0n }, 'digest'],
  ]
  for (const [body, cause] of cases) assert.equal(causeOf(body), cause)
})
