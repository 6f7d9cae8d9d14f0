/**
 * What a machine is to everything above it: a pure function of its boot image and its inputs.
 *
 * Only way in (invariant 1): nothing enters but through `apply(input)`, nothing leaves but as an `Output`. The machine has
 * no clock, no randomness, no promise. `run(until)` says why it stopped; it never calls back. Positions in the log, roles
 * and sockets belong to the layers above.
 */

declare const instructionCountBrand: unique symbol

/** Attempted instructions since the machine was created (a trapping one counts). Never goes back, not even at a reset. */
export type InstructionCount = bigint & { readonly [instructionCountBrand]: true }

export function instructionCount(value: bigint): InstructionCount {
  return value as InstructionCount
}

/** Guest time in units of the timebase, 10 MHz: 1 tick = 100 ns. */
export type Ticks = bigint

export const timebaseHz = 10_000_000n

/** At `ticks` of guest time the guest's calendar is to say `wallClockNs` (nanoseconds since 1970, UTC). */
export interface ClockAnchor {
  readonly wallClockNs: bigint
  readonly ticks: Ticks
}

/** What the machine is made of. Part of what two replicas must agree on before they pair. */
export interface MachineConfig {
  /** Bytes of RAM at `ramBase`: 64 MiB … 3 GiB, a multiple of 4096. */
  readonly ramBytes: number
  readonly disks: readonly DiskConfig[]
  /** One network card, or none. `mac` is six bytes. */
  readonly nic?: { readonly mac: Uint8Array }
}

export interface DiskConfig {
  /** Capacity in 512-byte sectors. */
  readonly sectors: bigint
  readonly readOnly: boolean
  /** At most 20 ASCII bytes: what VIRTIO_BLK_T_GET_ID answers. */
  readonly serial: string
  /** What the guest finds the disk at: virtio-blk (the default) or virtio-scsi. */
  readonly bus?: DiskBus
  /** Each replica has a copy of its own, so the disk is a part of the machine, not of the world outside. Default: no. */
  readonly isOwn?: boolean
}

export type DiskBus = 'blk' | 'scsi'

/** What is in memory when the machine starts. */
export type BootImage =
  | {
      /** A Linux `Image`, already decompressed, entered in S mode with SBI calls served by us. */
      readonly kind: 'linux'
      readonly kernel: Uint8Array
      readonly initrd: Uint8Array
      readonly bootArguments: string
    }
  | {
      /** A bare RISC-V ELF, entered in M mode at its entry point. */
      readonly kind: 'elf'
      readonly file: Uint8Array
    }

/** Every way into a machine. Each is one log entry; its position is (instruction count, log index). */
export type Input =
  /**
   * Power on, and every reboot: memory is loaded from the boot image again. `rngSeed` (64 bytes) goes into the device
   * tree and the first entropy pool; `wallClockNs` is what the real-time clock shows at guest time 0 of this boot.
   */
  | { readonly kind: 'boot'; readonly rngSeed: Uint8Array; readonly wallClockNs: bigint }
  /** A clock entry: from here on t(n) = ticks + min((n − n0) · ratePer2p32 / 2^32, capTicks). Ends a WFI if a timer is due. */
  | { readonly kind: 'clock'; readonly ticks: Ticks; readonly ratePer2p32: bigint; readonly capTicks: Ticks }
  /** An Ethernet frame for the guest. `frameId` is the switch's number for it, so that a re-delivery is recognized. */
  | { readonly kind: 'frame'; readonly frameId: bigint; readonly bytes: Uint8Array }
  /** The disk answered request `sequence`. `data` is there exactly for a successful read. */
  | {
      readonly kind: 'diskCompletion'
      readonly sequence: bigint
      readonly status: DiskStatus
      readonly data?: Uint8Array
    }
  | { readonly kind: 'consoleInput'; readonly bytes: Uint8Array }
  /** Answers one `entropyRequest`. */
  | { readonly kind: 'entropy'; readonly bytes: Uint8Array }
  | { readonly kind: 'powerButton' }

export type InputKind = Input['kind']

export type DiskStatus =
  | 'ok'
  | 'ioError'
  | 'unsupported'
  /**
   * An *uncertain interrupt* (Bressoud & Schneider, P7): nobody knows whether the disk carried the request out, and the
   * driver shall try again. Only for disks whose bus has a word for it (`DiskConfig.bus`: scsi).
   */
  | 'uncertain'

export type DiskOperation = 'read' | 'write' | 'flush' | 'discard' | 'writeZeroes'

/** Every way out. `sequence` numbers the outputs of a machine from 0, in order: the output's name for gate and receiver. */
export type Output =
  | { readonly kind: 'frame'; readonly sequence: bigint; readonly bytes: Uint8Array }
  | {
      readonly kind: 'disk'
      readonly sequence: bigint
      /** Index into `MachineConfig.disks`. */
      readonly disk: number
      readonly operation: DiskOperation
      /** First sector; 0 for flush. */
      readonly sector: bigint
      /** Bytes to read, write, discard or zero; 0 for flush. */
      readonly lengthBytes: number
      /** The bounce buffer of a write, copied out of guest memory when the request was made. */
      readonly data?: Uint8Array
    }
  | { readonly kind: 'console'; readonly sequence: bigint; readonly bytes: Uint8Array }
  /** The machine wants an `entropy` input of this many bytes. Local: it is answered by whoever writes the log. */
  | { readonly kind: 'entropyRequest'; readonly sequence: bigint; readonly lengthBytes: number }
  /** The guest switched itself off, or asks to be booted again (the writer of the log answers with `boot`). */
  | { readonly kind: 'power'; readonly sequence: bigint; readonly action: 'off' | 'reboot'; readonly failed: boolean }

export type OutputKind = Output['kind']

/** Why `run` came back. */
export type StopReason =
  /** `until` is reached, to the instruction. */
  | { readonly kind: 'count' }
  /** The last instruction produced outputs: take them with `takeOutputs`. */
  | { readonly kind: 'outputs' }
  /** WFI with nothing pending: the count stands still until an input wakes the hart. `deadline`: its next timer, if any. */
  | { readonly kind: 'waiting'; readonly deadline: Ticks | undefined }
  /** Powered off, or not booted yet: nothing but a `boot` input goes on from here. */
  | { readonly kind: 'off' }
  /** A bare program reported its end through HTIF `tohost` or the sifive_test device. */
  | { readonly kind: 'exited'; readonly code: number }

export interface Machine {
  readonly config: MachineConfig
  /** Attempted instructions so far. */
  readonly count: InstructionCount
  /** Guest time now: t(count). Stands still between clock entries while the hart waits. */
  readonly ticks: Ticks
  /** Ties guest time to the calendar since the last boot; moves once more when the guest first reads its RTC. */
  readonly clockAnchor: ClockAnchor | undefined
  /** A driver of the guest has taken the power button: a press reaches it. What the guest makes of it is not known here. */
  readonly hasPowerButtonDriver: boolean
  /** So many frames more enter before the network card has to drop one; without bound while it keeps none. */
  readonly frameRoom: number
  /**
   * Runs to exactly `until` attempted instructions, or to the first reason to stop before that. Outputs stop it right
   * after the instruction that made them. `until` ≤ `count` returns at once.
   */
  run(until: InstructionCount): StopReason
  /** Lets one input in, now, at `count`. May itself produce outputs (a queued disk request that can start). */
  apply(input: Input): void
  /** The outputs made since the last call, in order. Empty most of the time. */
  takeOutputs(): Output[]
  /** Requests the disk has not answered, in the order they were made: what go-live issues again. */
  inFlightDiskRequests(): Extract<Output, { kind: 'disk' }>[]
  /** A digest of registers, CSRs, memory and devices. Incremental: costs what was written since the last call. */
  digest(): bigint
  /** The whole machine as bytes; zero pages are left out. Restoring it yields the same digest. */
  snapshot(): Uint8Array
  /** Replaces the whole state by a snapshot of a machine with the same config. */
  restore(snapshot: Uint8Array): void
  /**
   * Begins to copy the machine while it runs: for a backup that shall follow it from some later position on. An earlier copy
   * ends with it.
   */
  startCopy(): MachineCopy
  /**
   * The other side of a copy: takes pages into a machine that has never run.
   * @throws WorldError when they are of no such machine
   */
  loadPages(pages: Uint8Array): void
  /** After all pages: the rest. @throws WorldError */
  loadState(state: Uint8Array): void
}

/** A copy that is being made of a running machine. It changes nothing that a digest could see. */
export interface MachineCopy {
  /** How many pages are still to be taken, those left out that were written since the present round began. */
  readonly duePages: number
  /** From 1: every page. Each later round has what was written during the one before. */
  readonly round: number
  /** Everything of this round was taken: what was written meanwhile is due now. */
  beginRound(): void
  /** Takes up to `maxPages` due pages for the other side's `loadPages`. Empty bytes: it has these already. */
  takePages(maxPages: number): Uint8Array
  /** After the last pages, with the machine not run in between: everything but RAM, for `loadState`. */
  takeState(): Uint8Array
  /** Nobody wants it any more. */
  end(): void
}
