/**
 * Ways to break the product, each with the test that must notice. A rule whose mutation survives is a rule that nobody
 * checks.
 *
 * A mutation is an exact replacement of text that occurs once in its file. When the source moves on and the text is gone,
 * the run fails and says so: say then in the new words what is to be broken. Choose the cheapest test that attacks the
 * rule directly; it is run alone, by its file and its full name.
 */

import { arbiterMutations } from './arbiter-mutations.ts'
import { backupsMutations } from './backups-mutations.ts'
import { diskMutations } from './disk-mutations.ts'
import { epochMutations } from './epoch-mutations.ts'
import { privacyMutations } from './privacy-mutations.ts'
import { protectionMutations } from './protection-mutations.ts'
import { readsMutations } from './reads-mutations.ts'
import { simulatorMutations } from './simulator-mutations.ts'
import { transferMutations } from './transfer-mutations.ts'
import { translationMutations } from './translation-mutations.ts'
import { vmwareMutations } from './vmware-mutations.ts'
import { worldMutations } from './world-mutations.ts'

export interface Mutation {
  /** What the broken product does, as a sentence. */
  readonly name: string
  readonly file: string
  readonly from: string
  readonly to: string
  readonly noticedBy: Noticer
}

/** A test by its file and full name, or the simulator: within so many seeds from 1. */
export type Noticer = { readonly file: string; readonly test: string } | { readonly seeds: number }

export function describeNoticer(noticer: Noticer): string {
  return 'seeds' in noticer ? `the simulator, ${noticer.seeds} seeds` : `${noticer.file}: "${noticer.test}"`
}

const bare = 'test/determinism/bare.test.ts'

/** Every source of nondeterminism that there is, let back in (docs/DETERMINISM.md). */
export const determinismMutations: readonly Mutation[] = [
  {
    name: 'a replay drops an entry now and then',
    file: 'src/hypervisor/replayer.ts',
    from: '      this.machine.apply(body)\n',
    to: '      if (entry.index % 50n !== 49n) this.machine.apply(body)\n',
    noticedBy: { file: bare, test: 'in slices of 1000' },
  },
  {
    name: 'a replay applies entries one instruction late',
    file: 'src/hypervisor/replayer.ts',
    from: 'const target = entry.count < until ? entry.count : until\n',
    to: 'const target = instructionCount((entry.count < until ? entry.count : until) + 1n)\n',
    noticedBy: { file: bare, test: 'in slices of 1000' },
  },
  {
    name: 'a NaN operand leaves an operation as it came, payload and all',
    file: 'src/engine/soft-float/round-pack.ts',
    from: "f.if(any('isSignalingNan'), () => this.raise(f, Flag.invalid))\n      this.returnNan(f)",
    to: "f.if(any('isSignalingNan'), () => this.raise(f, Flag.invalid))\n      f.return(operands[0]!)",
    noticedBy: {
      file: 'src/engine/soft-float/soft-float.test.ts',
      test: 'every NaN result is the canonical one, whatever the payload and sign of the operands',
    },
  },
  {
    name: 'the real-time clock shows the time of the host',
    file: 'src/machine/devices/goldfish-rtc.ts',
    from: 'return BigInt.asUintN(64, this.#originNs + this.#engine.ticks * nsPerTick)',
    to: 'return BigInt(Date.now()) * 1_000_000n + BigInt(Math.floor(performance.now() * 1e6) % 1_000_000)',
    noticedBy: { file: bare, test: 'in slices of 1000' },
  },
  {
    name: 'a device reads the clock of the host, in words that may never run',
    file: 'src/machine/devices/goldfish-rtc.ts',
    from: 'this.#originNs = nowNs - this.#engine.ticks * nsPerTick',
    to: 'this.#originNs = (nowNs || BigInt(Date.now())) - this.#engine.ticks * nsPerTick',
    noticedBy: { file: 'test/layers.test.ts', test: 'the sources keep the layer rule' },
  },
  {
    name: "the disk's answer lands in guest memory as it comes, and its entry is written when the hart stops next",
    file: 'src/hypervisor/recorder.ts',
    from: `    const index = this.#builder.append(this.machine.count, body)
    this.#closeIfFull()
    this.machine.apply(input)
    this.obligations.onInput(input)
`,
    to: `    const isAnswer = input.kind === 'diskCompletion'
    if (isAnswer) {
      this.machine.apply(input)
      this.machine.run((this.machine.count + 40n) as InstructionCount)
    }
    const index = this.#builder.append(this.machine.count, body)
    this.#closeIfFull()
    if (!isAnswer) this.machine.apply(input)
    this.obligations.onInput(input)
`,
    noticedBy: { file: bare, test: 'in slices of 1000' },
  },
  {
    name: 'the disk touches the buffer of a read before its answer is applied',
    file: 'src/machine/devices/virtio/block.ts',
    from: '    const refuse = (status: number) => this.#answer(place, status, 0)\n',
    to: `    const refuse = (status: number) => this.#answer(place, status, 0)
    if (type === requestType.read) scatter(this.memory, destination, new Uint8Array(inBytes))
`,
    noticedBy: {
      file: 'src/machine/devices/virtio/block.test.ts',
      test: 'a read enters guest memory only when the answer of the disk is applied',
    },
  },
  {
    name: 'the disk looks at its ring whenever the machine is run',
    file: 'src/machine/machine.ts',
    from: '  run(until: InstructionCount): StopReason {\n',
    to: `  run(until: InstructionCount): StopReason {
    for (const disk of this.#disks) disk.store(0x50, 4, 0n)
`,
    noticedBy: { file: bare, test: 'in slices of 7' },
  },
  {
    name: 'the network card looks at its transmit ring when a frame comes in',
    file: 'src/machine/devices/virtio/net.ts',
    from: 'this.guard(() => this.#deliver())',
    to: `this.guard(() => {
      this.#deliver()
      this.#transmit()
    })`,
    noticedBy: {
      file: 'src/machine/devices/virtio/net.test.ts',
      test: 'rings are not polled: a frame to send leaves with its notify, not with whatever comes in before',
    },
  },
  {
    name: 'timer interrupts are taken at the end of a slice',
    file: 'src/engine/wasm-engine.ts',
    from: 'for (const deadline of this.#deadlines()) {',
    to: 'for (const deadline of this.#deadlines().slice(2)) {',
    noticedBy: { file: bare, test: 'in slices of 7' },
  },
  {
    name: 'a snapshot forgets how many chains of a ring were taken',
    file: 'src/machine/devices/virtio/virtqueue.ts',
    from: '    this.#taken = reader.u16()\n',
    to: '    this.#taken = reader.u16() & 0\n',
    noticedBy: { file: bare, test: 'moved to a fresh machine by snapshot and restore, again and again' },
  },
  {
    name: "a page that was digested is not noticed when it changes again: the hart's write entries stay",
    file: 'src/engine/wasm-engine.ts',
    from: '    this.#put(cells.writtenPages.address, 0)\n    this.#forgetWriteEntries()\n',
    to: '    this.#put(cells.writtenPages.address, 0)\n',
    noticedBy: { file: bare, test: 'moved to a fresh machine by snapshot and restore, again and again' },
  },
]

export const mutations: readonly Mutation[] = [
  ...determinismMutations,
  ...protectionMutations,
  ...arbiterMutations,
  ...diskMutations,
  ...worldMutations,
  ...backupsMutations,
  ...vmwareMutations,
  ...readsMutations,
  ...transferMutations,
  ...epochMutations,
  ...privacyMutations,
  ...translationMutations,
  ...simulatorMutations,
]

/** All tests that have to notice something, by their files, and how many seeds of the simulator have to. */
export function noticersOf(all: readonly Mutation[]): {
  readonly testsByFile: ReadonlyMap<string, readonly string[]>
  readonly seeds: number
} {
  const testsByFile = new Map<string, string[]>()
  let seeds = 0
  for (const { noticedBy } of all) {
    if ('seeds' in noticedBy) seeds = Math.max(seeds, noticedBy.seeds)
    else {
      const tests = testsByFile.get(noticedBy.file) ?? []
      if (!tests.includes(noticedBy.test)) tests.push(noticedBy.test)
      testsByFile.set(noticedBy.file, tests)
    }
  }
  return { testsByFile, seeds }
}
