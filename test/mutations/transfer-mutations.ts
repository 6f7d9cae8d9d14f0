/** Every safeguard of a backup that joins a machine which runs already, taken away. */

import type { Mutation } from './mutations.ts'

const transfer = 'src/replication/state-transfer.test.ts'
const copies = 'src/machine/page-copy.test.ts'
const admission = 'src/replication/admission.ts'
const primary = 'src/replication/primary.ts'

export const transferMutations: readonly Mutation[] = [
  {
    name: 'the new backup is recorded eligible too early: before it has said that its machine is whole',
    file: admission,
    from: "link.joinsAfter.add('restored').add('disksFlushed')",
    to: "link.joinsAfter.add('disksFlushed')",
    noticedBy: {
      file: transfer,
      test: 'eligibility: a backup that has not said that its machine is whole is not named to the arbiter',
    },
  },
  {
    name: 'the new backup is recorded eligible although it lacks entries of changes that its own disks have',
    file: primary,
    from: "    if (link.joinsAfter.has('restored')) link.mustReceive(this.#logEnd)\n",
    to: '',
    noticedBy: {
      file: transfer,
      test: 'eligibility: a backup has all that was written until its own disks were copied before the arbiter lists it',
    },
  },
  {
    name: 'what the empty machine of a new backup reports begins its disks, before they have what the primary wrote meanwhile',
    file: 'src/replica/replica-core.ts',
    from: "        if (this.#role.kind === 'none' || this.backup?.hasMachine === false) return\n",
    to: '',
    noticedBy: {
      file: 'src/replica/replica-core.test.ts',
      test: 'a backup that gets a running machine follows nothing with its disks before that machine is here, whatever its hart says',
    },
  },
  {
    name: 'outputs that a new backup regenerates while its own disks are copied are forgotten',
    file: 'src/replica/replica-core.ts',
    from: '        this.backup?.onStateLoaded()\n',
    to: '',
    noticedBy: {
      file: 'src/replica/replica-core.test.ts',
      test: 'a backup that gets a running machine follows nothing with its disks before that machine is here, whatever its hart says',
    },
  },
  {
    name: 'the new backup is recorded eligible before the disks are flushed',
    file: admission,
    from: "link.joinsAfter.add('restored').add('disksFlushed')",
    to: "link.joinsAfter.add('restored')",
    noticedBy: {
      file: transfer,
      test: 'eligibility: what the disks answered before is on stable storage before the arbiter lists the new backup',
    },
  },
  {
    name: 'outputs do not wait for a backup that joins',
    file: 'src/replication/backup-links.ts',
    from: '    for (const { buffer, isWaitedFor } of this.#links.values()) {\n      if (isWaitedFor && (',
    to: '    for (const { buffer, isWaitedFor, isJoining } of this.#links.values()) {\n      if (isWaitedFor && !isJoining && (',
    noticedBy: {
      file: transfer,
      test: 'eligibility: outputs wait from the state on, BEFORE the arbiter is asked to list the new backup',
    },
  },
  {
    name: 'the first entries after the final pause are not sent',
    file: admission,
    from: '    links.add(link)\n    const state: TransferredState',
    to: '    const state: TransferredState',
    noticedBy: {
      file: transfer,
      test: 'no entry is lost between the final pause and the first batch: all that follow are sent behind the state',
    },
  },
  {
    name: 'a new backup does not get the outputs that nobody has confirmed',
    file: 'src/replication/output-path.ts',
    from: 'unconfirmed: [...this.#unconfirmed.inOrder(), ...this.#gate.held],',
    to: 'unconfirmed: this.#gate.held,',
    noticedBy: {
      file: transfer,
      test: 'no output is lost: the state names those that left, and that their receivers have not confirmed',
    },
  },
  {
    name: 'a backup without a whole machine asks the arbiter',
    file: 'src/replication/backup.ts',
    from: "    else if (this.#role.state === 'restoring') this.#role.halt(",
    to: "    else if (this.#role.state === 'restoring') { this.#role.moveTo('replaying'); this.#failover.begin('', nowMs) }\n    else if (nowMs < 0) this.#role.halt(",
    noticedBy: {
      file: transfer,
      test: 'a backup whose machine is not whole was never eligible: it halts with a clear line when its primary is lost',
    },
  },
  {
    name: 'entries are acknowledged before there is a machine for them',
    file: 'src/replication/backup.ts',
    from: "if (this.#role.state === 'replaying') this.#acknowledge(nowMs)",
    to: "this.#line.send({ kind: 'ack', progress: this.#log.progress(nowMs), reach: this.#line.reach }, nowMs)",
    noticedBy: {
      file: transfer,
      test: 'entries that follow the state are replayed in order, and acknowledged as soon as the machine is whole',
    },
  },
  {
    name: 'a candidate that is lost is waited for',
    file: primary,
    from: '    if (!this.#listed.mayName(link.replica)) {\n      this.#links.delete(link)\n',
    to: '    if (!this.#listed.mayName(link.replica)) {\n',
    noticedBy: {
      file: transfer,
      test: 'a backup that is lost while it joins is forgotten too, and what was held for it is released',
    },
  },
  {
    name: 'pages that were written while they were copied are missed',
    file: 'src/machine/machine.ts',
    from: '    this.#copy?.markWritten(pages)\n',
    to: '',
    noticedBy: {
      file: copies,
      test: 'a machine copied while it writes wildly has the digest of the original, and goes on the same way',
    },
  },
  {
    name: 'a page that became zero is not said to be',
    file: 'src/machine/page-copy.ts',
    from: '} else if (this.#wasSent[page] === 1) {',
    to: '} else if (this.#wasSent[page] === 2) {',
    noticedBy: {
      file: copies,
      test: 'a machine copied while it writes wildly has the digest of the original, and goes on the same way',
    },
  },
  {
    name: 'a machine whose memory is replaced goes on being copied as it was',
    file: 'src/machine/machine.ts',
    from: '    this.#copy?.markAll()\n',
    to: '',
    noticedBy: {
      file: copies,
      test: 'a machine whose memory is replaced in the middle of a copy is copied as it is after that',
    },
  },
  {
    name: 'a copied machine is followed without a look at its digest',
    file: 'src/hypervisor/live-copy.ts',
    from: 'if (machine.digest() !== digest) {',
    to: 'if (machine.digest() === -1n) {',
    noticedBy: {
      file: 'src/hypervisor/live-copy.test.ts',
      test: 'a page that was missed is noticed before anybody follows the copy',
    },
  },
  {
    name: 'a copied machine owes nothing',
    file: 'src/hypervisor/live-copy.ts',
    from: 'return new Replayer(machine, nextIndex, obligations)',
    to: 'return new Replayer(machine, nextIndex)',
    noticedBy: {
      file: 'src/hypervisor/live-copy.test.ts',
      test: 'a copy that goes live owes what the original owed: entropy that nobody has answered yet',
    },
  },
  {
    name: 'the last round begins in the middle of one',
    file: 'src/hypervisor/live-copy.ts',
    from: '    if (this.#copy.duePages === 0) this.#beginRound()',
    to: '    if (this.#copy.duePages === 0) this.#beginRound()\n    this.#isReadyToFinish ||= this.#copy.round > 1 && this.#copy.duePages <= this.#policy.lastPages',
    noticedBy: {
      file: 'src/hypervisor/live-copy.test.ts',
      test: 'a guest that writes faster than it is copied gets less time, and is copied all the same',
    },
  },
  {
    name: 'a backup that was dropped while it was frozen takes the place of another one of its name',
    file: 'src/replication/eligibility.ts',
    from: 'eligibleIn === this.generation + 1',
    to: 'eligibleIn > this.generation',
    noticedBy: {
      file: transfer,
      test: 'a backup that was dropped while it was frozen does not take the place of another one of its name',
    },
  },
  {
    name: 'a primary that hands over goes on',
    file: primary,
    from: "    this.#halt('handedOver', reason)\n",
    to: '',
    noticedBy: {
      file: 'src/replication/hand-over.test.ts',
      test: 'move: the primary says so to its backup, ends, and releases nothing any more',
    },
  },
]
