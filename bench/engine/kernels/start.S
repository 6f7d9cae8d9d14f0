/*
 * Entry of a kernel: M mode at the start of RAM, on `understudy run --elf` and on QEMU's virt board with `-bios none`.
 * Gives C a stack, switches the floating-point unit on, and parks every hart but the first.
 */
    .section .text.start
    .globl _start
_start:
    csrr    t0, mhartid
    bnez    t0, park
    la      sp, stack_end
    li      t0, 0x6000          /* mstatus.FS: dirty */
    csrs    mstatus, t0
    fscsr   zero
    call    run_kernel
park:
    wfi
    j       park

    .section .bss
    .balign 16
    .skip   1 << 20
stack_end:
