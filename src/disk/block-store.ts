/**
 * What an export stands on: numbered bytes that are read, written and made durable. The server checks ranges and fencing
 * before it calls; a store only does the work. Calls may overlap in time; two that touch the same bytes have no order
 * between them unless the first has finished.
 */
export interface BlockStore {
  readonly sizeBytes: number
  read(offset: number, lengthBytes: number): Promise<Buffer>
  write(offset: number, data: Uint8Array): Promise<void>
  /** Every write that has finished by now is on stable storage afterwards. */
  flush(): Promise<void>
  /** The bytes don't matter any more. A store may do nothing. */
  trim(offset: number, lengthBytes: number): Promise<void>
  /** `mayStayHole`: bytes that are zero already need not take space. */
  writeZeroes(offset: number, lengthBytes: number, mayStayHole: boolean): Promise<void>
  /** Called before `close`, for a store that may wait for something out of reach: what waits is to fail. */
  giveUp?(): void
  /** Waits for nothing: the caller has stopped sending requests. */
  close(): Promise<void>
}
