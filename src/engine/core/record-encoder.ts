/** Writes predecoded records (layout.ts): decoding happens here, once per halfword that is executed. */

import { pageBytes } from '../../base/units.ts'
import { decode, isCompressed } from '../../riscv/decoder.ts'
import { handlerIndex } from './handler-numbers.ts'
import { handlerOf, hasTarget } from './interpreter.ts'
import {
  discardedRegister,
  type Layout,
  recordBytes,
  recordBytesPerByte,
  recordField,
  regionMark,
  slotBytes,
} from './layout.ts'

/** Offset in its page of an instruction whose second half is in the next page. */
const lastHalfword = pageBytes - 2
/** x1, where calls leave the address to return to. */
const linkRegister = 1

export class RecordEncoder {
  readonly #layout: Layout
  readonly #view: DataView

  constructor(layout: Layout, memory: ArrayBuffer) {
    this.#layout = layout
    this.#view = new DataView(memory)
  }

  /** Fills the record of a slot from the RAM it stands for. */
  decodeRecord(record: number): void {
    const { slotsBase, slotPageBase, ramStart } = this.#layout
    const slot = Math.floor((record - slotsBase) / slotBytes)
    const offset = ((record - slotsBase - slot * slotBytes) / recordBytes) * 2
    const page = this.#view.getInt32(slotPageBase + slot * 4, true)
    const host = ramStart + page * pageBytes + offset
    const low = this.#view.getUint16(host, true)
    if (isCompressed(low)) this.#encode(record, low, offset, true)
    else if (offset === lastHalfword) this.#write(record, handlerIndex.straddling, 0, 0, 0, offset, 0, low)
    else this.#encode(record, this.#view.getInt32(host, true), offset, true)
  }

  /** Fills a scratch record with an instruction that started in the last halfword of a page. */
  decodeStraddling(record: number, bits: number): void {
    this.#encode(record, bits, lastHalfword, false)
    this.#view.setInt32(record + 4 * recordBytesPerByte, handlerIndex.nextPageBehindStraddling, true)
  }

  #encode(record: number, bits: number, offset: number, hasPage: boolean): void {
    const decoded = decode(bits)
    if (!decoded) {
      this.#write(record, handlerIndex.illegal, 0, 0, 0, offset, 0, bits)
      return
    }
    const { instruction, rd, rs1, rs2, immediate, lengthBytes } = decoded
    const target = offset + immediate
    const withinPage = hasPage && hasTarget(instruction) && target >= 0 && target < pageBytes
    const handler = handlerOf({ instruction, lengthBytes, withinPage })
    const destination = rd === 0 && instruction.files.rd !== 'f' ? discardedRegister : rd
    const field = withinPage ? immediate * recordBytesPerByte : immediate
    if (withinPage && (immediate < 0 || instruction.format === 'J')) this.#count(record + field)
    const isCall = rd === linkRegister && (instruction.format === 'J' || instruction.name === 'jalr')
    if (isCall && hasPage && offset + lengthBytes < pageBytes) this.#count(record + lengthBytes * recordBytesPerByte)
    this.#write(record, handler, destination, rs1, rs2, offset, field, bits)
  }

  /** Loops, functions and places to return to are counted, because they may become hot. */
  #count(record: number): void {
    const at = record + recordField.region
    if (this.#view.getUint16(at, true) === regionMark.none) this.#view.setUint16(at, regionMark.counted, true)
  }

  #write(
    record: number,
    handler: number,
    rd: number,
    rs1: number,
    rs2: number,
    pcOffset: number,
    immediate: number,
    bits: number,
  ): void {
    const view = this.#view
    view.setUint16(record + recordField.handler, handler, true)
    view.setUint16(record + recordField.rd, rd * 8, true)
    view.setUint16(record + recordField.rs1, rs1 * 8, true)
    view.setUint16(record + recordField.rs2, rs2 * 8, true)
    view.setUint16(record + recordField.pcOffset, pcOffset, true)
    view.setInt32(record + recordField.immediate, immediate, true)
    view.setInt32(record + recordField.bits, bits, true)
  }
}
