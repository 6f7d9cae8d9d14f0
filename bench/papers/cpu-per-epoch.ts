/**
 * What an epoch costs the primary's hart beyond its instructions, under revised P2: CPU time of this process, which runs a
 * machine that computes, bare and in epochs, without a backup beside it.
 */

import { createEngine } from '../../src/engine/wasm-engine.ts'
import { ClockKeeper } from '../../src/hypervisor/clock-keeper.ts'
import { EpochPrimary } from '../../src/hypervisor/epoch/epoch-primary.ts'
import { Recorder } from '../../src/hypervisor/recorder.ts'
import { createMachine } from '../../src/machine/machine.ts'
import { type BootImage, instructionCount, type Machine, type MachineConfig } from '../../src/machine/types.ts'

const boot = { kind: 'boot', rngSeed: new Uint8Array(64), wallClockNs: 1n } as const
const warmUpInstructions = 200_000_000n
const epochInstructions = 1000
/** A batch for every so many epochs, as the hart's thread takes them. */
const epochsPerBatch = 256

/** Nanoseconds of CPU for so many instructions. */
function cpuOf(machine: Machine, instructions: bigint, runTo: (count: bigint) => void): number {
  runTo(machine.count + warmUpInstructions)
  const before = process.cpuUsage()
  runTo(machine.count + instructions)
  const { user, system } = process.cpuUsage(before)
  return (user + system) * 1000
}

function bareCpu(machine: Machine, instructions: bigint): number {
  machine.apply(boot)
  return cpuOf(machine, instructions, (count) => {
    while (machine.count < count) if (machine.run(instructionCount(count)).kind === 'outputs') machine.takeOutputs()
  })
}

function epochCpu(machine: Machine, instructions: bigint): number {
  const recorder = new Recorder(machine)
  const epochs = new EpochPrimary(recorder, { kind: 'epoch', protocol: 'revised', instructions: epochInstructions })
  epochs.onAcknowledged(undefined)
  epochs.environmentValue(boot)
  const now = { monotonicNs: process.hrtime.bigint(), wallClockNs: BigInt(Date.now()) * 1_000_000n }
  const keeper = new ClockKeeper(machine.clockAnchor!, machine.ticks, now)
  return cpuOf(machine, instructions, (count) => {
    for (let ended = 0; machine.count < count; ) {
      if (epochs.run(1n << 30n).stop.kind !== 'epochEnd') continue
      epochs.endEpoch(keeper.epochTime(process.hrtime.bigint(), machine.ticks))
      if (++ended % epochsPerBatch === 0) recorder.takeBatches()
    }
  })
}

/** @returns microseconds */
export function cpuPerEpoch(config: MachineConfig, image: BootImage, instructions: bigint): number {
  const newMachine = (): Machine => createMachine(config, image, (parts) => createEngine(parts))
  const extra = epochCpu(newMachine(), instructions) - bareCpu(newMachine(), instructions)
  return extra / (Number(instructions) / epochInstructions) / 1000
}
