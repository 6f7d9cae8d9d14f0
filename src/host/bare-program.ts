/**
 * `understudy run --elf`: one bare RISC-V program on the machine, in M mode, with no replica and no host clock.
 *
 * The run is a pure function of the file: guest time advances by the instruction count alone, and a WFI is ended at the
 * very tick its timer is due. Same file, same digest, on every host.
 */

import { readFileSync } from 'node:fs'
import { ExitCode, WorldError } from '../base/assert.ts'
import { formatDigest } from '../base/digest.ts'
import { MiB } from '../base/units.ts'
import { createEngine } from '../engine/wasm-engine.ts'
import { createMachine } from '../machine/machine.ts'
import { instructionCount, type Machine } from '../machine/types.ts'
import { type MachineProfile, Profiler } from './profiler.ts'

export interface BareRun {
  /** The program's own code, as it reported it through `tohost` or the sifive_test device. */
  readonly exit: number
  readonly instructions: bigint
  readonly digest: string
  /** Where the work went, if it was asked for. */
  readonly profile?: MachineProfile
}

export interface BareRunOptions {
  readonly ramBytes?: number
  readonly maxInstructions?: bigint
  readonly isProfiled?: boolean
  /** What the program writes to its console. */
  readonly onConsole: (bytes: Uint8Array) => void
}

/** One instruction takes 10 ns of guest time: a tenth of a 100 ns tick. */
const ratePer2p32 = 2n ** 32n / 10n
const noCap = 2n ** 62n

/**
 * @throws WorldError when the file is no program for this machine, waits for ever, or does not end within
 *   `maxInstructions`; its exit code is 125, so that it cannot be taken for the program's own
 */
export function runBareProgram(path: string, options: BareRunOptions): BareRun {
  try {
    return run(path, options)
  } catch (error) {
    if (!(error instanceof WorldError)) throw error
    throw new WorldError(error.code, error.message, ExitCode.ownFailureOfBareProgram)
  }
}

function run(path: string, options: BareRunOptions): BareRun {
  const config = { ramBytes: options.ramBytes ?? 128 * MiB, disks: [] }
  const profiler = options.isProfiled ? new Profiler() : undefined
  const image = { kind: 'elf', file: readProgram(path) } as const
  const machine = createMachine(config, image, profiler?.createEngine ?? createEngine)
  machine.apply({ kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 0n })
  machine.apply({ kind: 'clock', ticks: 0n, ratePer2p32, capTicks: noCap })
  const ended = (exit: number): BareRun => ({
    exit,
    instructions: machine.count,
    digest: formatDigest(machine.digest()),
    ...(profiler ? { profile: profiler.profile } : {}),
  })
  const limit = instructionCount(options.maxInstructions ?? 2n ** 62n)
  for (;;) {
    const stop = machine.run(limit)
    answerOutputs(machine, options.onConsole)
    switch (stop.kind) {
      case 'exited':
        return ended(stop.code)
      case 'outputs':
        break
      case 'waiting':
        if (stop.deadline === undefined) {
          throw new WorldError('waits-for-ever', `${path}: the program waits (WFI) and no interrupt can come`)
        }
        machine.apply({ kind: 'clock', ticks: stop.deadline, ratePer2p32, capTicks: noCap })
        break
      case 'off':
        return ended(0)
      case 'count':
        throw new WorldError('instruction-limit', `${path}: not finished after ${machine.count} instructions`)
    }
  }
}

/** A bare program has no log: what it asks for is answered at once, with constants. */
function answerOutputs(machine: Machine, onConsole: (bytes: Uint8Array) => void): void {
  for (const output of machine.takeOutputs()) {
    if (output.kind === 'console') onConsole(output.bytes)
    if (output.kind === 'entropyRequest') {
      machine.apply({ kind: 'entropy', bytes: new Uint8Array(output.lengthBytes) })
    }
  }
}

function readProgram(path: string): Uint8Array {
  try {
    return readFileSync(path)
  } catch (error) {
    throw new WorldError('no-such-file', `${path}: cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
}
