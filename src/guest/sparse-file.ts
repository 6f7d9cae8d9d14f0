/**
 * Disk images are mostly zeros. A piece of zeros is not written but left as a hole, so that a root disk takes the room of
 * its content, and copying it takes the time of its content.
 */

import { type FileHandle, open } from 'node:fs/promises'

const readBytes = 1 << 20
/** Zeros are left out in pieces of this size, at multiples of it. */
const holeBytes = 1 << 16
const zeros = new Uint8Array(holeBytes)

/**
 * Writes at `offset` all pieces of the chunk that are not zero; returns the offset behind the chunk. The file must be new:
 * a hole reads as zero only where nothing was written before. Its end is set by `truncate` afterwards.
 */
export async function writeSparse(file: FileHandle, chunk: Uint8Array, offset: number): Promise<number> {
  for (let start = 0; start < chunk.length; ) {
    const end = Math.min(chunk.length, start + holeBytes - ((offset + start) % holeBytes))
    const piece = chunk.subarray(start, end)
    if (Buffer.compare(piece, zeros.subarray(0, piece.length)) !== 0) {
      for (let written = 0; written < piece.length; ) {
        written += (await file.write(piece, written, piece.length - written, offset + start + written)).bytesWritten
      }
    }
    start = end
  }
  return offset + chunk.length
}

/** Copies a file to a new one, with its holes. */
export async function copySparse(from: string, to: string): Promise<void> {
  const source = await open(from)
  try {
    const target = await open(to, 'wx')
    try {
      const buffer = new Uint8Array(readBytes)
      let offset = 0
      for (;;) {
        const { bytesRead } = await source.read(buffer, 0, buffer.length, offset)
        if (bytesRead === 0) break
        offset = await writeSparse(target, buffer.subarray(0, bytesRead), offset)
      }
      await target.truncate(offset)
    } finally {
      await target.close()
    }
  } finally {
    await source.close()
  }
}
