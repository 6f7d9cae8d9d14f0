/**
 * Engines are a free choice of each replica: here one interprets while the other translates, the primary is killed under
 * load, and the other goes on. Digests are compared all along; a machine that could tell its engine would diverge.
 */

import assert from 'node:assert/strict'
import { afterEach, describe, test } from 'node:test'
import type { ReplicaName } from '../../src/host/vm-folder.ts'
import { faultKinds } from './fault-kinds.ts'
import { FaultyVm } from './faulty-vm.ts'
import { runTrial } from './trial.ts'

const primaryKilled = faultKinds.findIndex(({ name }) => name === 'primary-killed') + 1

afterEach(() => {
  delete process.env.UNDERSTUDY_ENGINE
})

describe('a pair of unlike engines does not diverge, and the backup goes on where the primary was killed', () => {
  const rows: readonly [name: string, interpreting: ReplicaName][] = [
    ['the primary interprets, the backup translates', 'a'],
    ['the primary translates, the backup interprets', 'b'],
  ]
  for (const [name, interpreting] of rows) {
    test(name, async (t) => {
      const say = (line: string): void => t.diagnostic(line)
      // The processes of the VM take it from here.
      process.env.UNDERSTUDY_ENGINE = `${interpreting}=interpret`
      const vm = await FaultyVm.create(say)
      try {
        await vm.ensureProtected()
        for (const replica of ['a', 'b'] as const) {
          const says = vm.traceOfRun(replica).includes('the engine interprets, and translates nothing')
          assert.equal(says, replica === interpreting, replica)
        }
        const backup = (await vm.statuses()).find(({ role }) => role === 'backup')!
        assert.equal(backup.name, 'b')
        assert.ok(backup.digestChecks > 0, 'digests were compared')
        const report = await runTrial(vm, primaryKilled, true, say)
        const { lost, duplicated, resets, divergences, twoLive, uncleanFilesystems, failure } = report
        assert.deepEqual(
          { lost, duplicated, resets, divergences, twoLive, uncleanFilesystems, failure },
          { lost: 0, duplicated: 0, resets: 0, divergences: 0, twoLive: 0, uncleanFilesystems: 0, failure: undefined },
        )
        assert.match(vm.traceOfRun('b'), /live in generation/)
      } finally {
        await vm.remove(false)
      }
    })
  }
})
