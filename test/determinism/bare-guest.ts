/**
 * A guest of a few hundred instructions that makes everything it can see part of its state: one running hash takes in
 * guest time, the calendar, NaNs, random bytes, what devices answer, and the address at which each interrupt was taken.
 * An input that arrives one instruction early or late therefore changes the hash for ever.
 *
 *     main loop    time, floats, changed code, LR/SC, `seed`, received frames ──► hash ──► memory, console, sent frames
 *     interrupts   disk (two requests under way, reading and writing in turns), network card, timer (ends each WFI)
 *
 * It runs in M mode, polls its own rings (a guest may, a device may not), and never ends. The drivers are the shortest
 * that virtio 1.2 allows: no event indexes, no negotiation of features but VERSION_1.
 */

import { Assembler, encode } from '../../src/engine/test-support/assembler.ts'
import { ramBase } from '../../src/engine/types.ts'
import { firstVirtioLine, memoryMap, virtioSlotBase } from '../../src/machine/memory-map.ts'
import { elfFile } from '../../src/machine/test-support/boot-images.ts'
import type { BootImage, MachineConfig } from '../../src/machine/types.ts'

export const bareGuestSectors = 64n

export const bareGuestConfig: MachineConfig = {
  ramBytes: 64 * 1024 * 1024,
  disks: [{ sectors: bareGuestSectors, readOnly: false, serial: 'bare' }],
  nic: { mac: Uint8Array.of(0x52, 0x54, 0, 0, 0, 1) },
}

const [diskBase, netBase] = [virtioSlotBase(0), virtioSlotBase(1)]
const [diskLine, netLine] = [firstVirtioLine, firstVirtioLine + 1]
const csr = {
  mstatus: 0x300,
  mie: 0x304,
  mtvec: 0x305,
  mepc: 0x341,
  mcause: 0x342,
  seed: 0x015,
  fflags: 0x001,
} as const
const descriptorFlag = { next: 1, write: 2 } as const

/** Registers by their use; the interrupt handler has its own, so it saves nothing. */
const r = { hash: 8, loops: 9, multiplier: 18, disk: 19, net: 20, rtc: 21, clint: 22, plic: 23, history: 24 } as const
const rings = { diskSeen: 25, diskOffered: 10, receiveSeen: 26, receiveOffered: 11, sent: 27 } as const
const [ra, t0, t1, t2] = [1, 5, 6, 7] as const
const [h0, h1, h2, h3, h4] = [28, 29, 30, 31, 12] as const

const queueSize = 8
const receiveBuffers = 4
const headerBytes = 12
const frameBytes = 64

/** Offsets from the start of RAM. A queue is a page: descriptors, available ring at 0x100, used ring at 0x200. */
const at = {
  diskQueue: 0x1_0000,
  receiveQueue: 0x1_1000,
  sendQueue: 0x1_2000,
  diskRequests: 0x1_3000,
  receiveBuffer: 0x1_4000,
  sendBuffer: 0x1_8000,
  reserved: 0x1_8800,
  history: 0x1_9000,
  /** Never stored to: the loader wants to know where it is. */
  tohost: 0x1_a000,
  end: 0x1_a008,
} as const
const [availableRing, usedRing] = [0x100, 0x200]

/** A disk request's chain is three descriptors; its header, status and data lie one KiB apart from the next one's. */
const requestHeads = [0, 3] as const
const requestShift = 10
const [statusOffset, dataOffset] = [0x20, 0x200]

const address = (offset: number) => BigInt(ramBase + offset)

/** Everything the drivers need in memory that never changes, and the descriptors of the first disk requests. */
function initialMemory(): Uint8Array {
  const memory = new Uint8Array(at.end)
  const view = new DataView(memory.buffer)
  const descriptor = (queue: number, slot: number, target: number, length: number, flags: number) => {
    const entry = queue + 16 * slot
    view.setBigUint64(entry, address(target), true)
    view.setUint32(entry + 8, length, true)
    view.setUint16(entry + 12, flags, true)
    view.setUint16(entry + 14, flags & descriptorFlag.next ? slot + 1 : 0, true)
  }
  const offer = (queue: number, heads: readonly number[]) => {
    heads.forEach((head, index) => {
      view.setUint16(queue + availableRing + 4 + 2 * index, head, true)
    })
    view.setUint16(queue + availableRing + 2, heads.length, true)
  }
  for (const head of requestHeads) {
    const request = at.diskRequests + (head << requestShift)
    descriptor(at.diskQueue, head, request, 16, descriptorFlag.next)
    descriptor(at.diskQueue, head + 1, request + dataOffset, 512, descriptorFlag.next | descriptorFlag.write)
    descriptor(at.diskQueue, head + 2, request + statusOffset, 1, descriptorFlag.write)
    view.setUint32(request + 8, head, true)
  }
  offer(at.diskQueue, requestHeads)
  const buffers = Array.from({ length: receiveBuffers }, (_, index) => index)
  for (const slot of buffers) {
    descriptor(at.receiveQueue, slot, at.receiveBuffer + slot * 0x800, 0x800, descriptorFlag.write)
  }
  offer(at.receiveQueue, buffers)
  descriptor(at.sendQueue, 0, at.sendBuffer, headerBytes + frameBytes, 0)
  // Broadcast from our MAC, with a type for experiments (IEEE 802, 9.2.3).
  memory.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0, 0, 1, 0x88, 0xb5], at.sendBuffer + headerBytes)
  return memory
}

class Program extends Assembler {
  /** hash = mix(hash, register); `scratch` is lost. */
  fold(register: number, scratch: number): this {
    return this.emit('xor', { rd: r.hash, rs1: r.hash, rs2: register })
      .emit('mul', { rd: r.hash, rs1: r.hash, rs2: r.multiplier })
      .emit('srli', { rd: scratch, rs1: r.hash, imm: 29 })
      .emit('xor', { rd: r.hash, rs1: r.hash, rs2: scratch })
  }

  storeRegister(device: number, offset: number, value: number): this {
    return this.li(t0, BigInt(value)).emit('sw', { rs1: device, rs2: t0, imm: offset })
  }

  startDevice(device: number, queues: readonly number[]): this {
    for (const status of [0, 1, 3]) this.storeRegister(device, 0x70, status)
    this.storeRegister(device, 0x24, 1).storeRegister(device, 0x20, 1).storeRegister(device, 0x70, 11)
    queues.forEach((queue, index) => {
      this.storeRegister(device, 0x30, index).storeRegister(device, 0x38, queueSize)
      this.storeRegister(device, 0x80, ramBase + queue)
      this.storeRegister(device, 0x90, ramBase + queue + availableRing)
      this.storeRegister(device, 0xa0, ramBase + queue + usedRing)
      this.storeRegister(device, 0x44, 1)
    })
    return this.storeRegister(device, 0x70, 15)
  }

  /** Puts `head` into an available ring that has had `index` entries, and counts `index` up. `scratch` is lost. */
  offer(queue: number, index: number, head: number, scratch: readonly [number, number]): this {
    const [slot, ring] = scratch
    return this.emit('andi', { rd: slot, rs1: index, imm: queueSize - 1 })
      .emit('slli', { rd: slot, rs1: slot, imm: 1 })
      .li(ring, address(queue + availableRing))
      .emit('add', { rd: slot, rs1: slot, rs2: ring })
      .emit('sh', { rs1: slot, rs2: head, imm: 4 })
      .emit('addi', { rd: index, rs1: index, imm: 1 })
      .emit('sh', { rs1: ring, rs2: index, imm: 2 })
  }

  /** Loads the head of used element number `seen` into `head`. `scratch` is lost. */
  usedHead(queue: number, seen: number, head: number, scratch: number): this {
    return this.emit('andi', { rd: head, rs1: seen, imm: queueSize - 1 })
      .emit('slli', { rd: head, rs1: head, imm: 3 })
      .li(scratch, address(queue + usedRing))
      .emit('add', { rd: head, rs1: head, rs2: scratch })
      .emit('lwu', { rd: head, rs1: head, imm: 4 })
  }
}

/** The instruction that the main loop rewrites each time, and a return behind it. */
const changedCode = 4
const mtimeOffset = 0xbff8 - 0x4000

function writeProgram(p: Program): void {
  p.to('start', 'jal')
  p.emit('addi', { rd: t0, rs1: t0 }).emit('jalr', { rs1: ra })
  // The jump over the handler leaves the handler's address in t1.
  p.label('start').to('setUp', 'jal', { rd: t1 })
  writeHandler(p)
  p.label('setUp').emit('csrrw', { csr: csr.mtvec, rs1: t1 })
  p.li(r.multiplier, 0x9e37_79b9_7f4a_7c15n).li(r.hash, 1n).li(r.loops, 0n)
  p.li(r.disk, BigInt(diskBase)).li(r.net, BigInt(netBase))
  p.li(r.rtc, BigInt(memoryMap.rtc.base)).li(r.clint, BigInt(memoryMap.clint.base + 0x4000))
  p.li(r.plic, BigInt(memoryMap.plic.base)).li(r.history, address(at.history))
  p.li(rings.diskSeen, 0n).li(rings.diskOffered, BigInt(requestHeads.length))
  p.li(rings.receiveSeen, 0n).li(rings.receiveOffered, BigInt(receiveBuffers)).li(rings.sent, 0n)
  p.startDevice(r.disk, [at.diskQueue]).startDevice(r.net, [at.receiveQueue, at.sendQueue])
  // Interrupts: both lines through context 0, and the timer.
  p.storeRegister(r.plic, 4 * diskLine, 1).storeRegister(r.plic, 4 * netLine, 1)
  p.li(t1, BigInt(memoryMap.plic.base + 0x2000)).storeRegister(t1, 0, (1 << diskLine) | (1 << netLine))
  p.li(t0, (1n << 11n) | (1n << 7n)).emit('csrrs', { csr: csr.mie, rs1: t0 })
  p.li(t0, 0x2008n).emit('csrrs', { csr: csr.mstatus, rs1: t0 })
  p.storeRegister(r.disk, 0x50, 0)
  writeMainLoop(p)
}

function writeMainLoop(p: Program): void {
  p.label('loop').emit('addi', { rd: r.loops, rs1: r.loops, imm: 1 })
  // Calendar and guest time.
  p.emit('lwu', { rd: t0, rs1: r.rtc }).fold(t0, t1)
  p.li(t1, BigInt(mtimeOffset)).emit('add', { rd: t1, rs1: t1, rs2: r.clint })
  p.emit('ld', { rd: t0, rs1: t1 }).fold(t0, t1)
  writeFloats(p)
  // Changed code: adds another number each time.
  p.emit('andi', { rd: t0, rs1: r.hash, imm: 0x3ff }).emit('slli', { rd: t0, rs1: t0, imm: 20 })
  p.li(t1, BigInt(encode('addi', { rd: t0, rs1: t0 }))).emit('or', { rd: t0, rs1: t0, rs2: t1 })
  p.li(t1, address(changedCode)).emit('sw', { rs1: t1, rs2: t0 }).emit('fence.i')
  p.emit('jalr', { rd: ra, rs1: t1 }).fold(t0, t1)
  // A reservation that an interrupt in between breaks.
  p.li(t1, address(at.reserved)).emit('lr.d', { rd: t0, rs1: t1 }).emit('add', { rd: t0, rs1: t0, rs2: r.hash })
  p.emit('sc.d', { rd: t2, rs1: t1, rs2: t0 }).fold(t2, t1)
  writeNetwork(p)
  p.emit('andi', { rd: t0, rs1: r.loops, imm: 255 }).to('noSeed', 'bne', { rs1: t0 })
  p.emit('csrrw', { rd: t0, csr: csr.seed }).fold(t0, t1).label('noSeed')
  writeConsole(p)
  // A sleep of 30 µs, or until the disk answers.
  p.emit('andi', { rd: t0, rs1: r.loops, imm: 127 }).to('noSleep', 'bne', { rs1: t0 })
  p.li(t1, BigInt(mtimeOffset)).emit('add', { rd: t1, rs1: t1, rs2: r.clint }).emit('ld', { rd: t0, rs1: t1 })
  p.emit('addi', { rd: t0, rs1: t0, imm: 300 }).emit('sd', { rs1: r.clint, rs2: t0 }).emit('wfi').label('noSleep')
  // The history of the hash, in a page that wraps around.
  p.emit('andi', { rd: t0, rs1: r.loops, imm: 511 }).emit('slli', { rd: t0, rs1: t0, imm: 3 })
  p.emit('add', { rd: t0, rs1: t0, rs2: r.history }).emit('sd', { rs1: t0, rs2: r.hash })
  p.to('loop', 'jal')
}

/** 0/0, a signaling NaN with a payload, a root that is inexact, and the flags of all of them. */
function writeFloats(p: Program): void {
  p.emit('fmv.d.x', { rd: 0 })
    .emit('fdiv.d', { rd: 1, rs1: 0, rs2: 0 })
    .emit('fmv.x.d', { rd: t0, rs1: 1 })
    .fold(t0, t1)
  p.li(t0, 0x7ff0_0000_0000_0123n).emit('fmv.d.x', { rd: 2, rs1: t0 }).emit('fadd.d', { rd: 3, rs1: 2, rs2: 1 })
  p.emit('fmv.x.d', { rd: t0, rs1: 3 }).fold(t0, t1)
  p.emit('fcvt.d.lu', { rd: 4, rs1: r.hash }).emit('fsqrt.d', { rd: 4, rs1: 4 }).emit('fmv.x.d', { rd: t0, rs1: 4 })
  p.fold(t0, t1).emit('csrrw', { rd: t0, csr: csr.fflags }).fold(t0, t1)
}

/** Takes one received frame, gives its buffer back, and answers with a frame that holds the hash. */
function writeNetwork(p: Program): void {
  p.li(t1, address(at.receiveQueue + usedRing)).emit('lhu', { rd: t0, rs1: t1, imm: 2 })
  p.emit('sub', { rd: t0, rs1: t0, rs2: rings.receiveSeen }).emit('andi', { rd: t0, rs1: t0, imm: 0x7ff })
  p.to('noFrame', 'beq', { rs1: t0 })
  p.usedHead(at.receiveQueue, rings.receiveSeen, t0, t1).fold(t0, t1)
  p.emit('addi', { rd: rings.receiveSeen, rs1: rings.receiveSeen, imm: 1 })
  p.emit('slli', { rd: t1, rs1: t0, imm: 11 })
    .li(t2, address(at.receiveBuffer))
    .emit('add', { rd: t1, rs1: t1, rs2: t2 })
  p.emit('ld', { rd: t2, rs1: t1, imm: headerBytes + 20 }).fold(t2, t1)
  p.offer(at.receiveQueue, rings.receiveOffered, t0, [t1, t2]).storeRegister(r.net, 0x50, 0)
  p.li(t1, address(at.sendBuffer)).emit('sd', { rs1: t1, rs2: r.hash, imm: headerBytes + 20 })
  p.li(t0, 0n).offer(at.sendQueue, rings.sent, t0, [t1, t2]).storeRegister(r.net, 0x50, 1)
  p.label('noFrame')
}

/** A line of eight letters every 512 loops. */
function writeConsole(p: Program): void {
  p.emit('andi', { rd: t0, rs1: r.loops, imm: 63 }).to('noLetter', 'bne', { rs1: t0 })
  p.li(t1, BigInt(memoryMap.uart.base)).emit('andi', { rd: t0, rs1: r.hash, imm: 15 })
  p.emit('addi', { rd: t0, rs1: t0, imm: 0x61 }).emit('sb', { rs1: t1, rs2: t0 })
  p.emit('andi', { rd: t0, rs1: r.loops, imm: 511 }).to('noLetter', 'bne', { rs1: t0 })
  p.li(t0, 10n).emit('sb', { rs1: t1, rs2: t0 }).label('noLetter')
}

/** Timer: switched off. Network card: acknowledged, the main loop does the rest. Disk: every answer enters the hash, and its request is made again, the other way round. */
function writeHandler(p: Program): void {
  p.emit('csrrs.read', { rd: h0, csr: csr.mepc }).fold(h0, h1)
  p.emit('csrrs.read', { rd: h0, csr: csr.mcause }).fold(h0, h1)
  p.emit('andi', { rd: h0, rs1: h0, imm: 15 }).li(h1, 7n).to('device', 'bne', { rs1: h0, rs2: h1 })
  p.li(h0, -1n).emit('sd', { rs1: r.clint, rs2: h0 }).emit('mret')

  p.label('device').li(h1, 0x20_0004n).emit('add', { rd: h1, rs1: h1, rs2: r.plic })
  p.emit('lw', { rd: h3, rs1: h1 }).fold(h3, h0)
  p.emit('slli', { rd: h1, rs1: h3, imm: 12 }).li(h2, BigInt(diskBase - (diskLine << 12)))
  p.emit('add', { rd: h1, rs1: h1, rs2: h2 })
  p.emit('lw', { rd: h0, rs1: h1, imm: 0x60 }).emit('sw', { rs1: h1, rs2: h0, imm: 0x64 })
  p.li(h1, BigInt(diskLine)).to('noAnswer', 'bne', { rs1: h3, rs2: h1 })
  p.label('nextAnswer')
    .li(h1, address(at.diskQueue + usedRing))
    .emit('lhu', { rd: h0, rs1: h1, imm: 2 })
  p.emit('sub', { rd: h0, rs1: h0, rs2: rings.diskSeen }).emit('andi', { rd: h0, rs1: h0, imm: 0x7ff })
  p.to('noAnswer', 'beq', { rs1: h0 })
  p.usedHead(at.diskQueue, rings.diskSeen, h0, h1).fold(h0, h1)
  p.emit('addi', { rd: rings.diskSeen, rs1: rings.diskSeen, imm: 1 })
  // h1: the request's header, status and data.
  p.emit('slli', { rd: h1, rs1: h0, imm: requestShift }).li(h2, address(at.diskRequests))
  p.emit('add', { rd: h1, rs1: h1, rs2: h2 })
  p.emit('lbu', { rd: h2, rs1: h1, imm: statusOffset }).fold(h2, h4)
  p.emit('ld', { rd: h2, rs1: h1, imm: dataOffset }).fold(h2, h4)
  // The type becomes 1 − type, the data descriptor's direction turns, and what a write writes is the hash.
  p.emit('lw', { rd: h2, rs1: h1 }).emit('xori', { rd: h2, rs1: h2, imm: 1 }).emit('sw', { rs1: h1, rs2: h2 })
  p.emit('sd', { rs1: h1, rs2: r.hash, imm: dataOffset })
  p.emit('slli', { rd: h1, rs1: h0, imm: 4 })
    .li(h2, address(at.diskQueue + 16))
    .emit('add', { rd: h1, rs1: h1, rs2: h2 })
  p.emit('lhu', { rd: h2, rs1: h1, imm: 12 }).emit('xori', { rd: h2, rs1: h2, imm: descriptorFlag.write })
  p.emit('sh', { rs1: h1, rs2: h2, imm: 12 })
  p.offer(at.diskQueue, rings.diskOffered, h0, [h1, h2])
  p.li(h0, 0n).emit('sw', { rs1: r.disk, rs2: h0, imm: 0x50 }).to('nextAnswer', 'jal')
  p.label('noAnswer').li(h1, 0x20_0004n).emit('add', { rd: h1, rs1: h1, rs2: r.plic })
  p.emit('sw', { rs1: h1, rs2: h3 }).emit('mret')
}

export function bareGuestImage(): BootImage {
  const program = new Program()
  writeProgram(program)
  const code = program.bytes()
  if (code.length > at.diskQueue) throw new RangeError('the program runs into its own queues')
  const memory = initialMemory()
  memory.set(code)
  return {
    kind: 'elf',
    file: elfFile({ code: Array.from(new Uint32Array(memory.buffer)), tohost: ramBase + at.tohost }),
  }
}
