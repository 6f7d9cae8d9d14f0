/**
 * Addresses of the control and status registers that this hart has (RISC-V privileged specification, chapter "CSRs";
 * bits 11:10 = 3 mean read-only, bits 9:8 are the least privilege).
 */

export const csr = {
  fflags: 0x001,
  frm: 0x002,
  fcsr: 0x003,
  seed: 0x015,
  cycle: 0xc00,
  time: 0xc01,
  instret: 0xc02,
  hpmcounter3: 0xc03,

  sstatus: 0x100,
  sie: 0x104,
  stvec: 0x105,
  scounteren: 0x106,
  senvcfg: 0x10a,
  sscratch: 0x140,
  sepc: 0x141,
  scause: 0x142,
  stval: 0x143,
  sip: 0x144,
  stimecmp: 0x14d,
  satp: 0x180,

  mstatus: 0x300,
  misa: 0x301,
  medeleg: 0x302,
  mideleg: 0x303,
  mie: 0x304,
  mtvec: 0x305,
  mcounteren: 0x306,
  menvcfg: 0x30a,
  mcountinhibit: 0x320,
  mhpmevent3: 0x323,
  mscratch: 0x340,
  mepc: 0x341,
  mcause: 0x342,
  mtval: 0x343,
  mip: 0x344,
  pmpcfg0: 0x3a0,
  pmpaddr0: 0x3b0,
  mseccfg: 0x747,
  tselect: 0x7a0,
  tdata1: 0x7a1,
  tdata2: 0x7a2,
  tdata3: 0x7a3,
  mcycle: 0xb00,
  minstret: 0xb02,
  mhpmcounter3: 0xb03,
  mvendorid: 0xf11,
  marchid: 0xf12,
  mimpid: 0xf13,
  mhartid: 0xf14,
  mconfigptr: 0xf15,
} as const

/** The name of a CSR for listings; its number in hexadecimal when it has none. */
export function csrName(address: number): string {
  return Object.entries(csr).find(([, value]) => value === address)?.[0] ?? `0x${address.toString(16)}`
}
