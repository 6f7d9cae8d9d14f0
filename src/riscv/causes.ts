/** Trap causes (RISC-V privileged specification, table "Machine cause register values after trap"). */

export const exceptionCause = {
  instructionAddressMisaligned: 0,
  instructionAccessFault: 1,
  illegalInstruction: 2,
  breakpoint: 3,
  loadAddressMisaligned: 4,
  loadAccessFault: 5,
  storeAddressMisaligned: 6,
  storeAccessFault: 7,
  ecallFromUser: 8,
  ecallFromSupervisor: 9,
  ecallFromMachine: 11,
  instructionPageFault: 12,
  loadPageFault: 13,
  storePageFault: 15,
} as const

/** Bit numbers in mip, mie and mideleg. */
export const interruptCause = {
  supervisorSoftware: 1,
  machineSoftware: 3,
  supervisorTimer: 5,
  machineTimer: 7,
  supervisorExternal: 9,
  machineExternal: 11,
} as const
