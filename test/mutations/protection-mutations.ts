/** Every safeguard of the pair, taken away: nothing lost, never two (docs/ARCHITECTURE.md, invariants 5 to 9). */

import type { Mutation } from './mutations.ts'

const primary = 'src/replication/primary.ts'
const backup = 'src/replication/backup.ts'
const links = 'src/replication/backup-links.ts'
const reach = 'src/replication/reach.ts'
const arbiter = 'src/disk/arbiter.ts'

export const protectionMutations: readonly Mutation[] = [
  {
    name: 'a primary does not say when the arbiter is to be asked again',
    file: primary,
    from: '      this.#listed.dueMs,\n',
    to: '',
    noticedBy: {
      file: 'test/pair/interleavings.test.ts',
      test: 'arbiter out of reach, answers lost, and faults on top: never two live, nothing lost',
    },
  },
  {
    name: 'a replica does not say when its heartbeat is due',
    file: 'src/replication/failure-detector.ts',
    from: '      this.#lastSentMs + this.#heartbeatMs,\n',
    to: '',
    noticedBy: {
      file: 'src/replication/primary.test.ts',
      test: 'heartbeats go out when nothing else does, and say how far the log is',
    },
  },
  {
    name: 'outputs are released before their entries are acknowledged',
    file: 'src/replication/output-path.ts',
    from: 'const outputs = this.#gate.release(afterAcknowledged)',
    to: 'const outputs = this.#gate.release(undefined)',
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
    from: "    this.#moveTo('asking')\n    this.#listed.ask([])\n    return",
    to: "    for (const link of this.#links.present) this.#sayGoodbye(link, '')\n    this.#moveTo('asking')\n    this.#listed.ask([])\n    return",
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
    from: "else if (this.#state === 'replaying') this.#onPrimaryMessage(message, nowMs)",
    to: "else if (this.#state === 'replaying' || this.#state === 'asking') this.#onPrimaryMessage(message, nowMs)",
    noticedBy: {
      file: 'src/replication/backup.test.ts',
      test: 'before it asks the arbiter it stops acknowledging, for good',
    },
  },
  {
    name: 'a backup goes live before it has replayed what it acknowledged',
    file: backup,
    from: "if (this.#state !== 'goingLive' || !this.#log.isReplayed) return",
    to: "if (this.#state !== 'goingLive') return",
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
    file: backup,
    from: 'this.#isListed && isBetterPlaced',
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
    file: 'src/host/disk-of-replica.ts',
    from: "    else if (work.operation !== 'read' && status === 'ok') this.#steady.unflushed.onCompleted(work)\n",
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
    name: 'the switch learns the MAC of a protected machine',
    file: 'src/lan/ethernet-switch.ts',
    from: '    if (this.#machinesByMac.has(source)) {\n      this.#counts.spoofedDropped++\n      return deliveries\n    }\n',
    to: '',
    noticedBy: {
      file: 'src/lan/ethernet-switch.test.ts',
      test: 'never learns its MAC: frames that carry it from another port are dropped and counted',
    },
  },
  {
    name: 'the switch listens to a replica whose generation is over',
    file: 'src/lan/ethernet-switch.ts',
    from: '    if (machine.port !== port) {\n      machine.counts.fencedDropped++\n      return deliveries\n    }\n',
    to: '',
    noticedBy: {
      file: 'src/lan/ethernet-switch.test.ts',
      test: 'belongs to the highest generation; the old replica is told, and its outputs reach nobody',
    },
  },
  {
    name: 'the switch forwards an output that it had forwarded before',
    file: 'src/lan/machine-port.ts',
    from: '    if (sequence <= this.#forwardedSequence) return false\n',
    to: '',
    noticedBy: {
      file: 'src/lan/ethernet-switch.test.ts',
      test: 'forwards each sequence once; a repeat is dropped, counted, and confirmed again',
    },
  },
  {
    name: 'a replica that goes live writes to console.log what its primary had written',
    file: 'src/host/console-log.ts',
    from: 'this.#writtenPosition() ?? rememberedFrom',
    to: 'rememberedFrom',
    noticedBy: {
      file: 'src/host/console-log.test.ts',
      test: 'nothing that the guest printed stands in console.log twice, wherever the primary died',
    },
  },
  {
    name: 'a viewer of the console is shown again what it saw before the failover',
    file: 'src/host/console-backlog.ts',
    from: '    if (this.#lastSequence !== undefined && output.sequence <= this.#lastSequence) return false\n',
    to: '',
    noticedBy: {
      file: 'src/host/console.test.ts',
      test: 'after a failover a viewer is attached to the survivor: nothing is missing, nothing comes twice',
    },
  },
  {
    name: 'frames after a restart of the switch have the numbers of frames before it',
    file: 'src/host/lan-backend.ts',
    from: '        this.#place.onFrame(frameId)\n',
    to: '',
    noticedBy: {
      file: 'src/host/lan-backend.test.ts',
      test: 'a switch that was started again is bound again, in the same generation, and numbers frames after the last received',
    },
  },
  {
    name: 'what comes in while a hart goes live is dropped',
    file: 'src/replica/replaying-hart.ts',
    from: '    else this.#early.push(message)\n',
    to: '',
    noticedBy: {
      file: 'src/host/hart.test.ts',
      test: 'what the world says while a hart goes live is not lost: it enters once the replay is done',
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
    from: '      if (!link.isLost) this.#onBackupMessage(link, message, nowMs)',
    to: '      this.#onBackupMessage(link, message, nowMs)',
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
    file: backup,
    from: "      this.#halt('lostArbitration', detail)\n",
    to: '      this.#retryAtMs = nowMs\n',
    noticedBy: {
      file: 'src/replication/backup.test.ts',
      test: 'the loser halts itself',
    },
  },
  {
    name: 'a backup takes an arbiter out of reach for a yes',
    file: backup,
    from: '        this.#retryAtMs = nowMs + this.#policy.arbiterRetryMs\n',
    to: "        this.#moveTo('goingLive')\n        this.#goLiveIfReady(nowMs)\n",
    noticedBy: {
      file: 'src/replication/backup.test.ts',
      test: 'arbiter unreachable: wait and ask again, never guess',
    },
  },
  {
    name: 'a diverged backup goes live all the same',
    file: backup,
    from: "    this.#halt('diverged', describeDivergence(divergence))\n",
    to: '',
    noticedBy: {
      file: 'src/replication/backup.test.ts',
      test: 'a divergence is reported, never papered over: the backup ends, also when it was about to go live',
    },
  },
  {
    name: 'a replica that was stopped suspects its peer when it wakes',
    file: 'src/replication/failure-detector.ts',
    from: '    if (sinceTickMs > timeoutMs / 2) {',
    to: '    if (sinceTickMs > timeoutMs * 1000) {',
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
    name: 'the switch forgets the frames that were not covered when a replica binds',
    file: 'src/lan/ethernet-switch.ts',
    from: '    for (const { frameId, frame } of machine.kept.all()) {',
    to: '    for (const { frameId, frame } of machine.kept.all().slice(0, 0)) {',
    noticedBy: {
      file: 'src/lan/ethernet-switch.test.ts',
      test: 'keeps inbound frames while no replica is connected, and delivers them at the next bind',
    },
  },
  {
    name: 'an older generation binds the MAC back',
    file: 'src/lan/machine-port.ts',
    from: "    if (request.generation < binding.generation) return 'stale-generation'\n",
    to: '',
    noticedBy: {
      file: 'src/lan/ethernet-switch.test.ts',
      test: 'belongs to the highest generation; the old replica is told, and its outputs reach nobody',
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
    file: 'src/host/disk-of-replica.ts',
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
    from: 'for (const other of earlier) await other.done',
    to: 'if (earlier.length < 0) await earlier[0]?.done',
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'own changes that overlap are made in the order of the log, although the log has answered the first already',
    },
  },
  {
    name: 'a flush of an own copy does not wait for what the log calls done',
    file: 'src/disk/turns.ts',
    from: 'for (const change of changes) await change.done',
    to: 'if (changes.length < 0) await changes[0]?.done',
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'a flush of the guest covers on each copy what the guest takes for written',
    },
  },
  {
    name: 'a primary whose own copy fails shows the guest the error although its backup has a good one',
    file: 'src/host/disk-of-replica.ts',
    from: 'if (error && this.#hasOther()) this.#events.onOwnDiskFailed(error)\n      else this.#events.onAnswer(answer)',
    to: 'this.#events.onAnswer(answer)\n      if (error && this.#hasOther()) this.#events.onOwnDiskFailed(error)',
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'a copy that fails removes its side: a live replica with a backup answers nothing, one without answers the error',
    },
  },
  {
    name: 'a machine is started from an outdated copy',
    file: 'src/host/copy-stamp.ts',
    from: "(state.state === 'live' && state.generation >= heldSince)",
    to: "(state.state === 'live' && heldSince >= 0)",
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
    from: 'this.#counters.writeUInt32LE((this.#counters.readUInt32LE(at) + 1) >>> 0, at)',
    to: 'this.#counters.writeUInt32LE(this.#counters.readUInt32LE(at), at)',
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'a later round copies what has changed since the one before, whatever changed it',
    },
  },
  {
    name: 'a round compares what has not changed since the one before',
    file: 'src/host/disk-copy.ts',
    from: '    this.#known = counters\n',
    to: '    this.#known = counters.map((count) => count + 1)\n',
    noticedBy: {
      file: 'src/host/own-disk.test.ts',
      test: 'the first round makes the copies equal, writes only what differs, and is durable',
    },
  },
]
