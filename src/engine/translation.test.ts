/** Sv39 as the guest sees it: levels, permissions, A and D bits, and a TLB that nobody can notice. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Prng } from '../base/prng.ts'
import { exceptionCause } from '../riscv/causes.ts'
import { csr } from '../riscv/csrs.ts'
import { menvcfgBit, mstatusBit } from './core/csr-fields.ts'
import { reg } from './test-support/assembler.ts'
import { type BareHart, bareHart, loadProgram, loadWord64, step, storeWord64 } from './test-support/bare-hart.ts'
import { entryOf, kernelPage, PageTables, pte, rootTable } from './test-support/page-tables.ts'
import { ramBase } from './types.ts'

const { a0, a1, a2, t0 } = reg

/** Virtual address of the code that runs translated; the handler is in M mode, at the start of RAM. */
const codeVirtual = 0x4000_0000n
const codeOffset = 0x2000
const dataVirtual = 0x4010_0000n
const dataOffset = 0x8000
const twoNops = 0x0000_0013_0000_0013n

interface Translated extends BareHart {
  readonly tables: PageTables
  /** Runs one load (or store) of 8 bytes at an address; gives the cause of its fault, or 'fine'. */
  access(kind: 'load' | 'store' | 'fetch', address: bigint): number | 'fine'
}

/** A hart in S mode (or U mode), its code mapped, traps going to M mode. */
function translated(privilege: 0 | 1 = 1): Translated {
  const hart = bareHart()
  const { engine } = hart
  loadProgram(engine, codeOffset, (a) => {
    a.emit('ld', { rd: a0, rs1: a1 })
    a.emit('sd', { rs1: a1, rs2: a2 })
    a.emit('jalr', { rs1: a1 })
  })
  // What fetches find, and what stores leave for them.
  storeWord64(engine, dataOffset, twoNops)
  engine.setX(a2, twoNops)
  const tables = new PageTables(engine)
  tables.map(codeVirtual, codeOffset, privilege === 1 ? kernelPage : kernelPage | pte.u)
  tables.enable()
  engine.setCsr(csr.mtvec, BigInt(ramBase))
  const positions = { load: 0n, store: 4n, fetch: 8n }
  return {
    ...hart,
    tables,
    access(kind, address) {
      engine.privilege = privilege
      engine.setX(a1, address)
      engine.pc = codeVirtual + positions[kind]
      step(engine, kind === 'fetch' ? 2 : 1)
      if (engine.privilege !== 3) return 'fine'
      assert.equal(engine.getCsr(csr.mtval), address, 'mtval names the address')
      return Number(engine.getCsr(csr.mcause))
    },
  }
}

const everyAccess = ['load', 'store', 'fetch'] as const
const pageFault = {
  load: exceptionCause.loadPageFault,
  store: exceptionCause.storePageFault,
  fetch: exceptionCause.instructionPageFault,
}

for (const level of [0, 1, 2]) {
  test(`a leaf at level ${level} maps ${['4 KiB', '2 MiB', '1 GiB'][level]}`, () => {
    const hart = translated()
    const { engine, tables } = hart
    const virtual = 0xffff_ffc0_0000_0000n + 0x1_4000_0000n
    // Superpages must be aligned: they map from the start of RAM.
    tables.map(virtual, level === 0 ? dataOffset : 0, kernelPage, level)
    storeWord64(engine, dataOffset + 0x18, 0x1234_5678_9abc_def0n)
    const address = virtual + 0x18n + (level === 0 ? 0n : BigInt(dataOffset))
    assert.equal(hart.access('load', address), 'fine')
    assert.equal(engine.getX(a0), 0x1234_5678_9abc_def0n)
    engine.setX(a2, 77n)
    assert.equal(hart.access('store', address), 'fine')
    assert.equal(loadWord64(engine, dataOffset + 0x18), 77n)
  })
}

test('a misaligned superpage is a page fault for every kind of access', () => {
  const hart = translated()
  const virtual = 0x4060_0000n
  hart.tables.map(virtual, dataOffset, kernelPage, 1)
  for (const kind of everyAccess) assert.equal(hart.access(kind, virtual), pageFault[kind])
})

test('addresses whose upper bits are not copies of bit 38 are page faults', () => {
  const hart = translated()
  for (const kind of everyAccess) {
    assert.equal(hart.access(kind, 0x40_0000_0000n), pageFault[kind])
    assert.equal(hart.access(kind, (1n << 63n) | codeVirtual), pageFault[kind])
  }
})

test('reserved entries are page faults: W without R, bits 63:54, A, D or U in a pointer, a pointer at the last level', () => {
  const hart = translated()
  const leaf = hart.tables.map(dataVirtual, dataOffset, kernelPage)
  const reserved = [
    entryOf(dataOffset, pte.v | pte.w | pte.a | pte.d),
    entryOf(dataOffset, kernelPage) | (1n << 63n),
    entryOf(dataOffset, kernelPage) | (1n << 61n),
    entryOf(dataOffset, kernelPage) | (1n << 54n),
    entryOf(dataOffset, pte.v),
    entryOf(dataOffset, kernelPage & ~pte.v),
  ]
  for (const entry of reserved) {
    storeWord64(hart.engine, leaf, entry)
    for (const kind of everyAccess) assert.equal(hart.access(kind, dataVirtual), pageFault[kind])
  }
  storeWord64(hart.engine, leaf, entryOf(dataOffset, kernelPage))
  assert.equal(hart.access('load', dataVirtual), 'fine')
  for (const flag of [pte.a, pte.d, pte.u]) {
    const other = translated()
    other.tables.map(0x8000_0000n, dataOffset, kernelPage)
    const entry = rootTable + 8 * 2
    storeWord64(other.engine, entry, loadWord64(other.engine, entry) | flag)
    assert.equal(other.access('load', 0x8000_0000n), pageFault.load)
  }
})

test('a page table outside RAM is an access fault of the original kind', () => {
  const hart = translated()
  storeWord64(hart.engine, rootTable + 8 * 3, ((0x1000_0000n >> 12n) << 10n) | pte.v)
  const accessFault = {
    load: exceptionCause.loadAccessFault,
    store: exceptionCause.storeAccessFault,
    fetch: exceptionCause.instructionAccessFault,
  }
  for (const kind of everyAccess) assert.equal(hart.access(kind, 0xc000_0000n), accessFault[kind])
})

test('R, W and X are checked', () => {
  const hart = translated()
  const leaf = hart.tables.map(dataVirtual, dataOffset, kernelPage)
  const allowed = (flags: bigint): string => {
    storeWord64(hart.engine, leaf, entryOf(dataOffset, flags | pte.v | pte.a | pte.d))
    return everyAccess.filter((kind) => hart.access(kind, dataVirtual) === 'fine').join()
  }
  assert.equal(allowed(pte.r), 'load')
  assert.equal(allowed(pte.r | pte.w), 'load,store')
  assert.equal(allowed(pte.x), 'fetch')
  assert.equal(allowed(pte.r | pte.x), 'load,fetch')
  assert.equal(allowed(pte.r | pte.w | pte.x), 'load,store,fetch')
})

test('MXR makes executable pages readable, and takes it back at once when cleared', () => {
  const hart = translated()
  const { engine } = hart
  hart.tables.map(dataVirtual, dataOffset, pte.v | pte.x | pte.a)
  assert.equal(hart.access('load', dataVirtual), pageFault.load)
  engine.setCsr(csr.mstatus, mstatusBit.mxr)
  assert.equal(hart.access('load', dataVirtual), 'fine')
  engine.setCsr(csr.mstatus, 0n)
  assert.equal(hart.access('load', dataVirtual), pageFault.load)
})

test('S mode reads and writes user pages only with SUM, and never executes them', () => {
  const hart = translated()
  const { engine } = hart
  hart.tables.map(dataVirtual, dataOffset, kernelPage | pte.u)
  for (const kind of everyAccess) assert.equal(hart.access(kind, dataVirtual), pageFault[kind])
  engine.setCsr(csr.mstatus, mstatusBit.sum)
  assert.equal(hart.access('load', dataVirtual), 'fine')
  assert.equal(hart.access('store', dataVirtual), 'fine')
  assert.equal(hart.access('fetch', dataVirtual), pageFault.fetch)
  engine.setCsr(csr.mstatus, 0n)
  assert.equal(hart.access('load', dataVirtual), pageFault.load)
})

test('U mode reaches only user pages', () => {
  const hart = translated(0)
  hart.tables.map(dataVirtual, dataOffset, kernelPage)
  for (const kind of everyAccess) assert.equal(hart.access(kind, dataVirtual), pageFault[kind])
  hart.tables.map(dataVirtual, dataOffset, kernelPage | pte.u)
  for (const kind of everyAccess) assert.equal(hart.access(kind, dataVirtual), 'fine')
})

test('MPRV lends M mode the translation and the rights of MPP for data, not for fetches', () => {
  const { engine, tables } = translated()
  tables.map(dataVirtual, dataOffset, kernelPage)
  storeWord64(engine, dataOffset, 99n)
  loadProgram(engine, 0x3000, (a) => a.emit('ld', { rd: a0, rs1: a1 }))
  const loadAs = (mpp: bigint): bigint | string => {
    engine.privilege = 3
    engine.setCsr(csr.mstatus, mstatusBit.mprv | (mpp << 11n))
    engine.pc = BigInt(ramBase + 0x3000)
    engine.setX(a0, 0n)
    engine.setX(a1, dataVirtual)
    step(engine, 1)
    return engine.pc === BigInt(ramBase + 0x3004) ? engine.getX(a0) : `cause ${engine.getCsr(csr.mcause)}`
  }
  assert.equal(loadAs(1n), 99n)
  assert.equal(loadAs(0n), `cause ${exceptionCause.loadPageFault}`)
  assert.equal(loadAs(3n), `cause ${exceptionCause.loadAccessFault}`, 'nothing is at that physical address')
})

test('without ADUE, a clear A bit faults for every access and a clear D bit for stores; nothing is written', () => {
  const hart = translated()
  const leaf = hart.tables.map(dataVirtual, dataOffset, kernelPage & ~pte.a & ~pte.d)
  for (const kind of everyAccess) assert.equal(hart.access(kind, dataVirtual), pageFault[kind])
  storeWord64(hart.engine, leaf, entryOf(dataOffset, kernelPage & ~pte.d))
  assert.equal(hart.access('load', dataVirtual), 'fine')
  assert.equal(hart.access('store', dataVirtual), pageFault.store)
  assert.equal(loadWord64(hart.engine, leaf), entryOf(dataOffset, kernelPage & ~pte.d))
})

test('with ADUE, loads and fetches set A, and stores set A and D', () => {
  for (const kind of everyAccess) {
    const hart = translated()
    hart.engine.setCsr(csr.menvcfg, menvcfgBit.adue)
    const clean = entryOf(dataOffset, kernelPage & ~pte.a & ~pte.d)
    const leaf = hart.tables.map(dataVirtual, dataOffset, kernelPage & ~pte.a & ~pte.d)
    hart.engine.takeWrittenPages()
    assert.equal(hart.access(kind, dataVirtual), 'fine')
    assert.equal(loadWord64(hart.engine, leaf), clean | pte.a | (kind === 'store' ? pte.d : 0n))
    assert.ok(hart.engine.takeWrittenPages().includes(leaf >> 12), 'the table is among the written pages')
  }
})

test('a jump leaves the A bit of its target alone until an instruction there is attempted', () => {
  const { engine, tables } = translated()
  engine.setCsr(csr.menvcfg, menvcfgBit.adue)
  const leaf = tables.map(dataVirtual, dataOffset, kernelPage & ~pte.a)
  engine.privilege = 1
  engine.setX(a1, dataVirtual)
  engine.pc = codeVirtual + 8n
  step(engine, 1)
  assert.equal(engine.pc, dataVirtual)
  assert.equal(loadWord64(engine, leaf) & pte.a, 0n)
  step(engine, 1)
  assert.equal(loadWord64(engine, leaf) & pte.a, pte.a)
})

test('a load makes a page accessed only, and the first store after it still sets D', () => {
  const hart = translated()
  hart.engine.setCsr(csr.menvcfg, menvcfgBit.adue)
  const leaf = hart.tables.map(dataVirtual, dataOffset, kernelPage & ~pte.a & ~pte.d)
  hart.access('load', dataVirtual)
  assert.equal(loadWord64(hart.engine, leaf) & (pte.a | pte.d), pte.a)
  hart.access('store', dataVirtual)
  assert.equal(loadWord64(hart.engine, leaf) & (pte.a | pte.d), pte.a | pte.d)
})

/** S-mode code that touches data, changes the leaf entry through its own mapping of the table, and touches again. */
function throughTable(change: (entry: bigint) => bigint): Translated & { readonly leaf: number } {
  const hart = translated()
  const { engine, tables } = hart
  const leaf = tables.map(dataVirtual, dataOffset, kernelPage)
  const tableVirtual = 0x4030_0000n
  tables.map(tableVirtual, leaf & ~0xfff, kernelPage)
  const leafVirtual = tableVirtual + BigInt(leaf & 0xfff)
  loadProgram(engine, codeOffset + 0x100, (a) => {
    a.emit('ld', { rd: a0, rs1: a1 })
    a.emit('sd', { rs1: a1, rs2: a0, imm: 8 })
    a.emit('sd', { rs1: t0, rs2: a2 })
    a.emit('ld', { rd: a0, rs1: a1 })
  })
  engine.privilege = 1
  engine.pc = codeVirtual + 0x100n
  engine.setX(a1, dataVirtual)
  engine.setX(a2, change(entryOf(dataOffset, kernelPage)))
  engine.setX(t0, leafVirtual)
  return { ...hart, leaf }
}

test('an entry that is stored to counts from the next instruction on, without any fence', () => {
  const { engine } = throughTable((entry) => entry & ~pte.v)
  step(engine, 3)
  assert.equal(engine.privilege, 1)
  step(engine, 1)
  assert.equal(engine.getCsr(csr.mcause), BigInt(exceptionCause.loadPageFault))
  assert.equal(engine.getCsr(csr.mepc), codeVirtual + 0x10cn)
})

test('an A bit cleared by the guest is set again by the very next access', () => {
  const { engine, leaf } = throughTable((entry) => entry & ~pte.a)
  engine.setCsr(csr.menvcfg, menvcfgBit.adue)
  step(engine, 3)
  assert.equal(loadWord64(engine, leaf) & pte.a, 0n)
  step(engine, 1)
  assert.equal(loadWord64(engine, leaf) & pte.a, pte.a)
})

test('a page moved by a store to its entry is read from its new place', () => {
  const { engine } = throughTable(() => entryOf(0x9000, kernelPage))
  storeWord64(engine, dataOffset, 1n)
  storeWord64(engine, 0x9000, 2n)
  step(engine, 2)
  assert.equal(engine.getX(a0), 1n)
  step(engine, 2)
  assert.equal(engine.getX(a0), 2n)
})

test('a write by a device to a page table counts at once too', () => {
  const hart = translated()
  const leaf = hart.tables.map(dataVirtual, dataOffset, kernelPage)
  assert.equal(hart.access('load', dataVirtual), 'fine')
  assert.equal(hart.access('store', dataVirtual), 'fine')
  storeWord64(hart.engine, leaf, 0n)
  assert.equal(hart.access('load', dataVirtual), pageFault.load)
  assert.equal(hart.access('store', dataVirtual), pageFault.store)
})

test('a page that was written before it became a page table is tracked under its older alias', () => {
  const hart = translated()
  const { engine, tables } = hart
  // The last-level table of dataVirtual is first an ordinary page, written through a mapping of its own.
  const table = 0x20_0000
  const aliasVirtual = 0x4030_0000n
  tables.map(aliasVirtual, table, kernelPage)
  assert.equal(hart.access('store', aliasVirtual + 40n), 'fine')
  const otherVirtual = 0xc000_5000n
  storeWord64(engine, rootTable + 8 * 3, entryOf(0x20_1000, pte.v))
  storeWord64(engine, 0x20_1000, entryOf(table, pte.v))
  storeWord64(engine, table + 8 * 5, entryOf(dataOffset, kernelPage))
  assert.equal(hart.access('load', otherVirtual), 'fine')
  engine.setX(a2, 0n)
  assert.equal(hart.access('store', aliasVirtual + 40n), 'fine')
  assert.equal(hart.access('load', otherVirtual), pageFault.load)
})

test('a store that moves its own page writes to the old place, and the next one to the new place', () => {
  const hart = translated()
  const { engine, tables } = hart
  const tableVirtual = 0x4030_0000n
  const leaf = tables.map(tableVirtual, dataOffset, kernelPage)
  const table = leaf & ~0xfff
  storeWord64(engine, leaf, entryOf(table, kernelPage))
  const leafVirtual = tableVirtual + BigInt(leaf & 0xfff)
  engine.setX(a2, entryOf(0x9000, kernelPage))
  assert.equal(hart.access('store', leafVirtual), 'fine')
  assert.equal(loadWord64(engine, leaf), entryOf(0x9000, kernelPage))
  assert.equal(hart.access('store', leafVirtual + 8n), 'fine')
  assert.equal(loadWord64(engine, 0x9000 + (leaf & 0xfff) + 8), entryOf(0x9000, kernelPage))
})

test('pages that share a place in the TLB are not mixed up, whatever order loads and stores come in', () => {
  const hart = translated()
  const { engine, tables } = hart
  const pages = [0, 1, 2].map((index) => ({
    virtual: 0x5000_0000n + BigInt(index) * 0x10_0000n,
    offset: 0x2_0000 + index * 4096,
  }))
  for (const { virtual, offset } of pages) tables.map(virtual, offset, kernelPage)
  const expected = pages.map((_, index) => BigInt(index))
  for (const [index, { offset }] of pages.entries()) storeWord64(engine, offset, BigInt(index))
  const prng = new Prng(5n)
  for (let round = 0; round < 300; round++) {
    const index = prng.below(pages.length)
    const page = pages[index]!
    if (prng.chance(0.5)) {
      expected[index] = prng.u64()
      engine.setX(a2, expected[index]!)
      assert.equal(hart.access('store', page.virtual), 'fine')
      assert.equal(loadWord64(engine, page.offset), expected[index])
    } else {
      assert.equal(hart.access('load', page.virtual), 'fine')
      assert.equal(engine.getX(a0), expected[index])
    }
  }
})

test('the mapping of the executing page may change under it: the next instruction comes from the new page', () => {
  const { engine, tables } = translated()
  const tableVirtual = 0x4030_0000n
  const leaf = tables.map(codeVirtual, codeOffset, kernelPage)
  tables.map(tableVirtual, leaf & ~0xfff, kernelPage)
  loadProgram(engine, codeOffset, (a) => {
    a.emit('sd', { rs1: t0, rs2: a2 })
    a.emit('addi', { rd: a0, imm: 1 })
  })
  loadProgram(engine, 0x6000, (a) => {
    a.emit('addi', {})
    a.emit('addi', { rd: a0, imm: 2 })
  })
  engine.privilege = 1
  engine.pc = codeVirtual
  engine.setX(t0, tableVirtual + BigInt(leaf & 0xfff))
  engine.setX(a2, entryOf(0x6000, kernelPage))
  step(engine, 2)
  assert.equal(engine.getX(a0), 2n)
})

test('in M mode and with satp bare, addresses beyond 56 bits are access faults', () => {
  const { engine } = bareHart()
  loadProgram(engine, 0, (a) => a.emit('ld', { rd: a0, rs1: a1 }))
  engine.setCsr(csr.mtvec, BigInt(ramBase + 0x1000))
  engine.setX(a1, (1n << 60n) + BigInt(ramBase))
  step(engine, 1)
  assert.equal(engine.getCsr(csr.mcause), BigInt(exceptionCause.loadAccessFault))
})

test('satp keeps only bare and Sv39, and has no ASIDs', () => {
  const { engine } = bareHart()
  engine.setCsr(csr.satp, (8n << 60n) | (0xffffn << 44n) | 5n)
  assert.equal(engine.getCsr(csr.satp), (8n << 60n) | 5n)
  engine.setCsr(csr.satp, (9n << 60n) | 6n)
  assert.equal(engine.getCsr(csr.satp), (8n << 60n) | 5n, 'Sv48 is not there: the write has no effect')
  engine.setCsr(csr.satp, 0n)
  assert.equal(engine.getCsr(csr.satp), 0n)
})
