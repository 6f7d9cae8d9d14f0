/**
 * Writes a flattened device tree (Devicetree Specification 0.4, chapter 5; version 17): header, an empty memory
 * reservation block, the structure block, the strings block, each aligned. Which nodes a machine has is not known here.
 */

/** A property: text, several texts, 32-bit cells, or raw bytes. An empty cell list is a property without a value. */
export type PropertyValue = string | readonly string[] | readonly number[] | Uint8Array

export interface TreeNode {
  readonly name: string
  readonly properties: Readonly<Record<string, PropertyValue>>
  readonly children?: readonly TreeNode[]
}

const token = { beginNode: 1, endNode: 2, property: 3, end: 9 } as const
const headerBytes = 40
const reservationBytes = 16

class BigEndianWriter {
  #bytes: number[] = []

  get length(): number {
    return this.#bytes.length
  }

  u32(value: number): void {
    this.#bytes.push((value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff)
  }

  /** The bytes, then zeros up to the next multiple of four. */
  padded(bytes: Uint8Array): void {
    for (const byte of bytes) this.#bytes.push(byte)
    while (this.#bytes.length % 4 !== 0) this.#bytes.push(0)
  }

  append(bytes: Uint8Array): void {
    for (const byte of bytes) this.#bytes.push(byte)
  }

  finish(): Uint8Array {
    return Uint8Array.from(this.#bytes)
  }
}

/** Property names, each stored once. */
class Strings {
  readonly #offsets = new Map<string, number>()
  #bytes = new Uint8Array(0)

  offset(name: string): number {
    const known = this.#offsets.get(name)
    if (known !== undefined) return known
    const offset = this.#bytes.length
    const text = terminated(name)
    const grown = new Uint8Array(offset + text.length)
    grown.set(this.#bytes)
    grown.set(text, offset)
    this.#bytes = grown
    this.#offsets.set(name, offset)
    return offset
  }

  get bytes(): Uint8Array {
    return this.#bytes
  }
}

function terminated(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`)
}

function encodeValue(value: PropertyValue): Uint8Array {
  if (value instanceof Uint8Array) return value
  if (typeof value === 'string') return terminated(value)
  const writer = new BigEndianWriter()
  for (const item of value) {
    if (typeof item === 'string') writer.append(terminated(item))
    else writer.u32(item)
  }
  return writer.finish()
}

function encodeNode(node: TreeNode, structure: BigEndianWriter, strings: Strings): void {
  structure.u32(token.beginNode)
  structure.padded(terminated(node.name))
  for (const [name, value] of Object.entries(node.properties)) {
    const bytes = encodeValue(value)
    structure.u32(token.property)
    structure.u32(bytes.length)
    structure.u32(strings.offset(name))
    structure.padded(bytes)
  }
  for (const child of node.children ?? []) encodeNode(child, structure, strings)
  structure.u32(token.endNode)
}

export function encodeDeviceTree(root: TreeNode): Uint8Array {
  const strings = new Strings()
  const structure = new BigEndianWriter()
  encodeNode(root, structure, strings)
  structure.u32(token.end)

  const structureOffset = headerBytes + reservationBytes
  const stringsOffset = structureOffset + structure.length
  const blob = new BigEndianWriter()
  blob.u32(0xd00d_feed)
  blob.u32(stringsOffset + strings.bytes.length)
  blob.u32(structureOffset)
  blob.u32(stringsOffset)
  blob.u32(headerBytes) // reservation block
  blob.u32(17) // version
  blob.u32(16) // last compatible version
  blob.u32(0) // boot hart
  blob.u32(strings.bytes.length)
  blob.u32(structure.length)
  blob.append(new Uint8Array(reservationBytes))
  blob.append(structure.finish())
  blob.append(strings.bytes)
  return blob.finish()
}

/** An address or length as two cells, as `#address-cells = <2>` wants it. */
export function cells64(value: number): [number, number] {
  return [Math.floor(value / 2 ** 32), value % 2 ** 32]
}
