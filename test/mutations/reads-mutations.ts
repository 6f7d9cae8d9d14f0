/** VMware FT's disk reads on the backup (2010), broken one by one; noticed by the paper's own tests. */

import type { Mutation } from './mutations.ts'

const file = 'test/paper/vmware-ft/disk-reads.test.ts'
const title = 'Disk reads on the backup'

export const readsMutations: readonly Mutation[] = [
  {
    name: 'what a backup is to read itself is in the log all the same',
    file: 'src/hypervisor/recorder.ts',
    from: "const isLeftOut = this.#leavesOutReads && input.kind === 'diskCompletion' && input.data !== undefined",
    to: "const isLeftOut = false && input.kind === 'diskCompletion'",
    noticedBy: {
      file,
      test: `${title}: what was read is not in the log, the backup reads it itself, and is the same machine`,
    },
  },
  {
    name: 'a backup does not look whether it has read the same',
    file: 'src/hypervisor/replayer.ts',
    from: 'if (found === dataDigest) return undefined',
    to: 'if (found !== 0n) return undefined',
    noticedBy: {
      file,
      test: `${title}: something else than the primary has read is no answer; if it stays so, it is a divergence`,
    },
  },
  {
    name: 'a backup does not read again what it could not read',
    file: 'src/replica/replayed-reads.ts',
    from: 'reading again`)\n        this.#options.later(() => this.#attempt(open, over))\n        return\n',
    to: 'reading again`)\n        return\n',
    noticedBy: {
      file,
      test: `${title}, rule (a): if its read fails where the primary’s succeeded, it reads again until that succeeds`,
    },
  },
  {
    name: "a backup uses its own read although the primary's failed",
    file: 'src/hypervisor/replayer.ts',
    from: '      this.machine.apply(body)\n      this.#obligations.onInput(body)\n',
    to: "      const own = body.kind === 'diskCompletion' ? this.#reads.get(body.sequence) : undefined\n      this.machine.apply(own && body.kind === 'diskCompletion' ? { ...body, status: 'ok', data: own } : body)\n      this.#obligations.onInput(body)\n",
    noticedBy: {
      file,
      test: `${title}, rule (b): if the primary’s read failed, the log says what came of it, and the backup’s own read is not used`,
    },
  },
  {
    name: 'a backup goes on trying to read what the primary could not',
    file: 'src/host/disk-backend.ts',
    from: 'this.#followers = [disks, this.#reads]',
    to: 'this.#followers = [disks, { onRequest: (request) => this.#reads.onRequest(request), onAnswer: () => {} }]',
    noticedBy: {
      file,
      test: `${title}, rule (b): a read that the log has answered with an error is not tried any more`,
    },
  },
  {
    name: "a write does not wait for the backup's read of the same sectors",
    file: 'src/replication/read-barrier.ts',
    from: 'if (replayedEnd !== undefined && replayedEnd < afterReadsEnd) {',
    to: 'if (replayedEnd !== undefined && afterReadsEnd < 0n) {',
    noticedBy: {
      file,
      test: `${title}, rule (c): a write to sectors of an earlier read waits until the backup has done that read`,
    },
  },
  {
    name: "simulator: a write does not wait for the backup's read of the same sectors",
    file: 'src/replication/read-barrier.ts',
    from: 'if (replayedEnd !== undefined && replayedEnd < afterReadsEnd) {',
    to: 'if (replayedEnd !== undefined && afterReadsEnd < 0n) {',
    noticedBy: { seeds: 300 },
  },
  {
    name: "a write waits for some of the backups' reads only",
    file: 'src/replication/backup-links.ts',
    from: 'if (end === undefined || buffer.replayedEnd < end) end = buffer.replayedEnd',
    to: 'if (end === undefined || buffer.replayedEnd > end) end = buffer.replayedEnd',
    noticedBy: {
      file,
      test: `${title}, rule (c): every backup is waited for, a lost one until the arbiter has dropped it`,
    },
  },
  {
    name: 'a write that is issued again waits for no reads',
    file: 'src/replication/read-barrier.ts',
    from: 'this.#held.push(...requests)',
    to: 'this.#held.push(...requests.map(({ output }) => ({ output })))',
    noticedBy: { file, test: `${title}, rule (c): a write that is issued again at a failover waits as well` },
  },
  {
    name: 'the log of a write forgets a read before it',
    file: 'src/hypervisor/read-ledger.ts',
    from: 'const latest = this.#done.findLast(',
    to: 'const latest = this.#done.slice(0, -1).findLast(',
    noticedBy: {
      file,
      test: `${title}, rule (c): the log of a write names the reads before it; the same on both sides`,
    },
  },
  {
    name: 'a sibling follows whose reads were overwritten',
    file: 'src/replication/read-barrier.ts',
    from: 'return replayedEnd >= this.#overwrittenEnd',
    to: 'return replayedEnd >= 0n',
    noticedBy: { file, test: `${title}, rule (c): who may find its reads overwritten cannot follow any more` },
  },
  {
    name: "the primary's own copy is changed before the backup that copies it has read",
    file: 'src/replication/primary.ts',
    from: 'this.#outputs.take(outputs, joining && { replayedEnd })',
    to: 'this.#outputs.take(outputs, joining && replayedEnd === -1n ? { replayedEnd } : undefined)',
    noticedBy: {
      file,
      test: `${title}, rule (c), with a copy of its own: while that is made, the primary’s copy is not changed before the backup’s read`,
    },
  },
  {
    name: "a backup's own copy is changed before it was read",
    file: 'src/replica/own-disk.ts',
    from: 'this.#turns.inTurn(range, begin)',
    to: 'void range\n    begin(() => {})',
    noticedBy: {
      file,
      test: `${title}, rule (c), with a copy of its own: what the log changes next waits for the backup’s read`,
    },
  },
]
