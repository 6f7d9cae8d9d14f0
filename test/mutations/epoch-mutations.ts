/** Every rule of Bressoud & Schneider's protocol, broken (docs/PROTOCOL.md, "Epoch discipline"). */

import type { Mutation } from './mutations.ts'

const primary = 'src/hypervisor/epoch/epoch-primary.ts'
const backup = 'src/hypervisor/epoch/epoch-backup.ts'
const position = 'src/hypervisor/epoch/epoch-position.ts'
const primaryRules = 'test/paper/bressoud-schneider/primary-rules.test.ts'
const backupRules = 'test/paper/bressoud-schneider/backup-rules.test.ts'

export const epochMutations: readonly Mutation[] = [
  {
    name: 'a backup of another discipline is accepted',
    file: 'src/replication/reception.ts',
    from: '    if (mismatch !== undefined) return mismatch\n',
    to: "    if (mismatch?.startsWith('other discipline') === false) return mismatch\n",
    noticedBy: {
      file: 'src/replication/primary.test.ts',
      test: 'a hello is refused, with the reason, unless everything agrees',
    },
  },
  {
    name: 'a backup follows a primary of another discipline',
    file: 'src/replication/hello.ts',
    from: ' ?? disciplineMismatch(own.discipline, hello.discipline)',
    to: '',
    noticedBy: {
      file: 'src/replication/backup.test.ts',
      test: 'an unpaired backup never asks: it halts with the reason',
    },
  },
  {
    name: 'P0: an environment value waits for the end of the epoch',
    file: primary,
    from: '    return this.recorder.apply(value)\n',
    to: '    this.#interrupts.push(value as unknown as Interrupt)\n    return none\n',
    noticedBy: {
      file: primaryRules,
      test: 'P0: on an environment instruction the primary sends [E, pc, Val], at that instruction, and does not wait for the end of E',
    },
  },
  {
    name: 'P0: the backup makes up a value of its own',
    file: 'src/hypervisor/replayer.ts',
    from: '      this.machine.apply(body)\n',
    to: "      this.machine.apply(body.kind === 'entropy' ? { ...body, bytes: body.bytes.map((byte) => byte ^ 1) } : body)\n",
    noticedBy: {
      file: backupRules,
      test: 'P0: the backup waits at that instruction for Val, and uses the one that comes',
    },
  },
  {
    name: 'P1: what a disk read gave is not sent',
    file: primary,
    from: '    this.#interrupts.push(interrupt)\n',
    to: '    const { data: _, ...without } = { data: undefined, ...interrupt }\n    this.#interrupts.push(without as Interrupt)\n',
    noticedBy: {
      file: primaryRules,
      test: 'P1: what a disk read gave is sent with its interrupt, and is in the guest at the end of E, not before',
    },
  },
  {
    name: 'P2: [Tme] is not let in at the end of an epoch that a waiting hart ended',
    file: primary,
    from: '    if (!this.#position.hasTme) {',
    to: '    if (!this.#position.hasTme && recorder.machine.count >= this.#endCount) {',
    noticedBy: {
      file: primaryRules,
      test: 'P2: a timer that [Tme] implies is delivered at the end of E: a guest that slept runs on in E + 1',
    },
  },
  {
    name: 'P4: [E, Int] is not acknowledged on receipt',
    file: 'src/replication/backup.ts',
    from: "    if (this.#role.state === 'replaying') this.#acknowledge(nowMs)\n",
    to: '',
    noticedBy: {
      file: backupRules,
      test: 'P4: [E, Int] is acknowledged on receipt, and buffered: it is delivered at the end of E',
    },
  },
  {
    name: "P1: an interrupt is delivered at once, not at the epoch's end",
    file: primary,
    from: '    this.#interrupts.push(interrupt)\n',
    to: '    this.recorder.apply(interrupt)\n',
    noticedBy: {
      file: primaryRules,
      test: 'P1: an interrupt of any kind that arrives in E is buffered, and sent as [E, Int] for the end of E',
    },
  },
  {
    name: 'P1: interrupts are let in wherever the hart happens to stop',
    file: primary,
    from: '    if (outputs.length > 0) this.#onOutputs(outputs)\n    return { stop: this.#stopOf(stop), outputs }',
    to: '    if (outputs.length > 0) this.#onOutputs(outputs)\n    this.#letIn(this.#interrupts.splice(0))\n    return { stop: this.#stopOf(stop), outputs }',
    noticedBy: {
      file: primaryRules,
      test: 'P1: an interrupt of any kind that arrives in E is buffered, and sent as [E, Int] for the end of E',
    },
  },
  {
    name: 'P2: the primary does not await the acknowledgements at the end of an epoch',
    file: primary,
    from: '      this.#awaited = recorder.nextIndex\n      this.#isEnding = true',
    to: '      this.#isEnding = true',
    noticedBy: {
      file: primaryRules,
      test: 'P2: at the end of E everything sent is awaited: no instruction runs and [end, E] is not sent before it is acknowledged',
    },
  },
  {
    name: 'P2: any acknowledgement will do',
    file: primary,
    from: 'if (this.#acknowledgedEnd !== undefined && this.#acknowledgedEnd < end) {',
    to: 'if (this.#acknowledgedEnd === 0n) {',
    noticedBy: { file: primaryRules, test: 'P2: an acknowledgement of a part of it is not enough' },
  },
  {
    name: 'P2: guest time runs on within an epoch',
    file: primary,
    from: 'ratePer2p32: 0n, capTicks: 0n }',
    to: 'ratePer2p32: 1n << 30n, capTicks: 1000n }',
    noticedBy: {
      file: primaryRules,
      test: 'P2: guest time stands still within an epoch and is Tme after it, so no timer comes due but at an end',
    },
  },
  {
    name: 'P2 revised: an I/O operation is not awaited',
    file: primary,
    from: "if (this.#discipline.protocol === 'revised' && outputs.some",
    to: "if (this.#discipline.protocol === 'original' && outputs.some",
    noticedBy: {
      file: primaryRules,
      test: 'P2 revised: at an I/O operation the hart stops, and the operation waits, until everything sent is acknowledged',
    },
  },
  {
    name: 'P2 revised: an I/O operation that an interrupt starts is forgotten',
    file: primary,
    from: '      if (outputs.length > 0) this.#onOutputs(outputs)\n      this.#startNext()',
    to: '      this.#startNext()',
    noticedBy: {
      file: primaryRules,
      test: 'P2 revised: an I/O operation that an interrupt starts at the end of an epoch is awaited as well',
    },
  },
  {
    name: 'an epoch does not end early for a hart that waits',
    file: primary,
    from: 'this.#interrupts.length + this.#uncertain.length > 0 ? epochEnd : stop',
    to: 'stop',
    noticedBy: {
      file: primaryRules,
      test: 'WFI with nothing pending ends an epoch early, and [end, E] carries the count (revised)',
    },
  },
  {
    name: 'P3: the backup keeps interrupts meant for its own machine',
    file: backup,
    from: 'if (this.#isPromoted) this.#early.push(interrupt)',
    to: 'this.#early.push(interrupt)',
    noticedBy: {
      file: backupRules,
      test: "P3: an interrupt meant for the backup's own machine is ignored, until it is the primary",
    },
  },
  {
    name: 'P4: [E, Int] is delivered when it is received',
    file: 'src/hypervisor/replayer.ts',
    from: 'if (this.machine.count < entry.count) {',
    to: "if (this.machine.count < entry.count && entry.body.kind !== 'frame') {",
    noticedBy: {
      file: backupRules,
      test: 'P4: [E, Int] is acknowledged on receipt, and buffered: it is delivered at the end of E',
    },
  },
  {
    name: 'P5: the backup runs on past the end of E without [end, E]',
    file: 'src/hypervisor/replayer.ts',
    from: "if (entry === undefined) return { state: { kind: 'needsEntries' }, outputs, diskAnswers }",
    to: "if (entry === undefined) {\n        this.machine.run(instructionCount(this.machine.count + 1n))\n        return { state: { kind: 'needsEntries' }, outputs, diskAnswers }\n      }",
    noticedBy: {
      file: backupRules,
      test: 'P5: the backup runs one epoch behind: no instruction of E before the end of E is known, none of E + 1 before [end, E]',
    },
  },
  {
    name: 'P5: [Tme] is not adopted',
    file: 'src/hypervisor/replayer.ts',
    from: '      this.machine.apply(body)\n',
    to: "      if (body.kind !== 'clock') this.machine.apply(body)\n",
    noticedBy: { file: backupRules, test: 'P5: the backup adopts [Tme]: its guest has the time of the primary' },
  },
  {
    name: 'P6: the own clock is used although [Tme] came',
    file: position,
    from: '        this.#hasTme = true\n',
    to: '        this.#hasTme = false\n',
    noticedBy: {
      file: backupRules,
      test: 'P6: [Tme] of the failover epoch came, [end, E] did not: that Tme is used, and not the own clock',
    },
  },
  {
    name: 'P6: guest time goes back to the own clock',
    file: primary,
    from: 'ticks: now > ticks ? now : ticks,',
    to: 'ticks: now,',
    noticedBy: {
      file: backupRules,
      test: 'P6: its own clock is not used if it lies behind the last time adopted: guest time never goes back',
    },
  },
  {
    name: 'P6: what came in since the promotion is lost',
    file: backup,
    from: '    for (const interrupt of this.#early) primary.onInterrupt(interrupt)\n',
    to: '',
    noticedBy: {
      file: backupRules,
      test: 'P6: what was buffered for the failover epoch is delivered at its end: what came with the log, and what came since',
    },
  },
  {
    name: 'P6: an epoch that has ended by its log runs on',
    file: position,
    from: "      case 'powerButton':\n        this.#isAtItsEnd = true\n",
    to: "      case 'powerButton':\n        this.#isAtItsEnd = false\n",
    noticedBy: {
      file: backupRules,
      test: 'P6: an interrupt came in the failover epoch, its [Tme] did not: E has ended all the same',
    },
  },
  {
    name: 'P7: no uncertain interrupts',
    file: primary,
    from: '    this.#uncertain = uncertain\n',
    to: '    this.#uncertain = uncertain.slice(0, 0)\n',
    noticedBy: {
      file: backupRules,
      test: 'P7: at the end of the failover epoch every I/O operation outstanding gets an uncertain interrupt, once, and its driver tries again',
    },
  },
  {
    name: 'P7: virtio-scsi tells the driver of an uncertain outcome as if it were a good one',
    file: 'src/machine/devices/virtio/scsi.ts',
    from: 'return { response: response.reset }',
    to: 'return { response: response.ok }',
    noticedBy: {
      file: 'src/machine/devices/virtio/scsi.test.ts',
      test: 'P7: an uncertain outcome reaches the driver as VIRTIO_SCSI_S_RESET, with no data moved: it repeats the command',
    },
  },
  {
    name: 'P7: what cannot be made uncertain is dropped',
    file: backup,
    from: 'outstanding.filter(({ output }) => !canBeUncertain(config, output))',
    to: 'outstanding.filter(() => false)',
    noticedBy: {
      file: backupRules,
      test: 'P7: where the bus has no word for it the operation is issued again, and the driver sees nothing: our deviation',
    },
  },
]
