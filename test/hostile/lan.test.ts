/** Hostile peers of the switch: replicas with and without a token on the replica port, stations on a plain port. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { Prng } from '../../src/base/prng.ts'
import { broadcastMac, type Mac, macBytes, parseMac } from '../../src/lan/frame.ts'
import { type Lan, startLan } from '../../src/lan/lan.ts'
import { LanClient } from '../../src/lan/lan-client.ts'
import { encodePrefix, prefixBytes } from '../../src/lan/length-prefix.ts'
import {
  decodeMessageToReplica,
  encodeMessageToSwitch,
  type MessageToSwitch,
  proofOf,
  replicaProtocolVersion,
} from '../../src/lan/replica-message.ts'
import { attack, TraceJudge, within } from './attack.ts'
import { mutate } from './mutator.ts'

const folder = mkdtempSync(join(tmpdir(), 'understudy-hostile-lan-'))
const good = { name: 'good', mac: '52:54:00:00:00:01', token: 'token-of-good' }
const evil = { name: 'evil', mac: '52:54:00:00:00:02', token: 'token-of-evil' }
const evilMac = parseMac(evil.mac)
let lan: Lan
let honest: LanClient
const judge = new TraceJudge()
/** Hostile replicas that were heard after their hello. */
let welcomed = 0
let sequence = 0n
let confirmed = 0n
let onConfirmed = (): void => {}

before(async () => {
  lan = await startLan({
    replicaListen: { address: { path: join(folder, 'replica') } },
    plainSocketPath: join(folder, 'plain'),
    machines: [good, evil],
    trace: (line) => {
      judge.trace(line)
      if (/in generation/.test(line)) welcomed++
    },
  })
  honest = await LanClient.connect({
    address: lan.replicaAddress,
    machine: good.name,
    mac: good.mac,
    token: good.token,
    replica: 'a',
    onFrame: (frameId) => honest.covered(frameId),
    onConfirmed: (sequence) => {
      confirmed = sequence
      onConfirmed()
    },
    onFenced: () => assert.fail('nobody else has its token'),
    onClosed: () => assert.fail('the honest replica was dropped'),
  })
  await honest.bind({ generation: 1n, coveredFrameId: 0n })
})

after(async () => {
  honest.close()
  await lan.close()
  rmSync(folder, { recursive: true })
})

function frame(source: Mac, destination: Mac): Uint8Array {
  const bytes = new Uint8Array(60)
  bytes.set(macBytes(destination), 0)
  bytes.set(macBytes(source), 6)
  return bytes
}

/** The honest replica's frame is forwarded and confirmed. */
async function honestFrameIsConfirmed(): Promise<void> {
  sequence++
  await new Promise<void>((resolve) => {
    onConfirmed = () => {
      if (confirmed >= sequence) resolve()
    }
    honest.sendOutput(sequence, frame(parseMac(good.mac), broadcastMac))
  })
}

/** The length in front says what follows. */
function seal(message: Uint8Array): Uint8Array {
  const sealed = new Uint8Array(Math.max(message.length, prefixBytes + 1))
  sealed.set(message)
  sealed.set(encodePrefix(sealed.length - prefixBytes))
  return sealed
}

async function nonceOf(socket: Socket): Promise<Uint8Array> {
  const [bytes] = (await within('a challenge comes', once(socket, 'data'))) as [Buffer]
  const challenge = decodeMessageToReplica(bytes.subarray(prefixBytes))
  assert.ok(challenge.type === 'challenge')
  return challenge.nonce
}

let generation = 0n

function politeReplica(prng: Prng, nonce: Uint8Array): Uint8Array[] {
  const proof = proofOf(evil.token, nonce, evil.name, 'x')
  const request = {
    generation: ++generation,
    logId: 1n,
    mac: evilMac,
    coveredFrameId: BigInt(prng.below(4)),
    receivedFrameId: BigInt(prng.below(6)),
  }
  const hello: MessageToSwitch = {
    type: 'hello',
    version: replicaProtocolVersion,
    machine: evil.name,
    replica: 'x',
    proof,
  }
  const messages: MessageToSwitch[] = [
    { type: 'bind', request },
    { type: 'output', sequence: 1n, frame: frame(evilMac, broadcastMac) },
    { type: 'output', sequence: generation * 4n, frame: frame(evilMac, parseMac(good.mac)) },
    { type: 'covered', frameId: 3n },
    { type: 'announce' },
    { type: 'ping' },
    { type: 'output', sequence: generation * 4n + 1n, frame: frame(evilMac, parseMac('02:00:00:00:00:0a')) },
  ]
  return [hello, ...messages, ...messages, ...messages].map(encodeMessageToSwitch)
}

test('10^5 mutated messages to the replica port disturb no honest replica and leave nothing behind', async () => {
  const connections = await attack({
    address: lan.replicaAddress,
    seed: 1,
    honest: honestFrameIsConfirmed,
    conversation: async (prng, socket) => {
      const [hello, ...rest] = politeReplica(prng, await nonceOf(socket))
      // Half of them are let in first.
      return prng.chance(0.5) ? mutate(prng, [hello!, ...rest], seal) : [hello!, ...mutate(prng, rest, seal)]
    },
  })
  assert.ok(judge.lines <= 4 * connections, `${judge.lines} lines about ${connections} connections`)
  assert.ok(welcomed > connections / 4, `${welcomed} of ${connections} were let in`)
})

test('10^5 mutated frames to a plain port disturb no honest replica and leave nothing behind', async () => {
  const linesBefore = judge.lines
  const station = parseMac('02:00:00:00:00:0a')
  const connections = await attack({
    address: { path: join(folder, 'plain') },
    seed: 2,
    honest: honestFrameIsConfirmed,
    conversation: (prng) => {
      const polite = [broadcastMac, parseMac(good.mac), evilMac, station, parseMac('02:00:00:00:00:0b')].flatMap((to) =>
        [station, evilMac, parseMac('02:00:00:00:00:0c'), parseMac('02:00:00:00:00:0d')].map((from) =>
          seal(Buffer.concat([new Uint8Array(4), frame(from, to)])),
        ),
      )
      return mutate(prng, polite, seal)
    },
  })
  assert.ok(
    judge.lines - linesBefore <= connections,
    `${judge.lines - linesBefore} lines about ${connections} connections`,
  )
})
