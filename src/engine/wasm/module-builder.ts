/**
 * A WebAssembly module under construction: types, imports, functions, one table, globals, exports, and which branches are
 * likely (the branch hinting extension of WebAssembly; who does not know it skips that section). `finish()` gives the bytes. Functions may be declared first and defined later, so that they can call each other.
 */

import { assert } from '../../base/assert.ts'
import { CodeWriter } from './code-writer.ts'
import { type ValueType, valueTypeCode } from './expression.ts'
import { FunctionBuilder, type FunctionReference, type GlobalReference, type Local } from './function-builder.ts'

export type FunctionBody = (f: FunctionBuilder, ...params: Local[]) => void

export class ModuleBuilder {
  readonly #types: string[] = []
  readonly #typeBytes: Uint8Array[] = []
  readonly #imports: { module: string; name: string; typeIndex: number }[] = []
  readonly #functions: { typeIndex: number; name: string; builder?: FunctionBuilder }[] = []
  readonly #globals: { type: ValueType; initial: bigint }[] = []
  readonly #exports: { name: string; kind: number; index: number }[] = []
  #memory: { minimumPages: number } | undefined
  #importedTable: { module: string; name: string; minimumSize: number } | undefined
  #elements: readonly FunctionReference[] = []
  #tableSize = 0

  #typeIndex(params: readonly ValueType[], results: readonly ValueType[]): number {
    const key = `${params.join()}>${results.join()}`
    const known = this.#types.indexOf(key)
    if (known >= 0) return known
    const code = new CodeWriter()
    code.byte(0x60)
    for (const list of [params, results]) {
      code.unsigned(list.length)
      for (const type of list) code.byte(valueTypeCode[type])
    }
    this.#typeBytes.push(code.finish())
    return this.#types.push(key) - 1
  }

  /** Imports must come before the first declared function. */
  importFunction(
    module: string,
    name: string,
    params: readonly ValueType[],
    results: readonly ValueType[],
  ): FunctionReference {
    assert(this.#functions.length === 0, 'imports come before functions')
    const typeIndex = this.#typeIndex(params, results)
    const index = this.#imports.push({ module, name, typeIndex }) - 1
    return { index, typeIndex, params, results }
  }

  /** The one memory, imported as `env.memory`, of at least `minimumPages` 64 KiB pages. */
  importMemory(minimumPages: number): void {
    this.#memory = { minimumPages }
  }

  /** Table 0, from another module, of at least `minimumSize` functions. */
  importTable(module: string, name: string, minimumSize: number): void {
    this.#importedTable = { module, name, minimumSize }
  }

  global(type: ValueType, initial: number | bigint = 0): GlobalReference {
    return { index: this.#globals.push({ type, initial: BigInt(initial) }) - 1, type }
  }

  /** A function to be defined later. `name` is for stack traces and error messages. */
  declare(name: string, params: readonly ValueType[], results: readonly ValueType[]): FunctionReference {
    const typeIndex = this.#typeIndex(params, results)
    const index = this.#imports.length + this.#functions.push({ typeIndex, name }) - 1
    return { index, typeIndex, params, results }
  }

  define(reference: FunctionReference, body: FunctionBody): void {
    const entry = this.#functions[reference.index - this.#imports.length]
    assert(entry && !entry.builder, 'define: not declared, or defined twice')
    const builder = new FunctionBuilder(reference.params, reference.results)
    entry.builder = builder
    body(builder, ...builder.params)
  }

  function(
    name: string,
    params: readonly ValueType[],
    results: readonly ValueType[],
    body: FunctionBody,
  ): FunctionReference {
    const reference = this.declare(name, params, results)
    this.define(reference, body)
    return reference
  }

  /** Fills table 0 from index 0; it has room for `size` functions. */
  table(functions: readonly FunctionReference[], size = functions.length): void {
    this.#elements = functions
    this.#tableSize = size
  }

  /** A function whose body is written already, which none of this module calls. */
  add(name: string, builder: FunctionBuilder): FunctionReference {
    const types = builder.params.map((local) => local.type)
    const reference = this.declare(name, types, builder.results)
    this.#functions[reference.index - this.#imports.length]!.builder = builder
    return reference
  }

  exportTable(name: string): void {
    this.#exports.push({ name, kind: 1, index: 0 })
  }

  exportFunction(name: string, reference: FunctionReference): void {
    this.#exports.push({ name, kind: 0, index: reference.index })
  }

  exportGlobal(name: string, reference: GlobalReference): void {
    this.#exports.push({ name, kind: 3, index: reference.index })
  }

  finish(): Uint8Array<ArrayBuffer> {
    const out = new CodeWriter()
    out.raw(Uint8Array.of(0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0))
    const section = (id: number, write: (code: CodeWriter) => void): void => {
      const body = new CodeWriter()
      write(body)
      out.byte(id)
      out.unsigned(body.length)
      out.raw(body.view())
    }
    section(1, (code) => {
      code.unsigned(this.#typeBytes.length)
      for (const type of this.#typeBytes) code.raw(type)
    })
    section(2, (code) => {
      code.unsigned(this.#imports.length + (this.#memory ? 1 : 0) + (this.#importedTable ? 1 : 0))
      for (const entry of this.#imports) {
        code.name(entry.module)
        code.name(entry.name)
        code.byte(0)
        code.unsigned(entry.typeIndex)
      }
      if (this.#importedTable) {
        code.name(this.#importedTable.module)
        code.name(this.#importedTable.name)
        code.raw(Uint8Array.of(1, 0x70, 0))
        code.unsigned(this.#importedTable.minimumSize)
      }
      if (this.#memory) {
        code.name('env')
        code.name('memory')
        code.byte(2)
        code.byte(0)
        code.unsigned(this.#memory.minimumPages)
      }
    })
    section(3, (code) => {
      code.unsigned(this.#functions.length)
      for (const entry of this.#functions) code.unsigned(entry.typeIndex)
    })
    if (this.#elements.length > 0) {
      section(4, (code) => {
        code.raw(Uint8Array.of(1, 0x70, 0))
        code.unsigned(this.#tableSize)
      })
    }
    section(6, (code) => {
      code.unsigned(this.#globals.length)
      for (const global of this.#globals) {
        code.byte(valueTypeCode[global.type])
        code.byte(1)
        if (global.type === 'i32') {
          code.byte(0x41)
          code.signed32(Number(global.initial))
        } else {
          code.byte(0x42)
          code.signed64(global.initial)
        }
        code.byte(0x0b)
      }
    })
    section(7, (code) => {
      code.unsigned(this.#exports.length)
      for (const entry of this.#exports) {
        code.name(entry.name)
        code.byte(entry.kind)
        code.unsigned(entry.index)
      }
    })
    if (this.#elements.length > 0) {
      section(9, (code) => {
        code.raw(Uint8Array.of(1, 0, 0x41, 0, 0x0b))
        code.unsigned(this.#elements.length)
        for (const element of this.#elements) code.unsigned(element.index)
      })
    }
    const bodies = this.#functions.map(({ builder, name }) => {
      assert(builder, `${name} is declared but never defined`)
      const locals = new CodeWriter()
      locals.unsigned(builder.locals.length)
      for (const type of builder.locals) {
        locals.unsigned(1)
        locals.byte(valueTypeCode[type])
      }
      return { name, locals: locals.view(), builder }
    })
    section(0, (code) => {
      code.name('metadata.code.branch_hint')
      code.unsigned(bodies.filter(({ builder }) => builder.hints.length > 0).length)
      bodies.forEach(({ locals, builder }, index) => {
        if (builder.hints.length === 0) return
        code.unsigned(this.#imports.length + index)
        code.unsigned(builder.hints.length)
        for (const { position, hint } of builder.hints) {
          code.unsigned(locals.length + position)
          code.unsigned(1)
          code.byte(hint === 'likely' ? 1 : 0)
        }
      })
    })
    section(10, (code) => {
      code.unsigned(bodies.length)
      for (const { name, locals, builder } of bodies) {
        const body = new CodeWriter()
        body.raw(locals)
        body.raw(builder.code.view())
        // A function ends in a return or a tail call on every path; this is what validation needs behind them.
        if (this.#endsOpen(name)) body.byte(0x00)
        body.byte(0x0b)
        code.unsigned(body.length)
        code.raw(body.view())
      }
    })
    section(0, (code) => {
      code.name('name')
      const names = new CodeWriter()
      names.unsigned(this.#functions.length)
      this.#functions.forEach(({ name }, index) => {
        names.unsigned(this.#imports.length + index)
        names.name(name)
      })
      code.byte(1)
      code.unsigned(names.length)
      code.raw(names.view())
    })
    return out.finish()
  }

  /** Functions with results end in an unreachable, since every path has left by return or tail call before. */
  #endsOpen(name: string): boolean {
    const entry = this.#functions.find((candidate) => candidate.name === name)
    const type = this.#types[entry!.typeIndex]!
    return !type.endsWith('>')
  }
}
