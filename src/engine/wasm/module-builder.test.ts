import assert from 'node:assert/strict'
import { test } from 'node:test'
import { load } from './expression.ts'
import { ModuleBuilder } from './module-builder.ts'

test('a built module computes what its expressions say', () => {
  const module = new ModuleBuilder()
  module.importMemory(1)
  const factorial = module.declare('factorial', ['i64', 'i64'], ['i64'])
  module.define(factorial, (f, n, product) => {
    f.if(n!.eqz(), () => f.return(product!))
    f.returnCall(factorial, n!.sub(1), product!.mul(n!))
  })
  const sum = module.function('sum', ['i32', 'i32'], ['i32'], (f, address, count) => {
    const total = f.local('i32')
    f.block((end) => {
      f.loop((again) => {
        f.brIf(end, count!.eqz())
        f.set(total, total.add(load('i32', 'load8u', address!)))
        f.set(address!, address!.add(1))
        f.set(count!, count!.sub(1))
        f.br(again)
      })
    })
    f.return(total)
  })
  const viaTable = module.function('viaTable', ['i32', 'i64'], ['i64'], (f, index, n) => {
    f.returnCallIndirect(factorial, index!, n!, 1)
  })
  module.table([factorial])
  module.exportFunction('factorial', factorial)
  module.exportFunction('sum', sum)
  module.exportFunction('viaTable', viaTable)
  const memory = new WebAssembly.Memory({ initial: 1 })
  const instance = new WebAssembly.Instance(new WebAssembly.Module(module.finish()), { env: { memory } })
  const exports = instance.exports as Record<string, (...args: never[]) => unknown>
  assert.equal((exports.factorial as unknown as (n: bigint, p: bigint) => bigint)(20n, 1n), 2432902008176640000n)
  assert.equal((exports.viaTable as unknown as (i: number, n: bigint) => bigint)(0, 5n), 120n)
  new Uint8Array(memory.buffer).set([1, 2, 3, 250], 10)
  assert.equal((exports.sum as unknown as (a: number, n: number) => number)(10, 4), 256)
})

test('a type error in an expression is caught while building', () => {
  const module = new ModuleBuilder()
  module.function('bad', ['i32', 'i64'], [], (_, a, b) => {
    assert.throws(() => a!.add(b!), /operand is i64/)
  })
})
