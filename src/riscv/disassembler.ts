/**
 * From instruction bits to assembler text, out of the same table that runs them: for divergence reports, the debugger and
 * test failures. The text is what GNU objdump writes with `-M no-aliases`, except that a 16-bit form is shown as the base
 * instruction it stands for. Nothing here is executed by the guest.
 */

import { csrName } from './csrs.ts'
import { type Decoded, decode, isCompressed } from './decoder.ts'
import { floatRegisterNames, integerRegisterNames } from './registers.ts'

/** `sp` or `x2`. */
export type RegisterNaming = 'abi' | 'numeric'

const roundingModeNames = ['rne', 'rtz', 'rdn', 'rup', 'rmm'] as const
const dynamicRounding = 7

/** Major opcodes whose I format is written `offset(base)`: LOAD, LOAD-FP, JALR. */
const offsetOpcodes = new Set([0x03, 0x07, 0x67])

const rdField = 0x0000_0f80
const rs2Field = 0x01f0_0000

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`
}

/** The set of accesses that FENCE orders, as its four bits name it. */
function fenceSet(bits: number): string {
  return bits === 0 ? '0' : ['i', 'o', 'r', 'w'].filter((_, index) => bits & (8 >> index)).join('')
}

function mnemonic(decoded: Decoded, bits: number): string {
  const { name, extension } = decoded.instruction
  if (name === 'fence') {
    if (bits >>> 20 === 0x833) return 'fence.tso'
    return `fence ${fenceSet((bits >>> 24) & 15)},${fenceSet((bits >>> 20) & 15)}`
  }
  const order = extension === 'A' ? ['', '.rl', '.aq', '.aqrl'][(bits >>> 25) & 3] : ''
  return name.replace('.read', '') + order
}

/**
 * @param bits the instruction; for a 16-bit one the upper half is ignored
 * @param pc its address, from which branch targets are counted
 */
export function disassemble(bits: number, pc: bigint, naming: RegisterNaming = 'abi'): string {
  const decoded = decode(bits)
  const { instruction, rm } = decoded ?? {}
  const isReservedRounding = instruction?.hasRoundingMode && (rm === 5 || rm === 6)
  if (!decoded || !instruction || isReservedRounding) {
    return isCompressed(bits) ? `.2byte ${hex(bits & 0xffff)}` : `.4byte ${hex(bits >>> 0)}`
  }

  const register = (file: 'f' | undefined, number: number): string => {
    if (naming === 'numeric') return `${file ?? 'x'}${number}`
    return (file ? floatRegisterNames[number] : integerRegisterNames[number])!
  }
  const { files, mask } = instruction
  const { immediate } = decoded
  const rd = register(files.rd, decoded.rd)
  const rs1 = register(files.rs1, decoded.rs1)
  const rs2 = register(files.rs2, decoded.rs2)
  const target = hex(BigInt.asUintN(64, pc + BigInt(immediate)))

  const operands = (): string[] => {
    switch (instruction.format) {
      case 'R': {
        const first = (mask & rdField) === 0 ? [rd] : []
        const second = (mask & rs2Field) === 0 ? [rs2] : []
        return instruction.extension === 'A' ? [...first, ...second, `(${rs1})`] : [...first, rs1, ...second]
      }
      case 'R4':
        return [rd, rs1, rs2, register('f', decoded.rs3)]
      case 'I':
        return offsetOpcodes.has(instruction.match & 0x7f) ? [rd, `${immediate}(${rs1})`] : [rd, rs1, `${immediate}`]
      case 'shift':
        return [rd, rs1, hex(immediate)]
      case 'S':
        return [rs2, `${immediate}(${rs1})`]
      case 'B':
        return [rs1, rs2, target]
      case 'U':
        return [rd, hex((immediate >>> 12) & 0xf_ffff)]
      case 'J':
        return [rd, target]
      case 'csr':
        return [rd, csrName(decoded.csr), rs1]
      case 'csrImmediate':
        return [rd, csrName(decoded.csr), `${immediate}`]
      case 'none':
        return []
    }
  }
  const rounding = instruction.hasRoundingMode && rm !== dynamicRounding ? [roundingModeNames[decoded.rm]!] : []
  return [mnemonic(decoded, bits), [...operands(), ...rounding].join(',')].filter((part) => part !== '').join(' ')
}
