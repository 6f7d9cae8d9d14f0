/**
 * Power-on: what is in memory and in the registers before the first instruction of a boot.
 *
 * Linux starts as firmware would leave it (Linux: Documentation/arch/riscv/boot.rst; SBI 2.0, chapter "Supervisor
 * Execution Environment"): S mode, a0 = hart 0, a1 = device tree, satp = 0. Traps and interrupts are delegated to it but
 * for its own ECALL, which is an SBI call. A bare program starts in M mode at its entry point, like out of reset.
 *
 *     ramBase                                                     end of RAM
 *     | 2 MiB free | kernel Image, bss …            | initrd | device tree |
 */

import { WorldError } from '../base/assert.ts'
import { MiB, pageBytes } from '../base/units.ts'
import { type Engine, ramBase } from '../engine/types.ts'
import type { BareProgram } from './elf.ts'
import type { KernelDescription } from './kernel-image.ts'
import { machineTree, type TreeOptions } from './machine-tree.ts'
import type { BootImage, MachineConfig } from './types.ts'

/** CSR addresses used at start-up (privileged ISA, table 3 ff.). */
const csr = {
  scounteren: 0x106,
  satp: 0x180,
  medeleg: 0x302,
  mideleg: 0x303,
  mcounteren: 0x306,
  menvcfg: 0x30a,
  mseccfg: 0x747,
  stimecmp: 0x14d,
} as const

/** Every exception but ECALL from S (9) and from M (11). */
const delegatedExceptions = 0xb1ffn
/** Software, timer and external interrupts of S mode. */
const delegatedInterrupts = 0x222n
/** cycle, time, instret. */
const readableCounters = 7n
/** STCE: `stimecmp` works in S mode. ADUE: hardware updates A and D bits. */
const environment = (1n << 63n) | (1n << 61n)
/** SSEED: S mode may read the `seed` CSR. */
const seedForSupervisor = 1n << 9n
const never = 0xffff_ffff_ffff_ffffn

/** The device tree's place at the end of RAM; its real size is some 3 KiB plus the boot arguments. */
const treeReserveBytes = 2 * MiB
const longestBootArgumentsBytes = 2048

type LinuxImage = Extract<BootImage, { kind: 'linux' }>

export interface LinuxLayout {
  readonly kernelAddress: number
  readonly initrdAddress: number
  readonly treeAddress: number
}

/** Where things go; a `WorldError` when they do not fit. */
export function planLinux(config: MachineConfig, image: LinuxImage, kernel: KernelDescription): LinuxLayout {
  const kernelAddress = ramBase + kernel.textOffset
  const treeAddress = ramBase + config.ramBytes - treeReserveBytes
  const initrdAddress = treeAddress - Math.ceil(image.initrd.length / pageBytes) * pageBytes
  const kernelEnd = kernelAddress + kernel.imageBytes
  if (kernelEnd > initrdAddress) {
    const needed = Math.ceil((kernelEnd - ramBase + image.initrd.length + treeReserveBytes) / MiB)
    throw new WorldError('ram-too-small', `kernel and initrd need at least ${needed} MiB of memory: raise it`)
  }
  if (new TextEncoder().encode(image.bootArguments).length > longestBootArgumentsBytes) {
    throw new WorldError('boot-arguments-too-long', `boot arguments are limited to ${longestBootArgumentsBytes} bytes`)
  }
  return { kernelAddress, initrdAddress, treeAddress }
}

export function bootLinux(
  engine: Engine,
  image: LinuxImage,
  layout: LinuxLayout,
  tree: Pick<TreeOptions, 'rngSeed' | 'virtioDevices'>,
): void {
  engine.storeBytes(layout.kernelAddress, image.kernel)
  if (image.initrd.length > 0) engine.storeBytes(layout.initrdAddress, image.initrd)
  const blob = machineTree({
    ...tree,
    ramBytes: engine.ramBytes,
    bootArguments: image.bootArguments,
    initrd: { address: layout.initrdAddress, lengthBytes: image.initrd.length },
  })
  engine.storeBytes(layout.treeAddress, blob)

  const start: readonly [number, bigint][] = [
    [csr.medeleg, delegatedExceptions],
    [csr.mideleg, delegatedInterrupts],
    [csr.mcounteren, readableCounters],
    [csr.scounteren, readableCounters],
    [csr.menvcfg, environment],
    [csr.mseccfg, seedForSupervisor],
    [csr.stimecmp, never],
    [csr.satp, 0n],
  ]
  for (const [address, value] of start) engine.setCsr(address, value)
  engine.supervisorCallsExit = true
  engine.supervisorCallsExit = true
  engine.privilege = 1
  engine.pc = BigInt(layout.kernelAddress)
  engine.setX(10, 0n)
  engine.setX(11, BigInt(layout.treeAddress))
}

/** Every segment must lie in RAM. */
export function checkProgramFits(config: MachineConfig, program: BareProgram): void {
  for (const { address, memoryBytes } of program.segments) {
    if (!(address >= ramBase && address + memoryBytes <= ramBase + config.ramBytes)) {
      throw new WorldError(
        'elf-outside-ram',
        `the program wants memory at 0x${address.toString(16)}, where there is none`,
      )
    }
  }
}

export function bootBare(engine: Engine, program: BareProgram): void {
  for (const { address, bytes } of program.segments) if (bytes.length > 0) engine.storeBytes(address, bytes)
  engine.privilege = 3
  engine.pc = program.entry
}
