/** The safeguards of several backups, taken away: who is waited for, who is listed, who follows whom. */

import type { Mutation } from './mutations.ts'

const primary = 'src/replication/primary.ts'
const backup = 'src/replication/backup.ts'
const failover = 'src/replication/failover.ts'
const eligibility = 'src/replication/eligibility.ts'
const links = 'src/replication/backup-links.ts'
const siblings = 'src/replication/siblings.test.ts'
const several = 'test/pair/several-backups.test.ts'

export const backupsMutations: readonly Mutation[] = [
  {
    name: 'eligibility is recorded too early: a newcomer is listed that lacks what left without it',
    file: links,
    from: 'return this.#isWaitedFor && this.buffer.receivedEnd >= this.#barrier',
    to: 'return true',
    noticedBy: {
      file: siblings,
      test: 'eligibility is not recorded too early: a newcomer first acknowledges all that left without it',
    },
  },
  {
    name: 'a newcomer is listed while outputs do not wait for it',
    file: links,
    from: '    this.#isWaitedFor = true\n    this.#barrier = logEnd\n',
    to: '    this.#isWaitedFor = true\n',
    noticedBy: {
      file: siblings,
      test: 'eligibility is not recorded too early: a newcomer first acknowledges all that left without it',
    },
  },
  {
    name: 'the winner goes live without the longest log tail',
    file: failover,
    from: '    if (this.#fetch && !this.#fetch.isOver(nowMs)) return\n',
    to: '',
    noticedBy: {
      file: siblings,
      test: 'the winner takes the longest log tail, replays it, and only then goes live',
    },
  },
  {
    name: 'a winner waits for a silent sibling for ever',
    file: 'src/replication/tail-fetch.ts',
    from: 'this.#awaited.size === 0 || nowMs >= this.deadlineMs',
    to: 'this.#awaited.size === 0',
    noticedBy: {
      file: siblings,
      test: 'a sibling that cannot be reached, or says nothing, is waited for no longer than its time',
    },
  },
  {
    name: 'a replica that has run past the winner follows it all the same',
    file: 'src/replication/inherited-tail.ts',
    from: 'nextIndex > logEnd ? nextIndex - logEnd : 0n',
    to: 'nextIndex > logEnd ? 0n : 0n',
    noticedBy: {
      file: siblings,
      test: 'a replica that has run past the end of the winner is refused, with the reason',
    },
  },
  {
    name: 'a backup at the same entry of another log is taken for one of ours',
    file: 'src/replication/admission.ts',
    from: '(hello.hold === 0 || hello.hold === this.#hold)',
    to: 'true',
    noticedBy: {
      file: siblings,
      test: 'a backup at the same entry of another hold has another history: it is refused',
    },
  },
  {
    name: 'a backup that could win its own generation lets itself be called away from it',
    file: eligibility,
    from: ': generation > last',
    to: ': generation >= last',
    noticedBy: {
      file: siblings,
      test: 'a backup that could win its own generation still is not called away from it',
    },
  },
  {
    name: 'a backup that was called goes on with its old primary',
    file: failover,
    from: '    line.close(`replica',
    to: '    if (channel < 0) line.close(`replica',
    noticedBy: {
      file: siblings,
      test: 'a backup that is called gives its tail, acknowledges nothing to its old primary any more, and follows the winner',
    },
  },
  {
    name: 'a loser that nobody calls waits for ever',
    file: failover,
    from: "        role.moveTo('rejoining')\n        role.waitsUntilMs = nowMs + policy.callMs\n",
    to: "        role.moveTo('rejoining')\n",
    noticedBy: {
      file: siblings,
      test: 'once it has asked it never resumes its old role: the loser waits for the winner, and halts when nobody calls',
    },
  },
  {
    name: 'a backup that missed a change of generation gives up',
    file: eligibility,
    from: '    if (eligibleIn !== undefined && eligibleIn === this.generation + 1) {',
    to: '    if (eligibleIn !== undefined && eligibleIn < this.generation) {',
    noticedBy: {
      file: siblings,
      test: 'a backup that missed a change of generation asks for the one that lists it',
    },
  },
  {
    name: 'a slow backup is still waited for after the record dropped it',
    file: primary,
    from: '      else if (link.dismissal !== undefined && !isListed) this.#dismiss(link, link.dismissal)\n',
    to: '',
    noticedBy: {
      file: siblings,
      test: 'a slow backup is dropped from the record while another keeps up; only then it is no longer waited for',
    },
  },
  {
    name: 'a slow backup is let go before the record drops it',
    file: primary,
    from: '    slow.dismissal = `too slow',
    to: "    this.#dismiss(slow, '')\n    slow.dismissal = `too slow",
    noticedBy: {
      file: siblings,
      test: 'a slow backup is dropped from the record while another keeps up; only then it is no longer waited for',
    },
  },
  {
    name: 'a slow backup slows the machine for ever, however fast another one is',
    file: links,
    from: 'return isKeptUpWith ? listable.find((link) => lagOf(link) > slowBackupMs) : undefined',
    to: 'return isKeptUpWith ? undefined : undefined',
    noticedBy: {
      file: siblings,
      test: 'a slow backup is dropped from the record while another keeps up; only then it is no longer waited for',
    },
  },
  {
    name: 'the last backup is dropped for being slow',
    file: links,
    from: 'return isKeptUpWith ? listable.find(',
    to: 'return isKeptUpWith || true ? listable.find(',
    noticedBy: {
      file: siblings,
      test: 'a backup alone is never too slow: without it the machine would have none',
    },
  },
  {
    name: 'a backup forgets log entries that another one lacks',
    file: backup,
    from: '        this.#log.tail.forgetBelow(message.commonEnd)\n',
    to: '        this.#log.tail.forgetAll()\n',
    noticedBy: {
      file: several,
      test: 'primary killed at any point: exactly one backup wins, the other follows it, and the machine is protected again',
    },
  },
  {
    name: 'whoever was eligible beside the winner of a test-and-set is so no longer',
    file: 'src/disk/arbiter-record.ts',
    from: "const heirs = takenBy === 'testAndSet' ?",
    to: "const heirs = takenBy !== 'testAndSet' ?",
    noticedBy: {
      file: 'test/pair/several-backups.test.ts',
      test: 'the winner killed before it has backups of its own: the other one is still eligible, and has everything the world has seen',
    },
  },
  {
    name: 'a winner releases outputs while an heir is eligible that lacks them',
    file: 'src/replication/primary.ts',
    from: '    if (this.#listed.hasHeirs) {\n',
    to: '    if (this.#listed.hasHeirs && this.#links.size === 0 && !this.#listed.isAsking) {\n',
    noticedBy: {
      file: 'src/replication/siblings.test.ts',
      test: 'a winner with heirs releases nothing before the arbiter lists backups of its own choice; those that follow are named first',
    },
  },
  {
    name: 'an heir may ask again at once, and take the machine from a winner that lives',
    file: 'src/disk/arbiter-record.ts',
    from: 'const isOfThisHold = generation >= fields.heldSince',
    to: 'const isOfThisHold = generation >= 0',
    noticedBy: {
      file: 'src/disk/arbiter-acceptance.test.ts',
      test: 'in memory: whoever was eligible beside the winner is so until the winner has named backups of its own',
    },
  },
  {
    name: 'who follows a winner, and is not welcomed yet, takes the machine from a second winner that lives',
    file: eligibility,
    from: 'isRejoining ? generation - 1 : generation\n',
    to: 'generation\n',
    noticedBy: {
      file: 'test/pair/several-backups.test.ts',
      test: 'three backups, and the winner killed before it has any of its own: of two heirs one takes over, whoever is cut off besides',
    },
  },
  {
    name: 'an heir takes the tail of a sibling that has followed another winner',
    file: 'src/replication/tail-fetch.ts',
    from: 'message.hold === this.#caller.hold ?',
    to: 'message.hold > 0 ?',
    noticedBy: {
      file: siblings,
      test: 'the tail of a sibling that has followed another winner is of another history: it is not taken',
    },
  },
  {
    name: 'the switch is never told that it may forget the frames that a winner with heirs found in the log',
    file: 'src/replication/primary.ts',
    from: 'if (this.#listed.hasHeirs && coveredFrameId !== undefined)',
    to: 'if (!this.#listed.hasHeirs && coveredFrameId !== undefined)',
    noticedBy: {
      file: siblings,
      test: 'a winner with heirs lets the switch forget no frame before those that it has named have the log',
    },
  },
]
