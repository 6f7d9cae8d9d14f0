/**
 * The line between the engine, which runs the instruction table over registers and RAM, and the machine around it, which
 * owns the devices. The engine knows no device and no position in a log.
 */

/** Where RAM starts in the guest's physical address space. */
export const ramBase = 0x8000_0000

/** Physical addresses stay below 2^53 (RAM ends below 8 GiB), so plain numbers hold them exactly. */
export type GuestPhysical = number

export type AccessSize = 1 | 2 | 4 | 8

/**
 * Memory-mapped devices, called for every hart access outside RAM. Values are unsigned, `size` bytes wide.
 * `undefined` / `false` means that nothing is there: the hart takes an access fault.
 */
export interface Bus {
  load(address: GuestPhysical, size: AccessSize): bigint | undefined
  store(address: GuestPhysical, size: AccessSize, value: bigint): boolean
}

/** Why the engine came back from `run`. */
export type EngineExit =
  /** The instruction count asked for is reached. */
  | 'count'
  /** WFI, and no enabled interrupt is pending. The WFI is counted; the hart resumes behind it. */
  | 'waiting'
  /**
   * ECALL in S mode, not delegated, while `supervisorCallsExit`: an SBI call. It is counted; the pc already stands
   * behind it.
   */
  | 'supervisorCall'
  /** A device called `requestStop` during the instruction that just finished. */
  | 'stopRequested'

/** Guest time as a function of the instruction count (invariant 10): t(n) = t0 + min((n − n0) · rate / 2^32, cap). */
export interface GuestClock {
  readonly n0: bigint
  readonly t0: bigint
  readonly ratePer2p32: bigint
  readonly cap: bigint
}

/** Interrupt lines that devices drive, as bits of mip. */
export const interruptBits = { msip: 1n << 3n, meip: 1n << 11n, seip: 1n << 9n } as const

export interface Engine {
  readonly ramBytes: number
  /**
   * Attempted instructions since the engine was created. Survives `reset`. Inside a bus access: attempted before the
   * instruction that makes it.
   */
  count: bigint

  /**
   * Runs to exactly `until`, or to another exit. Timer interrupts (Sstc `stimecmp`, `mtimecmp`) are taken inside, at the
   * exact count at which t(n) reaches them.
   */
  run(until: bigint): EngineExit

  /** Called by a device from inside `Bus.load` / `Bus.store`: leave right after this instruction. */
  requestStop(): void
  /** Sets or clears one of `interruptBits`. From inside a bus access it takes effect right after that instruction. */
  setInterrupt(bit: bigint, level: boolean): void

  getClock(): GuestClock
  setClock(clock: GuestClock): void
  /** t(count). Exact also from inside a bus access. */
  readonly ticks: bigint
  /** Time of the next armed timer that could wake the hart, if any. */
  readonly nextDeadline: bigint | undefined
  /** CLINT's mtimecmp. 2^64 − 1 never fires. */
  machineTimerCompare: bigint

  /** Zkr: words for the `seed` CSR, two bytes each read. Empty: the CSR answers WAIT. */
  readonly seedPool: { readonly availableBytes: number; add(bytes: Uint8Array): void }

  /** True: an ECALL of S mode that is not delegated leaves with `supervisorCall`. False: it traps to M mode. */
  supervisorCallsExit: boolean

  /**
   * Leaves with `stopRequested` right after any store into the 8-byte word at this RAM address (HTIF `tohost`).
   */
  watchStore(address: GuestPhysical): void

  /** All of RAM; for reading only. Writes go through `storeBytes`. */
  readonly ram: Uint8Array
  /**
   * A device's write into RAM, on the hart's store path: dirty tracking, decoded code and page tables see it.
   * The caller has checked the range.
   */
  storeBytes(address: GuestPhysical, bytes: Uint8Array): void

  getX(register: number): bigint
  setX(register: number, value: bigint): void
  pc: bigint
  /** Architectural CSR by address, without side effects: for start-up, tests and debuggers. */
  getCsr(address: number): bigint
  setCsr(address: number, value: bigint): void
  /** 0 = U, 1 = S, 3 = M. */
  privilege: number

  /** Registers and CSRs to their reset values, RAM to zero. The count goes on. */
  reset(): void

  /** Page numbers (within RAM) written since the last call, ascending. */
  takeWrittenPages(): number[]
  /** Everything but RAM, canonical: equal states give equal bytes, whatever tiers, slices or TLB contents led there. */
  saveState(writer: import('../base/bytes.ts').ByteWriter): void
  loadState(reader: import('../base/bytes.ts').ByteReader): void
  /** Replaces RAM content of one page when a snapshot is restored. */
  restorePage(page: number, content: Uint8Array): void
}
