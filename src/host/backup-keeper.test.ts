import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BackupKeeper } from './backup-keeper.ts'

type Protection = ConstructorParameters<typeof BackupKeeper>[0]['replica']['protection']

function keeperOf(protection: NonNullable<Protection>) {
  const started: boolean[] = []
  const starter = {
    wantsBackup: true,
    setWantsBackup: () => {},
    status: { doing: undefined, hosts: {} },
    start: async (isFirst: boolean) => void started.push(isFirst),
  }
  const keeper = new BackupKeeper({ replica: { protection }, starter, trace: () => {} })
  return { keeper, started }
}

test('a machine that lost a replica serves its clients first; then a new backup is started, once', () => {
  const { keeper, started } = keeperOf({ state: 'alone', isComplete: false, hasTransfer: false })
  keeper.look(1000)
  keeper.look(1199)
  assert.deepEqual(started, [])
  keeper.look(1200)
  keeper.look(1201)
  assert.deepEqual(started, [true])
})

test('the start of a backup needs no other call', async () => {
  const { keeper, started } = keeperOf({ state: 'alone', isComplete: false, hasTransfer: false })
  keeper.look(performance.now())
  while (started.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
})
