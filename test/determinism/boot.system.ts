/**
 * A whole boot of Debian, with network and disk traffic, replayed in every way that must not matter (ARCHITECTURE,
 * invariant 3): equal outputs and one digest at every checkpoint. `campaign.ts` is the same for hours.
 */

import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { equalBytes } from '../../src/base/bytes.ts'
import { Prng } from '../../src/base/prng.ts'
import { MiB } from '../../src/base/units.ts'
import type { LogEntry } from '../../src/log/entry.ts'
import type { InputKind, Machine } from '../../src/machine/types.ts'
import {
  type RecordedBoot,
  recordBoot,
  recordedBoot,
  recordedSeed,
  windowInstructions,
  windowNames,
} from '../support/recorded-boot.ts'
import { tryDelayedEntries, tryDroppedEntries } from './log-mutation.ts'
import { assertReplays, entriesOf, randomSlices } from './replay.ts'

let boot: RecordedBoot
let entries: LogEntry[]

before(async () => {
  boot = await recordedBoot()
  entries = entriesOf(boot.batches)
})

test('the recording has every kind of traffic: disk, network, console, entropy, clock and digests', () => {
  const of = (kind: LogEntry['body']['kind']) => entries.filter(({ body }) => body.kind === kind).length
  const atLeast: Readonly<Partial<Record<InputKind | 'marker' | 'digest', number>>> = {
    boot: 2,
    consoleInput: 1,
    clock: 1000,
    frame: 1000,
    diskCompletion: 300,
    entropy: 2,
    marker: 1000,
    digest: 40,
  }
  for (const [kind, least] of Object.entries(atLeast)) {
    const found = of(kind as InputKind)
    assert.ok(found >= least, `${found} entries of the kind ${kind}`)
  }
  assert.ok(boot.load.counted >= 100, `${boot.load.counted} INCRs`)
  assert.ok(boot.load.redisPongs >= 30, `${boot.load.redisPongs} answers to PING`)
  assert.ok(boot.load.echoes >= 30, `${boot.load.echoes} ICMP echoes`)
  assert.ok(entries.at(-1)!.count > 1_500_000_000n)
})

test('the same world recorded twice writes the same log, byte for byte', async () => {
  const { keptLog } = await recordBoot(recordedSeed)
  assert.equal(keptLog.length, boot.keptLog.length)
  assert.ok(equalBytes(keptLog, boot.keptLog))
})

test('the whole boot in slices of 1000, moved to a fresh machine every 400 million instructions', () => {
  const drive = { nextSlice: () => 1000n, moveEvery: 400_000_000n, newMachine: boot.newMachine }
  const { slices, moves, digests } = assertReplays(entries, boot.newMachine(), drive)
  assert.ok(slices >= 1_500_000 && moves >= 4 && digests >= 40, `${slices} slices, ${moves} moves, ${digests} digests`)
})

test('the whole boot in random slices from 1 to 3 million, digested and moved to a fresh machine in between', () => {
  const prng = new Prng(0xb007)
  const drive = {
    nextSlice: randomSlices(prng, 3_000_000),
    moveEvery: 130_000_000n + BigInt(prng.below(300_000_000)),
    newMachine: boot.newMachine,
    beforeSlice: (machine: Machine) => {
      // Looking at a machine changes what its engine has cached, and must change nothing else.
      if (prng.chance(0.02)) machine.digest()
    },
  }
  const { slices, moves, digests } = assertReplays(entries, boot.newMachine(), drive)
  assert.ok(slices >= 1000 && moves >= 3 && digests >= 40, `${slices} slices, ${moves} moves, ${digests} digests`)
})

describe('the whole boot, whatever the engine translates', () => {
  const engines = {
    'nothing at all': 'off',
    'much of it, forgetting it all often': { threshold: 400, cacheBytes: 12 * MiB },
  } as const
  for (const [name, translation] of Object.entries(engines)) {
    test(name, () => {
      const nextSlice = randomSlices(new Prng(0x7a4), 3_000_000)
      const { digests } = assertReplays(entries, boot.newMachine(translation), { nextSlice })
      assert.ok(digests >= 40, `${digests} digests`)
    })
  }
})

/** A machine restored from a window's snapshot, and the entries from there to the window's end. */
function windowOf(name: (typeof windowNames)[number]) {
  const { start, end, snapshot } = boot.windows[name]
  const machine = boot.newMachine()
  machine.restore(snapshot)
  return { machine, part: entries.slice(Number(start), Number(end)) }
}

for (const name of windowNames) {
  describe(`10 million instructions from the snapshot "${name}"`, () => {
    for (const slice of [1n, 2n, 3n, 7n]) {
      test(`in slices of ${slice}`, () => {
        const { machine, part } = windowOf(name)
        const first = machine.count
        const { slices, digests } = assertReplays(part, machine, { nextSlice: () => slice })
        assert.equal(machine.count - first, windowInstructions)
        assert.ok(BigInt(slices) >= windowInstructions / slice && digests >= 5, `${slices} slices, ${digests} digests`)
      })
    }
  })
}

describe('this check can fail: a changed log of the guest under load is noticed', () => {
  for (const kind of ['clock', 'frame', 'diskCompletion'] as const) {
    test(`a dropped entry of the kind ${kind}`, () => {
      const { machine, part } = windowOf('under-load')
      assert.deepEqual(tryDroppedEntries(part, restoring(machine), kind, 5), { tried: 5, noticed: 5 })
    })

    test(`an entry of the kind ${kind}, one instruction late, if that makes a difference at all`, () => {
      const { machine, part } = windowOf('under-load')
      assert.deepEqual(tryDelayedEntries(part, restoring(machine), kind, 5), { tried: 5, noticed: 5 })
    })
  }

  function restoring(machine: Machine): () => Machine {
    return () => {
      machine.restore(boot.windows['under-load'].snapshot)
      return machine
    }
  }
})
