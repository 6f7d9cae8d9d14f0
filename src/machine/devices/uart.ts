/**
 * The console: a 16550A UART (National Semiconductor PC16550D), byte-wide registers at offsets 0 … 7.
 *
 *     0  RBR / THR (DLAB: divisor low)   1  IER (DLAB: divisor high)   2  IIR / FCR   3  LCR   4  MCR   5  LSR   6  MSR   7  SCR
 *
 * The line is infinitely fast: a byte written to THR leaves at once, THR is always empty. Received bytes wait in one
 * queue of bounded length, which is the FIFO and what would still be on the wire; a byte that finds it full is lost, as
 * on a real line, at the same place on every replica.
 */

import type { ByteReader, ByteWriter } from '../../base/bytes.ts'
import type { AccessSize } from '../../engine/types.ts'
import type { ConsoleBatch } from '../console-batch.ts'
import type { InterruptLine, MmioDevice } from './device.ts'

const backlogBytes = 64 * 1024

const interruptEnable = { receive: 1, transmit: 2 } as const
const lineStatus = { dataReady: 0x01, overrun: 0x02, transmitterEmpty: 0x60 } as const
const divisorLatch = 0x80
const loopback = 0x10
const triggerLevels = [1, 4, 8, 14] as const

export class Uart implements MmioDevice {
  readonly #console: ConsoleBatch
  readonly #line: InterruptLine
  #received: number[] = []
  /** Bytes at the head of `#received` that were read already; dropped in bulk. */
  #readCount = 0
  #divisor = 0
  #enable = 0
  #fifo = 0
  #lineControl = 0
  #modemControl = 0
  #scratch = 0
  #overrun = false
  /** The "transmitter empty" interrupt is due. */
  #transmitDue = false

  constructor(console: ConsoleBatch, line: InterruptLine) {
    this.#console = console
    this.#line = line
  }

  /** Bytes from the outside. What does not fit is lost. */
  receive(bytes: Uint8Array): void {
    for (const byte of bytes) this.#receiveByte(byte)
    this.#drive()
  }

  get #waiting(): number {
    return this.#received.length - this.#readCount
  }

  #receiveByte(byte: number): void {
    if (this.#waiting >= backlogBytes) this.#overrun = true
    else this.#received.push(byte)
  }

  /** The next received byte, for the debug console too; `undefined` when there is none. */
  takeByte(): number | undefined {
    if (this.#waiting === 0) return undefined
    const byte = this.#received[this.#readCount++]
    if (this.#readCount >= 4096 || this.#readCount === this.#received.length) {
      this.#received = this.#received.slice(this.#readCount)
      this.#readCount = 0
    }
    this.#drive()
    return byte
  }

  load(offset: number, _size: AccessSize): bigint | undefined {
    return BigInt(this.#loadRegister(offset))
  }

  #loadRegister(register: number): number {
    switch (register) {
      case 0:
        return this.#lineControl & divisorLatch ? this.#divisor & 0xff : (this.takeByte() ?? 0)
      case 1:
        return this.#lineControl & divisorLatch ? this.#divisor >> 8 : this.#enable
      case 2: {
        const cause = this.#interruptCause()
        if (cause === 0x02) {
          this.#transmitDue = false
          this.#drive()
        }
        return cause | (this.#fifo & 1 ? 0xc0 : 0)
      }
      case 3:
        return this.#lineControl
      case 4:
        return this.#modemControl
      case 5: {
        const overrun = this.#overrun ? lineStatus.overrun : 0
        this.#overrun = false
        return lineStatus.transmitterEmpty | overrun | (this.#waiting > 0 ? lineStatus.dataReady : 0)
      }
      case 6:
        return this.#modemStatus()
      case 7:
        return this.#scratch
      default:
        return 0
    }
  }

  store(offset: number, _size: AccessSize, value: bigint): boolean {
    const byte = Number(value & 0xffn)
    switch (offset) {
      case 0:
        if (this.#lineControl & divisorLatch) this.#divisor = (this.#divisor & 0xff00) | byte
        else this.#transmit(byte)
        break
      case 1:
        if (this.#lineControl & divisorLatch) this.#divisor = (this.#divisor & 0xff) | (byte << 8)
        else {
          if (byte & ~this.#enable & interruptEnable.transmit) this.#transmitDue = true
          this.#enable = byte & 0x0f
        }
        break
      case 2:
        this.#fifo = byte & 0xc9
        if (byte & 0x02) {
          this.#received = []
          this.#readCount = 0
        }
        break
      case 3:
        this.#lineControl = byte
        break
      case 4:
        this.#modemControl = byte & 0x1f
        break
      case 7:
        this.#scratch = byte
        break
    }
    this.#drive()
    return true
  }

  #transmit(byte: number): void {
    if (this.#modemControl & loopback) this.#receiveByte(byte)
    else this.#console.append(byte)
    this.#transmitDue = true
  }

  /** In loopback the modem outputs come back as modem inputs; otherwise a terminal is always connected and ready. */
  #modemStatus(): number {
    if (!(this.#modemControl & loopback)) return 0xb0
    const outputs = this.#modemControl
    return ((outputs & 0x02) << 3) | ((outputs & 0x01) << 5) | ((outputs & 0x0c) << 4)
  }

  /** The IIR's low bits, highest priority first; 1 = none. */
  #interruptCause(): number {
    if (this.#enable & interruptEnable.receive && this.#waiting > 0) {
      const trigger = this.#fifo & 1 ? triggerLevels[(this.#fifo >> 6) as 0 | 1 | 2 | 3] : 1
      return this.#waiting >= trigger ? 0x04 : 0x0c
    }
    if (this.#enable & interruptEnable.transmit && this.#transmitDue) return 0x02
    return 0x01
  }

  #drive(): void {
    this.#line(this.#interruptCause() !== 0x01)
  }

  reset(): void {
    this.#received = []
    this.#readCount = 0
    this.#divisor = 0
    this.#enable = 0
    this.#fifo = 0
    this.#lineControl = 0
    this.#modemControl = 0
    this.#scratch = 0
    this.#overrun = false
    this.#transmitDue = false
    this.#drive()
  }

  saveState(writer: ByteWriter): void {
    writer.bytes(Uint8Array.from(this.#received.slice(this.#readCount))).u16(this.#divisor)
    writer.u8(this.#enable).u8(this.#fifo).u8(this.#lineControl).u8(this.#modemControl).u8(this.#scratch)
    writer.bool(this.#overrun).bool(this.#transmitDue)
  }

  loadState(reader: ByteReader): void {
    this.#received = [...reader.bytes()]
    this.#readCount = 0
    this.#divisor = reader.u16()
    this.#enable = reader.u8()
    this.#fifo = reader.u8()
    this.#lineControl = reader.u8()
    this.#modemControl = reader.u8()
    this.#scratch = reader.u8()
    this.#overrun = reader.bool()
    this.#transmitDue = reader.bool()
    this.#drive()
  }
}
