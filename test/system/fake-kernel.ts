/** The header of a riscv64 Linux `Image` over zeroes: enough to pass the checks before anything starts. */
export function fakeKernel(): Uint8Array {
  const image = new Uint8Array(1024 * 1024)
  const view = new DataView(image.buffer)
  view.setBigUint64(0x08, 0x20_0000n, true) // text offset
  view.setBigUint64(0x10, BigInt(image.length), true) // image size
  view.setUint32(0x20, 2, true) // header version
  image.set(new TextEncoder().encode('RISCV\0\0\0'), 0x30)
  image.set([0x52, 0x53, 0x43, 0x05], 0x38) // "RSC\x05"
  return image
}
