/** Conversations of NBD, as a polite peer has them and as a hostile one does: for tests of both sides. */

import type { Prng } from '../base/prng.ts'
import { MiB } from '../base/units.ts'
import * as wire from './nbd-wire.ts'

const flags = wire.ExportFlag.hasFlags | wire.ExportFlag.sendFlush | wire.ExportFlag.sendFua
export const info: wire.ExportInfo = { sizeBytes: MiB, flags, description: 'an export' }

/** A whole polite conversation of a client, as its single messages. */
export function politeClient(): Buffer[] {
  const request = (command: number, offset: number, length: number, data = Buffer.alloc(0)): Buffer =>
    Buffer.concat([wire.encodeRequest({ command, flags: 0, handle: 5n, offset, length }), data])
  return [
    wire.encodeClientFlags(3),
    wire.encodeOption(wire.Option.list),
    wire.encodeOption(wire.Option.structuredReply),
    wire.encodeOption(wire.Option.info, wire.encodeGoData('disk0', [wire.Info.description, wire.Info.blockSize])),
    wire.encodeOption(wire.Option.go, wire.encodeGoData('disk0', [])),
    request(wire.Command.write, 512, 512, Buffer.alloc(512, 1)),
    request(wire.Command.read, 0, 4096),
    request(wire.Command.flush, 0, 0),
    request(wire.Command.trim, 0, 4096),
    request(wire.Command.writeZeroes, 0, 4096),
    request(wire.Command.disconnect, 0, 0),
  ]
}

/** A whole polite conversation of a server that answers the requests of `askPolitely`. */
export function politeServer(structured: boolean): Buffer[] {
  const option = structured ? wire.OptionReply.ack : wire.OptionError.unsupported
  const reply = (type: number, data?: Buffer): Buffer => wire.encodeOptionReply(wire.Option.go, type, data)
  const data = Buffer.alloc(4096, 7)
  const read = structured ? wire.encodeReadChunk(1n, 0, 4096) : wire.encodeSimpleReply(1n, 0)
  return [
    wire.encodeServerGreeting(),
    wire.encodeOptionReply(wire.Option.structuredReply, option),
    reply(wire.OptionReply.info, wire.encodeInfoExport(info)),
    reply(wire.OptionReply.info, wire.encodeInfoBlockSize()),
    reply(wire.OptionReply.info, wire.encodeInfoText(wire.Info.description, 'words')),
    reply(wire.OptionReply.ack),
    Buffer.concat([read, data]),
    structured ? wire.encodeErrorChunk(2n, wire.NbdErrno.io, 'broken') : wire.encodeSimpleReply(2n, wire.NbdErrno.io),
    wire.encodeSimpleReply(3n, 0),
  ]
}

export function mutate(prng: Prng, messages: Buffer[]): Buffer[] {
  const mutated = messages.map((message) => Buffer.from(message))
  for (let change = 0; change <= prng.below(3); change++) {
    const index = prng.below(mutated.length)
    const message = mutated[index]!
    switch (prng.below(5)) {
      case 0:
        if (message.length > 0) message[prng.below(Math.min(message.length, 40))] = prng.below(256)
        break
      case 1:
        mutated[index] = message.subarray(0, prng.below(message.length + 1))
        break
      case 2:
        mutated.splice(index, 0, message)
        break
      case 3:
        mutated.splice(index, 1)
        mutated.push(Buffer.from(prng.bytes(prng.below(64))))
        break
      case 4:
        if (message.length >= 4) message.writeUInt32BE(prng.pick([0, 1, 0x7fffffff, 0xffffffff]), message.length - 4)
        break
    }
    if (mutated.length === 0) break
  }
  return mutated
}

/** Cuts bytes where no message ends. */
export function* pieces(prng: Prng, bytes: Buffer): Generator<Buffer> {
  for (let offset = 0; offset < bytes.length; ) {
    const length = 1 + prng.below(prng.chance(0.5) ? 30 : 2000)
    yield bytes.subarray(offset, offset + length)
    offset += length
  }
}
