/** The rules of the disk server, of what it may lose, and of disks that are not shared, broken one by one. */

import type { Mutation } from './mutations.ts'

export const diskMutations: readonly Mutation[] = [
  {
    name: 'a grant does not wait for the writes of the old generation',
    file: 'src/disk/fence.ts',
    from: '    for (const { pass } of this.#executing) if (!this.permits(pass)) return false\n',
    to: '',
    noticedBy: {
      file: 'src/disk/fencing.test.ts',
      test: 'a grant waits for a write of the old generation that is in execution on disk0',
    },
  },
  {
    name: 'a request of the old generation is let through when it comes to be executed',
    file: 'src/disk/fence.ts',
    from: '    if (!this.permits(pass)) return undefined\n',
    to: '',
    noticedBy: {
      file: 'src/disk/fencing.test.ts',
      test: 'a write of the old generation that waits in the queue never lands',
    },
  },
  {
    name: 'a connection of the old generation is served on, whenever its requests arrive',
    file: 'src/disk/fence.ts',
    from: '        return this.#record.isHeldBy(pass.replica, pass.generation)\n',
    to: '        return true\n',
    noticedBy: {
      file: 'src/disk/fencing.test.ts',
      test: 'a write of the old generation that is on the wire until the new primary has written the same sectors never lands',
    },
  },
  {
    name: 'a replica that connects again does not wait for what its broken connection left in execution',
    file: 'src/disk/export-directory.ts',
    from: 'fence.whenDrained(() => seat.whenDrained(opened))',
    to: 'fence.whenDrained(opened)',
    noticedBy: {
      file: 'src/disk/fencing.test.ts',
      test: 'a replica that comes back waits for what its broken connection left in execution; what was queued is gone',
    },
  },
  {
    name: 'a broken connection is good still when its replica has come back',
    file: 'src/disk/seat.ts',
    from: '    if (earlier?.connection === connection) return earlier\n',
    to: '    if (earlier) return earlier\n',
    noticedBy: {
      file: 'src/disk/fencing.test.ts',
      test: 'a write that is in the socket of a broken connection never lands after the same replica has come back',
    },
  },
  {
    name: 'what a disk server may have lost in its crash is not written again',
    file: 'src/disk/steady-requests.ts',
    from: 'this.#restore(link, apart(this.unflushed.inOrder()))',
    to: 'this.#onRestored(link)',
    noticedBy: {
      file: 'src/disk/steady-disk.test.ts',
      test: 'whatever crashes, cuts and late answers come, the disk is as if none had, and a flush is true',
    },
  },
  {
    name: 'a server that does not name its boot counts as the same one for ever',
    file: 'src/disk/steady-requests.ts',
    from: 'link.bootId !== undefined && link.bootId === this.#bootId',
    to: 'link.bootId === this.#bootId',
    noticedBy: {
      file: 'src/disk/steady-disk.test.ts',
      test: 'a server that does not name its boot may have lost something whenever the connection was cut',
    },
  },
  {
    name: 'a flush that failed counts as one that covered everything',
    file: 'src/disk/steady-requests.ts',
    from: "        if (waiting.work.operation === 'flush') this.#onFlushFailed(link, waiting, error)\n        else waiting",
    to: "        if (waiting.work.operation === 'flush') this.unflushed.onFlushed(this.unflushed.beginFlush())\n        waiting",
    noticedBy: {
      file: 'src/disk/steady-disk.test.ts',
      test: 'a flush of our own that fails forgets nothing: the guest, which did not hear of it, finds what it wrote after a crash',
    },
  },
  {
    name: 'after a flush that failed, the next one is believed at once',
    file: 'src/disk/steady-requests.ts',
    from: '    this.#bootId = undefined\n    this.#onLost(link, error)\n',
    to: '',
    noticedBy: {
      file: 'src/disk/steady-disk.test.ts',
      test: 'after a flush of our own that failed, what the disk may have lost with the error is written again before the next one',
    },
  },
  {
    name: 'a flush of our own takes the error that the guest has to hear',
    file: 'src/disk/steady-requests.ts',
    from: '    if (isOwn && this.#restoreFailure) answered(this.#restoreFailure)\n    else if (',
    to: '    if (isOwn && this.#restoreFailure) {\n      answered(this.#restoreFailure)\n      this.#restoreFailure = undefined\n    } else if (',
    noticedBy: {
      file: 'src/disk/steady-disk.test.ts',
      test: 'a change that is refused when it comes again fails our own flushes, until a flush of the guest has failed',
    },
  },
  {
    name: 'what the disk refuses when it comes again is read as the disk has it',
    file: 'src/disk/steady-requests.ts',
    from: 'else if (this.#restoreFailure) this.unflushed.mend(work.offset, data!)',
    to: '',
    noticedBy: {
      file: 'src/disk/steady-disk.test.ts',
      test: 'what the disk refuses when it comes again is read as it was written, and not as the older change that the disk kept',
    },
  },
  {
    name: 'a backup takes a flush that failed for one that covered something',
    file: 'src/replica/disk-requests.ts',
    from: "    if (status !== 'ok') return\n",
    to: "    if (status === 'uncertain') return\n",
    noticedBy: {
      file: 'src/replica/disk-requests.test.ts',
      test: 'a backup, too, forgets nothing that a failed flush was to cover, and all that a good one covered',
    },
  },
  {
    name: 'a flush whose answer was lost counts as one that was never made',
    file: 'src/disk/steady-requests.ts',
    from: "    if ([...this.#waiting].some(({ work }) => work.operation === 'flush')) this.#bootId = undefined\n",
    to: '',
    noticedBy: {
      file: 'src/disk/steady-disk.test.ts',
      test: 'a flush whose answer was lost may have failed: what it was to cover is written again before it is asked for again',
    },
  },
  {
    name: 'what is written again lies over something newer for a while',
    file: 'src/disk/unflushed-writes.ts',
    from: "const left = change.operation === 'trim' ? overwritten.missingIn(range) : overwritten.add(range)",
    to: 'const left = [range]',
    noticedBy: {
      file: 'src/disk/unflushed-writes.test.ts',
      test: 'of a change that was overwritten in part only the rest is written again: nothing older lies over it meanwhile',
    },
  },
  {
    name: 'a flush counts for what was completed while it ran',
    file: 'src/disk/unflushed-writes.ts',
    from: '      if (order >= reach) break\n',
    to: '',
    noticedBy: {
      file: 'src/disk/unflushed-writes.test.ts',
      test: 'a flush covers what was completed before it began, and nothing else',
    },
  },
  {
    name: 'a backup does not keep what its primary wrote and nobody flushed',
    file: 'src/replica/disk-requests.ts',
    from: "    else if (work.operation !== 'read') this.#unflushed.onCompleted(work)\n",
    to: '',
    noticedBy: {
      file: 'src/host/disk-backend.test.ts',
      test: 'a backup keeps what its log says is written and not flushed, and begins with it when it goes live',
    },
  },
  {
    name: 'the device lets unflushed writes grow without bound',
    file: 'src/machine/devices/virtio/disk-requests.ts',
    from: '    this.#flushIfDue()\n',
    to: '',
    noticedBy: {
      file: 'src/machine/devices/virtio/block.test.ts',
      test: 'after 32 MiB without a flush the device flushes by itself, once, and the driver sees nothing of it',
    },
  },
  {
    name: 'a grant of another arbiter is adopted without draining the older requests',
    file: 'src/disk/fence.ts',
    from: '    if (this.#isDrained()) then()\n    else this.#waiters.push(then)',
    to: '    then()',
    noticedBy: {
      file: 'src/disk/adopted-grant.test.ts',
      test: 'a grant of another arbiter still fences: the new holder is let at the disk when the older write has finished',
    },
  },
  {
    name: 'a write to an own copy waits for the backup as one to a shared disk does',
    file: 'src/log/output-rule.ts',
    from: "return output.operation !== 'read' && !ownDisks?.has(output.disk)",
    to: "return output.operation !== 'read' && !ownDisks?.has(-1 - output.disk)",
    noticedBy: {
      file: 'src/replication/primary.test.ts',
      test: 'non-shared disks: what goes to a disk of which each replica has its own copy does not wait, what goes to others does',
    },
  },
  {
    name: 'a backup makes no changes to its own copy',
    file: 'src/replica/own-disk.ts',
    from: "if (work.operation === 'read') return\n",
    to: "if (work.operation !== 'flush') return\n",
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'a backup makes the changes of its machine on its own copy, and answers nothing',
    },
  },
  {
    name: 'changes to an own copy that overlap go side by side',
    file: 'src/disk/turns.ts',
    from: 'whenOver(earlier, () =>',
    to: 'whenOver(earlier.slice(earlier.length), () =>',
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'own changes that overlap are made in the order of the log, although the log has answered the first already',
    },
  },
  {
    name: 'a flush of an own copy does not wait for what the log calls done',
    file: 'src/disk/turns.ts',
    from: 'whenOver(changes, then)',
    to: 'whenOver(changes.slice(changes.length), then)',
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'a flush of the guest covers on each copy what the guest takes for written',
    },
  },
  {
    name: 'a primary whose own copy fails shows the guest the error although its backup has a good one',
    file: 'src/replica/own-disk.ts',
    from: 'if (outcome instanceof NbdError && hasOther()) onFailed(outcome)\n      else onAnswer(answerOf(request, outcome))',
    to: 'onAnswer(answerOf(request, outcome))\n      if (outcome instanceof NbdError && hasOther()) onFailed(outcome)',
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'a copy that fails removes its side: a live replica with a backup answers nothing, one without answers the error',
    },
  },
  {
    name: 'a machine is started from an outdated copy',
    file: 'src/replica/copy-state.ts',
    from: "(stamp.state === 'live' && stamp.generation >= heldSince)",
    to: "(stamp.state === 'live' && heldSince >= 0)",
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'a machine is started from copies that were live in its last hold, or from new ones, and from no others',
    },
  },
  {
    name: "a replica may write to another one's own copy",
    file: 'src/disk/export-directory.ts',
    from: 'if (pass.replica !== found.owner) {',
    to: "if (pass.replica === '') {",
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: "a replica's own copy is written by that replica alone, whoever holds the machine",
    },
  },
  {
    name: 'changes of an own copy are not counted for who copies it',
    file: 'src/disk/change-map.ts',
    from: 'this.#counters[piece]!++',
    to: 'this.#counters[piece]! += 0',
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'a later round copies what has changed since the one before, whatever changed it',
    },
  },
  {
    name: 'the digest of a piece is kept when the piece has changed',
    file: 'src/disk/piece-digests.ts',
    from: 'if (this.#madeAt[piece] === count) return',
    to: 'if (this.#madeAt[piece] !== undefined) return',
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'a later round copies what has changed since the one before, whatever changed it',
    },
  },
  {
    name: 'a round compares what has not changed since the one before',
    file: 'src/replica/copy-rounds.ts',
    from: '      this.#known = counters\n',
    to: '      this.#known = counters.map((count) => count + 1)\n',
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'the first round makes the copies equal, writes only what differs, and is durable',
    },
  },
  {
    name: 'an own copy on which a change was made that the primary could not make counts as equal',
    file: 'src/replica/own-disk.ts',
    from: "|| status !== 'ioError') return",
    to: "|| status !== 'uncertain') return",
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'a change that the primary could not make, and told its guest of, removes the copy on which it was made',
    },
  },
  {
    name: 'an own copy that could not be made safe counts as safe',
    file: 'src/replica/own-disk.ts',
    from: 'if (!error) done()\n      else if (hasOther()) onFailed(error)',
    to: 'if (!error || !hasOther()) done()\n      else if (hasOther()) onFailed(error)',
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'a copy that cannot be made safe at go-live, with no other one, goes on, writes again, and is safe when it can be',
    },
  },
  {
    name: 'an own copy is copied before it has what its replica followed',
    file: 'src/replica/disks-with-copies.ts',
    from: 'this.#isSafe = !hasOwn()',
    to: 'this.#isSafe = true',
    noticedBy: {
      file: 'src/replica/disks-with-copies.test.ts',
      test: 'copies are stamped, and others may be made of them, when what was followed is on stable storage',
    },
  },
]
