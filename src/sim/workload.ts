/**
 * What stations and the guest say to each other, in Ethernet frames of an experimental type. A request has a station's number
 * and its own; the reply has them too, and how many requests of that station the guest has applied.
 *
 *   0            6            12      14        16          20       24
 *   │ destination│ source     │ type  │ station │ number    │ count  │
 */

const etherType = 0x88b5
const frameBytes = 24

/** Of a frame that answers nobody. */
export const noStation = 0xffff

export interface Numbered {
  readonly station: number
  readonly id: number
  readonly count: number
}

function encode(destination: Uint8Array, source: Uint8Array, station: number, id: number, count: number): Uint8Array {
  const frame = new Uint8Array(frameBytes)
  const view = new DataView(frame.buffer)
  frame.set(destination, 0)
  frame.set(source, 6)
  view.setUint16(12, etherType)
  view.setUint16(14, station)
  view.setUint32(16, id)
  view.setUint32(20, count)
  return frame
}

export function encodeRequest(destination: Uint8Array, source: Uint8Array, station: number, id: number): Uint8Array {
  return encode(destination, source, station, id, 0)
}

export const encodeReply = encode

/** The request or reply in a frame; undefined: it is something else. */
export function readRequest(frame: Uint8Array): Numbered | undefined {
  if (frame.length !== frameBytes) return undefined
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  if (view.getUint16(12) !== etherType) return undefined
  return { station: view.getUint16(14), id: view.getUint32(16), count: view.getUint32(20) }
}
