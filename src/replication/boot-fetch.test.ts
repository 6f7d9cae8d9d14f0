import assert from 'node:assert/strict'
import { test } from 'node:test'
import { kindsOf, only } from '../../test/support/replication.ts'
import type { BootArtefacts } from '../log/boot-artefacts.ts'
import { digestBootImage, digestConfig, type MachineIdentity } from '../log/identity.ts'
import { BootFetch, type FetchEffect } from './boot-fetch.ts'
import { BootOffer } from './boot-offer.ts'
import { artefactsPieceBytes, type Message } from './messages.ts'

function artefactsWith(seed: number): BootArtefacts {
  return {
    config: { ramBytes: 256 << 20, disks: [{ sectors: 100n, readOnly: false, serial: 'root' }] },
    image: {
      kind: 'linux',
      kernel: Uint8Array.from({ length: 2 * artefactsPieceBytes }, (_, index) => index * seed),
      initrd: Uint8Array.from({ length: 1000 }, (_, index) => index + seed),
      bootArguments: 'quiet',
    },
    protection: { backups: 1, heartbeatMs: 50, timeoutMs: 2000, digestEveryMs: 1000, lagMs: 30, backupReads: false },
    discipline: { kind: 'exact' },
  }
}

function identityOf({ config, image }: BootArtefacts): MachineIdentity {
  return {
    machine: 'shop',
    instructionTableHash: 1n,
    configDigest: digestConfig(config),
    imageDigest: digestBootImage(image),
  }
}

const artefacts = artefactsWith(3)
const identity = identityOf(artefacts)
const offer = new BootOffer(identity, artefacts)
const options = { machine: 'shop', instructionTableHash: 1n, answerTimeoutMs: 5000 }

/** The question in these effects, if there is one. */
function questionOf(effects: readonly FetchEffect[]): Extract<Message, { kind: 'fetch' }> | undefined {
  const [sent] = only(effects, 'send')
  return sent && (sent.message as Extract<Message, { kind: 'fetch' }>)
}

/** Lets `fetch` and `from` talk until there is no question any more. @returns the last effects */
function talk(fetch: BootFetch, from: BootOffer, first: FetchEffect[], most = 100): FetchEffect[] {
  let effects = first
  for (let turn = 0; turn < most; turn++) {
    const question = questionOf(effects)
    if (!question) break
    effects = fetch.onMessage(from.answer(question), turn)
  }
  return effects
}

test('a backup with nothing to boot from gets the machine piece by piece, one question at a time', () => {
  const fetch = new BootFetch(options)
  const first = fetch.onChannelOpen(0)
  assert.deepEqual(questionOf(first), { kind: 'fetch', machine: 'shop', instructionTableHash: 1n, offset: 0 })
  const second = fetch.onMessage(offer.answer(questionOf(first)!), 1)
  assert.deepEqual(kindsOf(second), ['progress', 'send'])
  assert.equal(questionOf(second)!.offset, artefactsPieceBytes)
  const [fetched] = only(talk(fetch, offer, second), 'fetched')
  assert.deepEqual(fetched?.artefacts, artefacts)
  assert.deepEqual(fetched?.identity, identity)
})

test('a boot image that does not match its digest is refused, with the reason', () => {
  const fetch = new BootFetch(options)
  const lying = new BootOffer({ ...identity, imageDigest: 9n }, artefacts)
  const [failed] = only(talk(fetch, lying, fetch.onChannelOpen(0)), 'failed')
  assert.match(failed!.error.message, /boot image does not match its digest/)
  assert.deepEqual(fetch.onChannelClosed(), [], 'it is over')
})

test('a primary of another machine or instruction table gives nothing, and says why', () => {
  for (const [changed, reason] of [
    [{ machine: 'bank' }, /other machine: "bank", here "shop"/],
    [{ instructionTableHash: 9n }, /instruction table.*run the same version on both sides/],
  ] as const) {
    const fetch = new BootFetch({ ...options, ...changed })
    const [failed] = only(talk(fetch, offer, fetch.onChannelOpen(0)), 'failed')
    assert.match(failed!.error.message, reason)
  }
})

test('pieces of another machine than the one it asked for are refused too', () => {
  const fetch = new BootFetch(options)
  const answer = offer.answer(questionOf(fetch.onChannelOpen(0))!)
  const [failed] = only(
    fetch.onMessage({ ...answer, identity: { ...identity, machine: 'bank' } } as Message, 1),
    'failed',
  )
  assert.match(failed!.error.message, /other machine/)
})

test('a connection that breaks or stays silent is replaced, and the fetch goes on where it was', () => {
  const fetch = new BootFetch(options)
  const effects = fetch.onMessage(offer.answer(questionOf(fetch.onChannelOpen(0))!), 10)
  assert.equal(questionOf(effects)!.offset, artefactsPieceBytes)
  assert.deepEqual(kindsOf(fetch.onTick(5000)), [])
  assert.deepEqual(kindsOf(fetch.onTick(5010)), ['connectAgain'])
  assert.deepEqual(fetch.onTick(9000), [], 'nobody is asked without a connection')
  const again = fetch.onChannelOpen(9000)
  assert.equal(questionOf(again)!.offset, artefactsPieceBytes)
  assert.deepEqual(kindsOf(fetch.onChannelClosed()), ['connectAgain'])
  const [fetched] = only(talk(fetch, offer, fetch.onChannelOpen(9500)), 'fetched')
  assert.deepEqual(fetched?.artefacts, artefacts)
})

test('a primary that came back with another machine is fetched from the start', () => {
  const fetch = new BootFetch(options)
  talk(fetch, offer, fetch.onChannelOpen(0), 1)
  fetch.onChannelClosed()
  const other = artefactsWith(5)
  const effects = talk(fetch, new BootOffer(identityOf(other), other), fetch.onChannelOpen(100))
  assert.deepEqual(only(effects, 'fetched')[0]?.artefacts, other)
})

test('a piece out of place, an empty one, or an impossible length ends the fetch', () => {
  for (const wrong of [{ offset: 5 }, { bytes: new Uint8Array() }, { lengthBytes: 2 ** 30 + 1 }, { lengthBytes: 9 }]) {
    const fetch = new BootFetch(options)
    const answer = offer.answer(questionOf(fetch.onChannelOpen(0))!)
    const [failed] = only(fetch.onMessage({ ...answer, ...wrong } as Message, 1), 'failed')
    assert.match(failed!.error.message, /where 0 was due/)
  }
})
