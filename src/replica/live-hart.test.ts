import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ToyMachine } from '../../test/support/toy-machine.ts'
import { decodeBatch } from '../log/batch.ts'
import { type Discipline, exactDiscipline } from '../log/discipline.ts'
import type { Input } from '../machine/types.ts'
import { HartDriver } from './hart-driver.ts'
import { defaultHartPolicy, type HartWorld } from './hart-world.ts'

const disciplines: readonly Discipline[] = [exactDiscipline, { kind: 'epoch', protocol: 'revised', instructions: 1000 }]

class ToyWithCard extends ToyMachine {
  override apply(input: Input): void {
    if (input.kind === 'frame') this.frameRoom--
    super.apply(input)
  }
}

/** A toy that keeps to itself, with a card whose room the test says, and the numbers of frames in its log so far. */
function start(discipline: Discipline) {
  const machine = new ToyWithCard({ frameEvery: 0, diskEvery: 0, consoleEvery: 0, entropyEvery: 0, waitEvery: 0 })
  const entered: bigint[] = []
  let nowNs = 0n
  const world: HartWorld = {
    policy: defaultHartPolicy,
    discipline,
    leavesOutReads: false,
    digestEveryMs: 1000,
    nowNs: () => (nowNs += 50_000n),
    wallClockNs: () => nowNs,
    randomBytes: (lengthBytes) => new Uint8Array(lengthBytes),
    post(message) {
      if (message.kind !== 'recorded') return
      for (const batch of message.batches) {
        for (const { body } of decodeBatch(batch.bytes)) {
          if (body.kind === 'frame') entered.push(body.frameId)
        }
      }
    },
    showProgress() {},
    showDigestsCompared() {},
    onFrameEntered() {},
    isRung: () => false,
    acknowledgedEnd: () => undefined,
  }
  const driver = new HartDriver(machine, 'live', world)
  driver.onMessage({ kind: 'powerOn' })
  const frame = (id: number): void =>
    driver.onMessage({
      kind: 'input',
      input: { kind: 'frame', frameId: BigInt(id), bytes: new Uint8Array(60) },
      arrivedNs: nowNs,
    })
  /** Enough turns for several epochs. */
  const turns = (): void => {
    for (let turn = 0; turn < 20; turn++) driver.turn()
  }
  return { machine, driver, entered, frame, turns }
}

for (const discipline of disciplines) {
  test(`a frame for which the card has no room waits outside the log, and none is lost (${discipline.kind})`, () => {
    const { machine, entered, frame, turns } = start(discipline)
    turns()
    machine.frameRoom = 0
    for (let id = 1; id <= 9; id++) frame(id)
    turns()
    assert.deepEqual(entered, [])
    machine.frameRoom = 4
    turns()
    assert.deepEqual(entered, [1n, 2n, 3n, 4n])
    assert.equal(machine.frameRoom, 0)
    machine.frameRoom = 5
    turns()
    assert.deepEqual(entered, [1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n, 9n])
  })
}
