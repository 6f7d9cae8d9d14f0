/** The rules of the arbiter, on the disk server and in etcd, broken one by one. */

import type { Mutation } from './mutations.ts'

const arbiter = 'src/disk/arbiter.ts'

export const arbiterMutations: readonly Mutation[] = [
  {
    name: 'an arbiter that was started again lets anybody start a machine whose holder is about to come back',
    file: arbiter,
    from: 'const awaitHolderUntilMs = nowMs() + awaitHolderMs',
    to: 'const awaitHolderUntilMs = nowMs()',
    noticedBy: {
      file: 'src/disk/arbiter.test.ts',
      test: 'right after its own start the arbiter awaits a holder that did not release: a start would cost a machine that runs',
    },
  },
  {
    name: 'a grant is given without storing the record',
    file: arbiter,
    from: '        this.#storage.save(ruling.next)\n',
    to: '',
    noticedBy: {
      file: 'src/disk/arbiter.test.ts',
      test: 'the record is durable before the answer: when it cannot be stored, nothing is granted',
    },
  },
  {
    name: 'a record takes the place of the old one before it is on the disk',
    file: 'src/disk/record-storage.ts',
    from: '      this.#files.fsyncSync(file)\n',
    to: '',
    noticedBy: {
      file: 'src/disk/record-storage.test.ts',
      test: "a record is forced to the disk before it takes the old one's place, and the folder after",
    },
  },
  {
    name: "a winner that lost the arbiter's answer is refused when it asks again",
    file: 'src/disk/arbiter-record.ts',
    from: 'if (isRetryByWinner) return',
    to: 'if (isRetryByWinner && generation < 0) return',
    noticedBy: {
      file: 'src/disk/arbiter.test.ts',
      test: 'a winner that lost its reply asks again and is answered the same, by a new server too',
    },
  },
  {
    name: 'a late copy of a lost question wins',
    file: 'src/disk/arbiter-record.ts',
    from: "    if (names.some((name) => fields.spent.includes(name))) return this.#refusal('spent')\n",
    to: '',
    noticedBy: {
      file: 'src/disk/arbiter-record.test.ts',
      test: 'a backup that was dropped or lost needs a new generation, so that its late question cannot win',
    },
  },
  {
    name: 'a machine is started although its holder is connected',
    file: arbiter,
    from: "    if (isHolderConnected(machine)) return 'holder-connected'\n",
    to: '',
    noticedBy: {
      file: 'src/disk/arbiter.test.ts',
      test: 'right after its own start the arbiter awaits a holder that did not release: a start would cost a machine that runs',
    },
  },
  {
    name: 'a holder whose generation is over is not told',
    file: arbiter,
    from: '      session.onFenced({',
    to: "      if (session.replica === '') session.onFenced({",
    noticedBy: {
      file: 'src/disk/arbiter.test.ts',
      test: 'the old holder is told before the new one has its answer',
    },
  },
  {
    name: 'two replicas that ask etcd at the same moment are both granted the machine',
    file: 'src/etcd/etcd-arbiter.ts',
    from: 'this.#client.transact(comparisons, operations',
    to: 'this.#client.transact(comparisons.slice(2), operations',
    noticedBy: {
      file: 'src/etcd/etcd-arbiter.test.ts',
      test: 'etcd: holder and backup ask at the same moment: exactly one of them goes on',
    },
  },
  {
    name: 'with etcd a machine is started although its holder lives',
    file: 'src/etcd/etcd-arbiter.ts',
    from: 'record.start(replica, await this.#obstacleTo(situation, deadlineMs))',
    to: 'record.start(replica, deadlineMs < 0 ? await this.#obstacleTo(situation, deadlineMs) : undefined)',
    noticedBy: {
      file: 'src/etcd/etcd-arbiter.test.ts',
      test: 'etcd: a start is refused while the holder lives, also one that was cut off and came back',
    },
  },
  {
    name: 'a start whose answer etcd lost is refused when it is asked again',
    file: 'src/etcd/etcd-arbiter.ts',
    from: 'if (holder && holder.lease === this.#lease && record.fields.holder === replica) {',
    to: 'if (holder && holder.lease === this.#lease && record.fields.holder !== replica) {',
    noticedBy: {
      file: 'src/etcd/etcd-client.test.ts',
      test: 'a change whose answer is lost is carried out once, and its asker is told what it came to',
    },
  },
  {
    name: 'only the first member of etcd is asked',
    file: 'src/etcd/etcd-client.ts',
    from: 'this.#preferred = (this.#preferred + 1) % this.#endpoints.length',
    to: 'this.#preferred = 0',
    noticedBy: { file: 'src/etcd/etcd-arbiter.test.ts', test: 'a member that is frozen is passed over' },
  },
  {
    name: 'a grant of another arbiter raises no fence',
    file: 'src/disk/arbiter-record.ts',
    from: "if (generation <= this.fields.generation) return this.#refusal('not-holder')",
    to: "if (generation < 0) return this.#refusal('not-holder')",
    noticedBy: {
      file: 'src/disk/adopted-grant.test.ts',
      test: 'a connection with a later generation is let in, and from that moment the older one writes nothing',
    },
  },
  {
    name: 'a disk server whose machine has another arbiter grants it, too',
    file: 'src/disk/arbiter.ts',
    from: '    this.#requireCompetence(question)\n',
    to: '',
    noticedBy: {
      file: 'src/disk/adopted-grant.test.ts',
      test: 'there is one arbiter: who only fences grants nothing, and who grants adopts nothing',
    },
  },
  {
    name: 'a host that has a replica of the machine is asked to run another one',
    file: 'src/etcd/host-registry.ts',
    from: 'freeMemoryBytes >= memoryBytes && !taken.includes(name)',
    to: 'freeMemoryBytes >= memoryBytes',
    noticedBy: {
      file: 'src/etcd/host-registry.test.ts',
      test: 'spare is who has the key, room, and no replica of the machine; the one with the most room comes first',
    },
  },
  {
    name: 'a reading of etcd from before a change of our own is taken for the loss of the machine',
    file: 'src/etcd/etcd-arbiter.ts',
    from: '!record.isHeldBy(replica, held)) {',
    to: '!record.isHeldBy(replica, this.#held)) {',
    noticedBy: {
      file: 'src/etcd/etcd-client.test.ts',
      test: 'a reading that a change of our own overtakes fences nobody',
    },
  },
]
