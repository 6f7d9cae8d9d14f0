/** The part of the WebAssembly JavaScript interface that the engine uses; TypeScript keeps the whole in its DOM library. */
declare namespace WebAssembly {
  class Module {
    constructor(bytes: Uint8Array<ArrayBuffer>)
  }
  class Instance {
    constructor(module: Module, imports: Record<string, Record<string, unknown>>)
    readonly exports: Record<string, unknown>
  }
  class Memory {
    constructor(descriptor: { initial: number; maximum?: number; shared?: boolean })
    readonly buffer: ArrayBuffer
  }
  class Table {
    readonly length: number
    get(index: number): unknown
    set(index: number, value: unknown): void
  }
  class Global {
    value: number | bigint
  }
}
