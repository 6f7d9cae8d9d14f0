/** Every safeguard of the pair, taken away: nothing lost, never two (docs/ARCHITECTURE.md, invariants 5 to 9). */

import type { Mutation } from './mutations.ts'

const primary = 'src/replication/primary.ts'
const backup = 'src/replication/backup.ts'
const failover = 'src/replication/failover.ts'
const links = 'src/replication/backup-links.ts'
const reach = 'src/replication/reach.ts'

export const protectionMutations: readonly Mutation[] = [
  {
    name: 'a primary does not say when the arbiter is to be asked again',
    file: primary,
    from: 'this.#listed.dueMs, ',
    to: '',
    noticedBy: {
      file: 'test/pair/interleavings.test.ts',
      test: 'arbiter out of reach, answers lost, and faults on top: never two live, nothing lost',
    },
  },
  {
    name: 'a backup waits for ever for the answer to its hello',
    file: 'src/replication/backup.ts',
    from: '    this.#role.waitsUntilMs = nowMs + this.#policy.helloTimeoutMs\n',
    to: '',
    noticedBy: {
      file: 'src/replication/backup.test.ts',
      test: 'a primary that does not answer the hello is not waited for, and no machine goes live for it',
    },
  },
  {
    name: 'a replica does not say when its heartbeat is due',
    file: 'src/replication/failure-detector.ts',
    from: 'this.#lastSentMs + this.#heartbeatMs, ',
    to: '',
    noticedBy: {
      file: 'src/replication/primary.test.ts',
      test: 'heartbeats go out when nothing else does, and say how far the log is',
    },
  },
  {
    name: 'outputs are released before their entries are acknowledged',
    file: 'src/replication/output-path.ts',
    from: 'this.#gate.release(afterAcknowledged)',
    to: 'this.#gate.release(undefined)',
    noticedBy: {
      file: 'src/replication/primary.test.ts',
      test: 'Output Rule: no output is released before its marker is acknowledged',
    },
  },
  {
    name: 'one acknowledgement out of several is enough',
    file: links,
    from: '(end === undefined || buffer.receivedEnd < end)) end',
    to: '(end === undefined || buffer.receivedEnd > end)) end',
    noticedBy: {
      file: 'src/replication/primary.test.ts',
      test: 'Output Rule: every eligible backup must acknowledge, nothing is k-of-n',
    },
  },
  {
    name: 'a primary stops waiting for a lost backup before the record drops it',
    file: links,
    from: '    for (const { buffer, isWaitedFor } of this.#links.values()) {\n',
    to: '    for (const { buffer, isWaitedFor, isLost } of this.#links.values()) {\n      if (isLost) return undefined\n',
    noticedBy: {
      file: 'src/replication/primary.test.ts',
      test: 'backup lost: its primary stops waiting only AFTER the arbiter dropped it',
    },
  },
  {
    name: 'a backup that is to leave is let go before the record drops it',
    file: primary,
    from: '    this.#changeBackups()\n    return',
    to: "    for (const link of this.#links.present) this.#dismiss(link, '')\n    this.#changeBackups()\n    return",
    noticedBy: {
      file: 'src/replication/primary.test.ts',
      test: 'unprotect: the backup is told to end only AFTER the arbiter dropped it; until then outputs wait for it, and its word counts',
    },
  },
  {
    name: 'a backup forgets its outputs before their receiver has them',
    file: backup,
    from: '    for (const marked of outputs) this.#unconfirmed.add(marked)\n',
    to: '',
    noticedBy: {
      file: 'src/replication/backup.test.ts',
      test: 'no output is lost between acknowledgement and send: each is kept until its receiver confirmed it',
    },
  },
  {
    name: 'a backup goes on acknowledging after it has asked',
    file: backup,
    from: "else if (this.#role.state === 'replaying') this.#onPrimaryMessage(message, nowMs)",
    to: "else if (this.#role.state === 'replaying' || this.#role.state === 'asking') this.#onPrimaryMessage(message, nowMs)",
    noticedBy: {
      file: 'src/replication/backup.test.ts',
      test: 'before it asks the arbiter it stops acknowledging, for good',
    },
  },
  {
    name: 'a backup goes live before it has replayed what it acknowledged',
    file: failover,
    from: "if (role.state !== 'goingLive' || !log.isReplayed) return",
    to: "if (role.state !== 'goingLive') return",
    noticedBy: {
      file: 'src/replication/backup.test.ts',
      test: 'everything it ever acknowledged is replayed before it goes live',
    },
  },
  {
    name: 'a backup takes over for what both lack',
    file: reach,
    from: 'return one.disk && (one.lan || !other.lan) && !isSameReach(one, other)',
    to: 'return !(other.disk && other.lan)',
    noticedBy: {
      file: 'test/pair/interleavings.test.ts',
      test: 'both lose disk or LAN: nothing changes',
    },
  },
  {
    name: 'a backup never takes over from a primary that lives and cannot serve',
    file: 'src/replication/failure-detector.ts',
    from: 'return this.#betterPlacedSinceMs !== undefined && ',
    to: 'return nowMs < 0 && this.#betterPlacedSinceMs !== undefined && ',
    noticedBy: {
      file: 'test/pair/interleavings.test.ts',
      test: 'primary alone loses disk or LAN: the backup goes live, the primary hears it and halts, nothing is lost',
    },
  },
  {
    name: 'a short loss of reach counts on from the one before',
    file: 'src/replication/failure-detector.ts',
    from: '    if (!isBetterPlaced) this.#betterPlacedSinceMs = undefined\n    else this',
    to: '    if (isBetterPlaced) this',
    noticedBy: {
      file: 'src/replication/reach.test.ts',
      test: 'reach that comes and goes does not part the pair: every return starts the clock again',
    },
  },
  {
    name: 'a backup that is not listed yet takes over for its reach',
    file: 'src/replication/backup-line.ts',
    from: 'isListed && isBetterPlaced',
    to: 'isBetterPlaced',
    noticedBy: {
      file: 'src/replication/reach.test.ts',
      test: 'a backup that is not listed yet does not ask: it would be refused, and that would be its end',
    },
  },
  {
    name: 'a primary without LAN races its backup to the arbiter',
    file: primary,
    from: 'isBetterPlaced(link.reach, this.#reach) ? nowMs + headStartMs : undefined',
    to: 'isBetterPlaced(link.reach, this.#reach) ? nowMs : undefined',
    noticedBy: {
      file: 'test/pair/interleavings.test.ts',
      test: 'primary alone loses disk or LAN: the backup goes live, the primary hears it and halts, nothing is lost',
    },
  },
  {
    name: 'what comes in while a hart goes live is dropped',
    file: 'src/replica/replaying-hart.ts',
    from: '    else this.#early.push(message)\n',
    to: '',
    noticedBy: {
      file: 'src/host/hart.test.ts',
      test: 'what the world says while a hart goes live is not lost: it enters once the replay is done (on a thread of its own)',
    },
  },
  {
    name: 'a hart that hangs behind living sockets is not noticed',
    file: 'src/host/hart-watch.ts',
    from: "return this.#ticks >= this.#silenceTicks ? 'hanging' : 'silent'",
    to: "return 'silent'",
    noticedBy: {
      file: 'src/host/hart-watch.test.ts',
      test: 'a hart that takes no turn for so many ticks hangs',
    },
  },
  {
    name: 'a backup that is being named may miss outputs: nothing is held for it while the arbiter is asked',
    file: primary,
    from: '    const afterAcknowledged = this.#links.acknowledgedEnd\n',
    to: "    const afterAcknowledged = this.#state === 'asking' ? undefined : this.#links.acknowledgedEnd\n",
    noticedBy: {
      file: 'src/replication/primary.test.ts',
      test: 'outputs are held for a backup BEFORE the arbiter is asked to list it, also by a primary that was alone',
    },
  },
  {
    name: 'a primary that the arbiter refused goes on',
    file: primary,
    from: "      case 'refused':\n        this.#halt('lostArbitration', answer.detail)\n",
    to: "      case 'refused':\n",
    noticedBy: {
      file: 'src/replication/primary.test.ts',
      test: 'the loser halts itself, and releases nothing more',
    },
  },
  {
    name: 'a primary takes a lost backup back without a new question',
    file: primary,
    from: 'else if (!link.isLost) this.#onBackupMessage(link, message, nowMs)',
    to: 'else this.#onBackupMessage(link, message, nowMs)',
    noticedBy: {
      file: 'src/replication/primary.test.ts',
      test: 'once it has asked in generation g it never resumes its old role in g: the backup that comes back is ignored',
    },
  },
  {
    name: 'the switch may forget a frame whose entry nobody has acknowledged',
    file: 'src/replication/uncovered-frames.ts',
    from: '(acknowledgedEnd === undefined || this.#frames[0].end <= acknowledgedEnd)',
    to: 'true',
    noticedBy: {
      file: 'src/replication/primary.test.ts',
      test: 'inbound frames are covered once their entries are acknowledged, at once when nobody is to be waited for',
    },
  },
  {
    name: 'a backup acknowledges only what it has replayed',
    file: 'src/replication/received-log.ts',
    from: 'receivedEnd: this.end,',
    to: 'receivedEnd: this.#replayedEnd,',
    noticedBy: {
      file: 'src/replication/backup.test.ts',
      test: 'the backup acknowledges when entries are in its buffer, not when they are executed',
    },
  },
  {
    name: 'a backup that lost the arbitration goes on asking',
    file: failover,
    from: "        role.halt('lostArbitration', answer.detail)\n",
    to: '        role.waitsUntilMs = nowMs\n',
    noticedBy: {
      file: 'src/replication/backup.test.ts',
      test: 'the loser halts itself',
    },
  },
  {
    name: 'a backup takes an arbiter out of reach for a yes',
    file: failover,
    from: '        role.waitsUntilMs = nowMs + policy.arbiterRetryMs\n',
    to: "        role.moveTo('goingLive')\n        this.goLiveIfReady(nowMs)\n",
    noticedBy: {
      file: 'src/replication/backup.test.ts',
      test: 'arbiter unreachable: wait and ask again, never guess',
    },
  },
  {
    name: 'a diverged backup goes live all the same',
    file: backup,
    from: "    this.#role.halt('diverged', describeDivergence(divergence))\n",
    to: '',
    noticedBy: {
      file: 'src/replication/backup.test.ts',
      test: 'a divergence is reported, never papered over: the backup ends, also when it was about to go live',
    },
  },
  {
    name: 'a replica that was stopped suspects its peer when it wakes',
    file: 'src/replication/standstill.ts',
    from: 'sinceTickMs > this.#limitMs / 2',
    to: 'sinceTickMs > this.#limitMs * 1000',
    noticedBy: {
      file: 'src/replication/backup.test.ts',
      test: 'a replica that stood still itself has learnt nothing about its peer',
    },
  },
  {
    name: 'a batch with a flipped bit is acknowledged',
    file: 'src/replication/message-codec.ts',
    from: '!== hash64(body)) {',
    to: '=== undefined) {',
    noticedBy: {
      file: 'src/replication/message-codec.test.ts',
      test: 'a batch is whole before it can be acknowledged: every flipped bit of a message is a WorldError',
    },
  },
  {
    name: 'a fetched boot image is believed without its digest',
    file: 'src/log/boot-artefacts.ts',
    from: 'if (digestBootImage(artefacts.image) !== identity.imageDigest) {',
    to: 'if (false) {',
    noticedBy: {
      file: 'src/replication/boot-fetch.test.ts',
      test: 'a boot image that does not match its digest is refused, with the reason',
    },
  },
  {
    name: 'a backup that fetches its machine counts as silent',
    file: 'src/replication/reception.ts',
    from: '    this.#strangers.set(channel, nowMs)\n    return (\n',
    to: '    return (\n',
    noticedBy: {
      file: 'src/replication/primary.test.ts',
      test: 'a backup without a machine is given it before its hello, and nobody is waited for meanwhile',
    },
  },
]
