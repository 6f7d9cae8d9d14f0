/**
 * The rules that keep a protected machine right, taken away one by one: the simulator itself must notice, within so many
 * seeds. So its checkers are known to see, and its faults to reach, what each rule is there for. (Most of these rules have
 * a unit test as well, and a row in another of these files.)
 */

import { epochMutations } from './epoch-mutations.ts'
import type { Mutation } from './mutations.ts'

const primary = 'src/replication/primary.ts'
const backup = 'src/replication/backup.ts'
const failover = 'src/replication/failover.ts'
const replayer = 'src/hypervisor/replayer.ts'
const fence = 'src/disk/fence.ts'

/** Bressoud & Schneider's rules whose loss can be seen from outside, or in the log. */
const epochRules = [
  "P1: an interrupt is delivered at once, not at the epoch's end",
  'P1: interrupts are let in wherever the hart happens to stop',
  'P6: the own clock is used although [Tme] came',
  'P7: no uncertain interrupts',
  'P7: what cannot be made uncertain is dropped',
]

export const simulatorMutations: readonly Mutation[] = [
  ...epochMutations
    .filter(({ name }) => epochRules.includes(name))
    .map((mutation) => ({ ...mutation, name: `simulator: ${mutation.name}`, noticedBy: { seeds: 300 } })),
  {
    name: 'simulator: outputs are released before their entries are acknowledged (Output Rule)',
    file: 'src/replication/output-path.ts',
    from: 'this.#gate.release(afterAcknowledged)',
    to: 'this.#gate.release(undefined)',
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: an output is released one entry too early',
    file: 'src/replication/output-gate.ts',
    from: 'markerIndex >= acknowledgedEnd)',
    to: 'markerIndex > acknowledgedEnd)',
    noticedBy: { seeds: 1000 },
  },
  {
    name: 'simulator: a backup that cannot hear its primary goes live without asking (test-and-set)',
    file: failover,
    from: "effects.push({ kind: 'testAndSet', generation: eligibility.generation })",
    to: "this.onArbiterAnswer({ result: 'granted', generation: eligibility.generation + 1 }, 0)\n    void effects",
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: a backup takes an arbiter out of reach for a yes',
    file: failover,
    from: '        role.waitsUntilMs = nowMs + policy.arbiterRetryMs\n',
    to: "        eligibility.onGranted(eligibility.generation + 1)\n        role.moveTo('goingLive')\n        this.goLiveIfReady(nowMs)\n",
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: the test-and-set has two winners',
    file: 'src/disk/arbiter-record.ts',
    from: '    if (generation === fields.generation && fields.holder !== null && fields.eligible.includes(replica)) {',
    to: '    if (fields.holder !== null) {',
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: a generation is used again',
    file: 'src/disk/arbiter-record.ts',
    from: 'const next = this.#with({ generation: generation + 1, eligible: names, spent: [] })',
    to: 'const next = this.#with({ generation, eligible: names, spent: [] })',
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: a grant is given without storing the record',
    file: 'src/disk/arbiter.ts',
    from: '        this.#storage.save(ruling.next)\n',
    to: '',
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: a grant does not wait for the writes of the old generation (draining)',
    file: fence,
    from: '    for (const { pass } of this.#executing) if (!this.permits(pass)) return false\n',
    to: '',
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: a connection of the old generation is served on (fencing)',
    file: fence,
    from: '        return this.#record.isHeldBy(pass.replica, pass.generation)\n',
    to: '        return true\n',
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: a replica that connects again does not wait for its broken connection',
    file: 'src/disk/export-directory.ts',
    from: 'fence.whenDrained(() => seat.whenDrained(opened))',
    to: 'fence.whenDrained(opened)',
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: a backup runs past its log',
    file: replayer,
    from: "      if (entry === undefined) return { state: { kind: 'needsEntries' }, outputs, diskAnswers }\n",
    to: "      if (entry === undefined) {\n        this.machine.run(instructionCount(this.machine.count + 500n))\n        return { state: { kind: 'needsEntries' }, outputs, diskAnswers }\n      }\n",
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: a primary stops waiting for a lost backup before the record drops it (eligibility)',
    file: 'src/replication/backup-links.ts',
    from: '    for (const { buffer, isWaitedFor } of this.#links.values()) {\n',
    to: '    for (const { buffer, isWaitedFor, isLost } of this.#links.values()) {\n      if (isLost) return undefined\n',
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: nothing is held for a backup while the arbiter is asked to list it',
    file: primary,
    from: '    const afterAcknowledged = this.#links.acknowledgedEnd\n',
    to: "    const afterAcknowledged = this.#state === 'asking' ? undefined : this.#links.acknowledgedEnd\n",
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: disk requests without a completion are not issued again',
    file: replayer,
    from: 'filter((request) => !ownFirst.has(request.sequence))',
    to: 'filter((request) => ownFirst.size > 99 && !ownFirst.has(request.sequence))',
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: a backup forgets its outputs before their receiver has them',
    file: backup,
    from: '    for (const marked of outputs) this.#unconfirmed.add(marked)\n',
    to: '',
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: a backup goes live before it has replayed what it acknowledged',
    file: failover,
    from: "if (role.state !== 'goingLive' || !log.isReplayed) return",
    to: "if (role.state !== 'goingLive') return",
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: what a disk server may have lost in its crash is not written again',
    file: 'src/disk/steady-requests.ts',
    from: 'this.#restore(link, apart(this.unflushed.inOrder()))',
    to: 'this.#onRestored(link)',
    noticedBy: { seeds: 500 },
  },
  {
    name: 'simulator: the switch listens to a replica whose generation is over',
    file: 'src/lan/ethernet-switch.ts',
    from: '    if (machine.port !== port) {\n      machine.counts.fencedDropped++\n      return deliveries\n    }\n',
    to: '',
    noticedBy: { seeds: 500 },
  },
  {
    name: 'simulator: the switch may forget a frame whose entry nobody has acknowledged',
    file: 'src/replication/uncovered-frames.ts',
    from: '(acknowledgedEnd === undefined || this.#frames[0].end <= acknowledgedEnd)',
    to: 'true',
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: a replay applies an entry one instruction late now and then',
    file: replayer,
    from: 'const target = entry.count < until ? entry.count : until\n',
    to: 'const target = instructionCount((entry.count < until ? entry.count : until) + 1n)\n',
    noticedBy: { seeds: 10 },
  },
  {
    name: 'simulator: a backup that joins a running machine is not given the outputs that nobody confirmed yet',
    file: 'src/replication/output-path.ts',
    from: 'unconfirmed: [...this.#unconfirmed.inOrder(), ...this.#gate.held],',
    to: 'unconfirmed: [],',
    noticedBy: { seeds: 1000 },
  },
  {
    name: 'simulator: a backup is counted on although nobody has flushed what the disk answered before it came',
    file: 'src/replication/admission.ts',
    from: "link.joinsAfter.add('restored').add('disksFlushed')",
    to: "link.joinsAfter.add('restored')",
    noticedBy: { seeds: 4000 },
  },
  {
    name: 'simulator: a backup that joins a running machine does not know which frames are in the log',
    file: 'src/replication/output-path.ts',
    from: 'coveredFrameId: this.#uncovered.lastFrameId,',
    to: 'coveredFrameId: undefined,',
    noticedBy: { seeds: 1000 },
  },
  {
    name: 'simulator: the last pages of a copy are left out',
    file: 'src/hypervisor/live-copy.ts',
    from: '    while (this.#copy.duePages > 0) pages.push(this.#copy.takePages(this.#policy.piecePages))\n',
    to: '    while (this.#copy.duePages > 0) this.#copy.takePages(this.#policy.piecePages)\n',
    noticedBy: { seeds: 100 },
  },
  {
    name: 'simulator: what the disk answered is forgotten when the flush for a new backup fails',
    file: 'src/disk/steady-requests.ts',
    from: "        if (waiting.work.operation === 'flush') this.#onFlushFailed(link, waiting, error)\n        else waiting",
    to: "        if (waiting.work.operation === 'flush') this.unflushed.onFlushed(this.unflushed.beginFlush())\n        waiting",
    noticedBy: { seeds: 1000 },
  },
  {
    name: 'simulator: own copies: a backup follows although the last round was not made',
    file: 'src/replica/disks-with-copies.ts',
    from: 'if (copies) copies.finish(begin)',
    to: 'if (copies) begin()',
    noticedBy: { seeds: 1000 },
  },
  {
    name: 'simulator: own copies: what has changed is not counted for who copies it',
    file: 'src/disk/change-map.ts',
    from: 'this.#counters[piece]!++',
    to: 'this.#counters[piece]! += 0',
    noticedBy: { seeds: 1000 },
  },
  {
    name: 'simulator: own copies: a backup makes no changes',
    file: 'src/replica/own-disk.ts',
    from: "if (work.operation === 'read') return\n",
    to: "if (work.operation !== 'flush') return\n",
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: own copies: changes that overlap go side by side',
    file: 'src/disk/turns.ts',
    from: 'whenOver(earlier, () =>',
    to: 'whenOver(earlier.slice(earlier.length), () =>',
    noticedBy: { seeds: 300 },
  },
  {
    name: 'simulator: own copies: the machine is started from an outdated one',
    file: 'src/replica/copy-state.ts',
    from: "(stamp.state === 'live' && stamp.generation >= heldSince)",
    to: "(stamp.state === 'live' && heldSince >= 0)",
    noticedBy: { seeds: 1000 },
  },
]
