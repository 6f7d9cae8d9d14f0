/**
 * The A extension behind its address: what AMO, LR and SC do to the word at `host`, which `emitLocate` has found to be
 * aligned, in RAM and allowed. Both engines emit these, so a reservation means the same in both.
 *
 * The reserved set is the aligned 8-byte word, named by its offset in RAM; −1 is none.
 */

import { type Expression, i64, load } from '../wasm/expression.ts'
import type { FunctionBuilder } from '../wasm/function-builder.ts'
import { get, put } from './layout.ts'

type AtomicSize = 4 | 8

/** Words are sign-extended. */
function loadWord(f: FunctionBuilder, host: Expression, sizeBytes: AtomicSize): Expression {
  return f.let(load('i64', sizeBytes === 4 ? 'load32s' : 'load', host))
}

function reservedWord(host: Expression, ramStart: number): Expression {
  return host.sub(ramStart).and(-8).toI64U()
}

/** @returns what was there before */
export function emitAtomic(
  f: FunctionBuilder,
  host: Expression,
  sizeBytes: AtomicSize,
  update: (old: Expression) => Expression,
): Expression {
  const old = loadWord(f, host, sizeBytes)
  f.store(sizeBytes, host, update(old))
  return old
}

/** @param ramStart where RAM begins in the engine's memory, for this and for the store */
export function emitLoadReserved(
  f: FunctionBuilder,
  host: Expression,
  sizeBytes: AtomicSize,
  ramStart: number,
): Expression {
  put(f, 'reservation', reservedWord(host, ramStart))
  return loadWord(f, host, sizeBytes)
}

/** @returns 0 if it was stored, else 1; the reservation is gone in both cases */
export function emitStoreConditional(
  f: FunctionBuilder,
  host: Expression,
  sizeBytes: AtomicSize,
  ramStart: number,
  value: Expression,
): Expression {
  const failed = f.let(i64(1))
  f.if(get('reservation').eq(reservedWord(host, ramStart)), () => {
    f.store(sizeBytes, host, value)
    f.set(failed, 0)
  })
  put(f, 'reservation', -1)
  return failed
}
