/**
 * The words of the NBD protocol (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md) and the encoders of
 * every message that either side sends. All numbers on the wire are big-endian.
 *
 * What we speak: fixed newstyle negotiation, structured replies, flush, FUA, trim, write-zeroes. What we don't: oldstyle,
 * block status, resize, extended headers. Over TCP everything but the first few messages is inside TLS (nbd-starttls.ts).
 *
 *   request           magic u32 │ flags u16 │ command u16 │ handle u64 │ offset u64 │ length u32 │ data of a write
 *   simple reply      magic u32 │ error u32 │ handle u64 │ data of a read
 *   structured chunk  magic u32 │ flags u16 │ type u16 │ handle u64 │ length u32 │ payload
 */

export const serverMagic = 0x4e42444d41474943n
export const optionMagic = 0x49484156454f5054n
export const optionReplyMagic = 0x0003e889045565a9n
export const requestMagic = 0x25609513
export const simpleReplyMagic = 0x67446698
export const structuredReplyMagic = 0x668e33ef

export const requestHeaderBytes = 28
export const simpleReplyBytes = 16
export const structuredHeaderBytes = 20
export const optionHeaderBytes = 16
export const optionReplyHeaderBytes = 20

/** Longest read or write: what NBD calls the maximum payload, and every client may assume. */
export const maxPayloadBytes = 32 * 1024 * 1024

/** Longest string of the protocol (export name, error text). */
export const maxStringBytes = 4096

/** Longest option we read before dropping the connection: a name, and information requests, with room to spare. */
export const maxOptionBytes = 64 * 1024

export const HandshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const

export const Option = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
} as const

export const OptionReply = { ack: 1, server: 2, info: 3 } as const

export const OptionError = {
  unsupported: 0x80000001,
  policy: 0x80000002,
  invalid: 0x80000003,
  tlsRequired: 0x80000005,
  unknown: 0x80000006,
  shutdown: 0x80000007,
} as const

export const Info = { export: 0, name: 1, description: 2, blockSize: 3 } as const

export const ExportFlag = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
} as const

export const Command = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, writeZeroes: 6 } as const

export const CommandFlag = { fua: 1 << 0, noHole: 1 << 1, df: 1 << 2 } as const

export const ChunkFlag = { done: 1 } as const

export const ChunkType = { none: 0, offsetData: 1, offsetHole: 2, error: 0x8001, errorOffset: 0x8002 } as const

/** Error numbers as NBD fixes them, whatever the operating system's own are. */
export const NbdErrno = {
  ok: 0,
  permission: 1,
  io: 5,
  noMemory: 12,
  invalid: 22,
  noSpace: 28,
  overflow: 75,
  notSupported: 95,
  shutdown: 108,
} as const

/** What the two sides agree on about an export. Sizes are in bytes. */
export interface ExportInfo {
  readonly sizeBytes: number
  /** Transmission flags, `ExportFlag`. */
  readonly flags: number
  /** For people and for `NbdClient.description`; may be empty. */
  readonly description: string
}

export interface NbdRequest {
  readonly command: number
  readonly flags: number
  readonly handle: bigint
  /** In bytes. A value beyond 2^53 is imprecise, and beyond the end of every image. */
  readonly offset: number
  readonly length: number
  /** The data of a write, else empty. */
  readonly data: Buffer
}

export function encodeServerGreeting(): Buffer {
  const bytes = Buffer.alloc(18)
  bytes.writeBigUInt64BE(serverMagic, 0)
  bytes.writeBigUInt64BE(optionMagic, 8)
  bytes.writeUInt16BE(HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes, 16)
  return bytes
}

export function encodeClientFlags(flags: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(flags, 0)
  return bytes
}

export function encodeOption(option: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(optionHeaderBytes)
  bytes.writeBigUInt64BE(optionMagic, 0)
  bytes.writeUInt32BE(option, 8)
  bytes.writeUInt32BE(data.length, 12)
  return Buffer.concat([bytes, data])
}

/** The data of GO and INFO: the name, then the pieces of information asked for. */
export function encodeGoData(exportName: string, infos: readonly number[]): Buffer {
  const name = Buffer.from(exportName)
  const bytes = Buffer.alloc(4 + name.length + 2 + 2 * infos.length)
  bytes.writeUInt32BE(name.length, 0)
  name.copy(bytes, 4)
  bytes.writeUInt16BE(infos.length, 4 + name.length)
  infos.forEach((info, index) => {
    bytes.writeUInt16BE(info, 6 + name.length + 2 * index)
  })
  return bytes
}

export function encodeOptionReply(option: number, type: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(optionReplyHeaderBytes)
  bytes.writeBigUInt64BE(optionReplyMagic, 0)
  bytes.writeUInt32BE(option, 8)
  bytes.writeUInt32BE(type, 12)
  bytes.writeUInt32BE(data.length, 16)
  return Buffer.concat([bytes, data])
}

/** One entry of the answer to LIST. */
export function encodeServerName(name: string): Buffer {
  const text = Buffer.from(name)
  const bytes = Buffer.alloc(4 + text.length)
  bytes.writeUInt32BE(text.length, 0)
  text.copy(bytes, 4)
  return bytes
}

export function encodeInfoExport(info: ExportInfo): Buffer {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt16BE(Info.export, 0)
  bytes.writeBigUInt64BE(BigInt(info.sizeBytes), 2)
  bytes.writeUInt16BE(info.flags, 10)
  return bytes
}

/** Any byte range will do for us; 4 KiB is what the page cache likes. */
export function encodeInfoBlockSize(): Buffer {
  const bytes = Buffer.alloc(14)
  bytes.writeUInt16BE(Info.blockSize, 0)
  bytes.writeUInt32BE(1, 2)
  bytes.writeUInt32BE(4096, 6)
  bytes.writeUInt32BE(maxPayloadBytes, 10)
  return bytes
}

export function encodeInfoText(info: number, text: string): Buffer {
  const kind = Buffer.alloc(2)
  kind.writeUInt16BE(info, 0)
  return Buffer.concat([kind, Buffer.from(text)])
}

/** The answer to EXPORT_NAME, which has no room for an error. */
export function encodeExportNameAnswer(info: ExportInfo, noZeroes: boolean): Buffer {
  const bytes = Buffer.alloc(noZeroes ? 10 : 134)
  bytes.writeBigUInt64BE(BigInt(info.sizeBytes), 0)
  bytes.writeUInt16BE(info.flags, 8)
  return bytes
}

/** The header of a request; the data of a write follows it. */
export function encodeRequest(request: Omit<NbdRequest, 'data'>): Buffer {
  const bytes = Buffer.alloc(requestHeaderBytes)
  bytes.writeUInt32BE(requestMagic, 0)
  bytes.writeUInt16BE(request.flags, 4)
  bytes.writeUInt16BE(request.command, 6)
  bytes.writeBigUInt64BE(request.handle, 8)
  bytes.writeBigUInt64BE(BigInt(request.offset), 16)
  bytes.writeUInt32BE(request.length, 24)
  return bytes
}

/** A simple reply; the data of a successful read follows it. */
export function encodeSimpleReply(handle: bigint, errno: number): Buffer {
  const bytes = Buffer.alloc(simpleReplyBytes)
  bytes.writeUInt32BE(simpleReplyMagic, 0)
  bytes.writeUInt32BE(errno, 4)
  bytes.writeBigUInt64BE(handle, 8)
  return bytes
}

function encodeChunkHeader(handle: bigint, type: number, payloadBytes: number, extraBytes: number): Buffer {
  const bytes = Buffer.alloc(structuredHeaderBytes + extraBytes)
  bytes.writeUInt32BE(structuredReplyMagic, 0)
  bytes.writeUInt16BE(ChunkFlag.done, 4)
  bytes.writeUInt16BE(type, 6)
  bytes.writeBigUInt64BE(handle, 8)
  bytes.writeUInt32BE(payloadBytes, 16)
  return bytes
}

/** The head of the only chunk of a structured read; `lengthBytes` of data follow it. */
export function encodeReadChunk(handle: bigint, offset: number, lengthBytes: number): Buffer {
  const bytes = encodeChunkHeader(handle, ChunkType.offsetData, 8 + lengthBytes, 8)
  bytes.writeBigUInt64BE(BigInt(offset), structuredHeaderBytes)
  return bytes
}

export function encodeErrorChunk(handle: bigint, errno: number, message: string): Buffer {
  const text = Buffer.from(message)
  const bytes = encodeChunkHeader(handle, ChunkType.error, 6 + text.length, 6 + text.length)
  bytes.writeUInt32BE(errno, structuredHeaderBytes)
  bytes.writeUInt16BE(text.length, structuredHeaderBytes + 4)
  text.copy(bytes, structuredHeaderBytes + 6)
  return bytes
}
