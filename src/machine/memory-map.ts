/**
 * Where things are in the guest's physical address space, and which interrupt line they drive. The layout is that of
 * QEMU's `virt` board, so that bare programs and documentation written for it fit.
 *
 *     0x0010_0000  sifive_test     bare programs only: ends the program
 *     0x0010_1000  goldfish RTC    line 11
 *     0x0200_0000  CLINT           msip, mtimecmp, mtime
 *     0x0c00_0000  PLIC            context 0: M mode, context 1: S mode
 *     0x1000_0000  UART 16550A     line 10
 *     0x1000_1000  virtio-mmio     eight slots of 4 KiB, lines 1 … 8
 *     0x8000_0000  RAM
 */

export const memoryMap = {
  sifiveTest: { base: 0x10_0000, lengthBytes: 0x1000 },
  rtc: { base: 0x10_1000, lengthBytes: 0x1000 },
  clint: { base: 0x200_0000, lengthBytes: 0x1_0000 },
  plic: { base: 0xc00_0000, lengthBytes: 0x60_0000 },
  uart: { base: 0x1000_0000, lengthBytes: 0x100 },
  virtio: { base: 0x1000_1000, lengthBytes: 0x1000 },
} as const

export const virtioSlots = 8

/** Lines of the interrupt controller. A virtio slot drives line `slot + firstVirtioLine`. */
export const uartLine = 10
export const rtcLine = 11
export const firstVirtioLine = 1
/** Highest line the interrupt controller has; line 0 means "none". */
export const lastLine = 31

export function virtioSlotBase(slot: number): number {
  return memoryMap.virtio.base + slot * memoryMap.virtio.lengthBytes
}
