/** Hostile peers of the arbiter: with and without a machine's token. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Prng } from '../../src/base/prng.ts'
import { ArbiterClient } from '../../src/disk/arbiter-client.ts'
import { arbiterProtocolVersion, encodeLine } from '../../src/disk/arbiter-messages.ts'
import { makeImage, startTestServer, temporaryFolder } from '../../src/disk/test-disk.ts'
import { attack, TraceJudge } from './attack.ts'
import { mutate } from './mutator.ts'

const machines = { web: 'secret-of-web', evil: 'secret-of-evil' }

/** A line ends with its line end, and nowhere else. */
function seal(message: Uint8Array): Uint8Array {
  return Buffer.from(`${Buffer.from(message).toString('latin1').replaceAll('\n', ' ')}\n`, 'latin1')
}

function politeReplica(prng: Prng): Uint8Array[] {
  const generation = prng.below(1000)
  const hello = { op: 'hello', version: arbiterProtocolVersion, machine: 'evil', replica: 'x', token: machines.evil }
  const requests = [
    { op: 'read' },
    { op: 'start' },
    { op: 'setEligible', generation, eligible: ['x', 'y'] },
    { op: 'testAndSet', generation },
    { op: 'openGeneration', generation, eligible: ['y'] },
    { op: 'read' },
    { op: 'release', generation },
  ]
  return [hello, ...requests, ...requests, ...requests].map((request, id) =>
    Buffer.from(encodeLine({ id, ...request })),
  )
}

test('10^5 mutated requests to the arbiter change no other machine, hold nobody up and leave nothing behind', async (t) => {
  const folder = temporaryFolder()
  const judge = new TraceJudge()
  const server = await startTestServer(t, folder, {
    exports: [{ name: 'disk0', path: makeImage(folder, 'disk0.img'), machine: 'web' }],
    tokens: machines,
    trace: judge.trace,
  })
  const address = server.addresses.arbiter
  const client = new ArbiterClient({ address, machine: 'web', replica: 'a', token: machines.web })
  t.after(() => client.close())
  const started = await client.start(5000)
  assert.ok(started.granted)
  const connections = await attack({
    address,
    seed: 3,
    conversation: (prng) => {
      const [hello, ...rest] = politeReplica(prng)
      return prng.chance(0.5) ? mutate(prng, [hello!, ...rest], seal) : [hello!, ...mutate(prng, rest, seal)]
    },
    honest: async () => {
      const { generation, holder } = await client.read(5000)
      assert.deepEqual({ generation, holder }, { generation: started.generation, holder: 'a' })
    },
  })
  assert.ok(judge.lines <= 22 * connections, `${judge.lines} lines about ${connections} connections`)
})
