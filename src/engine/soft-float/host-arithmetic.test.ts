import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Prng } from '../../base/prng.ts'
import { type FloatFormat, type FloatOperation, floatOperations } from '../../riscv/float-operations.ts'
import { i32, i64 } from '../wasm/expression.ts'
import { ModuleBuilder } from '../wasm/module-builder.ts'
import { emitOnHost, type HostMode, hostOperation, isMultiplyAddFused } from './host-arithmetic.ts'
import { exactReference } from './test-support/exact-reference.ts'
import { randomOperands, specialFloats } from './test-support/operands.ts'
import { formats, operations } from './test-support/soft-float-instance.ts'

const inexact = 1
const roundingModes: Readonly<Record<HostMode, number>> = { any: 0, toNearest: 0, towardsZero: 1 }

interface HostFunction {
  readonly mode: HostMode
  /** The host's result, or undefined where it declines. */
  readonly run: (operands: readonly bigint[]) => bigint | undefined
}

function hostFunction(operation: FloatOperation, format: FloatFormat): HostFunction | undefined {
  const module = new ModuleBuilder()
  const declined = module.global('i32')
  let mode: HostMode | undefined
  const params = Array<'i64'>(floatOperations[operation].operands).fill('i64')
  const reference = module.function('run', params, ['i64'], (f, ...operands) => {
    const host = hostOperation(operation, format, operands)
    mode = host?.mode
    f.setGlobal(declined, 0)
    const soft = () => {
      f.setGlobal(declined, 1)
      return i64(0)
    }
    f.return(host ? emitOnHost(f, host, i32(1), soft) : i64(0))
  })
  if (!mode) return undefined
  module.exportFunction('run', reference)
  module.exportGlobal('declined', declined)
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.finish()), {})
  const run = exports.run as (...operands: bigint[]) => bigint
  const flag = exports.declined as WebAssembly.Global
  return {
    mode,
    run: (operands) => {
      const bits = BigInt.asUintN(64, run(...operands))
      return flag.value === 1 ? undefined : bits
    },
  }
}

describe('what the host calculates has the exact bits, and no flag but an inexact that is set already', () => {
  for (const format of formats) {
    for (const operation of operations) {
      const host = hostFunction(operation, format)
      if (!host) continue
      test(`${format}.${operation}`, () => {
        const prng = new Prng(0xf1a6)
        let calculated = 0
        const tries = 20_000
        const check = (operands: readonly bigint[]): void => {
          const bits = host.run(operands)
          if (bits === undefined) return
          calculated++
          const expected = exactReference(operation, format, operands, roundingModes[host.mode])
          const allowed = host.mode === 'any' ? 0 : inexact
          const what = `${operands.map((operand) => operand.toString(16)).join(', ')}`
          assert.equal(bits.toString(16), expected.bits.toString(16), what)
          assert.equal(expected.flags & ~allowed, 0, `flags ${expected.flags} of ${what}`)
        }
        for (let count = 0; count < tries; count++) check(randomOperands(prng, operation, format))
        if (!operation.startsWith('from') && operation !== 'convert') {
          const specials = specialFloats(format)
          for (const a of specials)
            for (const b of specials) check([a, b, a].slice(0, floatOperations[operation].operands))
        }
        assert.ok(calculated > tries / 20, `the host did ${calculated} of ${tries}`)
      })
    }
  }
})

test('a host whose multiply-add rounds twice is not asked', () => {
  // Whatever this host is, the operation is offered exactly if it rounds once; the cases above check that it does.
  assert.equal(hostOperation('fma', 'double', []) !== undefined, isMultiplyAddFused())
})
