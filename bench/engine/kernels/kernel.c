/* Console, markers and end of a kernel: a 16550A at 0x10000000 and sifive_test at 0x100000, as QEMU's virt board has. */

#include "kernel.h"

static volatile u8 *const uart = (volatile u8 *)0x10000000;
static volatile u32 *const finisher = (volatile u32 *)0x100000;

static void print(const char *text)
{
    for (; *text; text++) {
        while (!(uart[5] & 0x20))
            ;
        uart[0] = (u8)*text;
    }
}

static void print_hex(u64 value)
{
    char text[17];
    for (int i = 0; i < 16; i++) text[i] = "0123456789abcdef"[(value >> (60 - 4 * i)) & 15];
    text[16] = 0;
    print(text);
}

/* The compiler may call these for copies and clears that the source does not spell out. */
void *memcpy(void *to, const void *from, u64 count)
{
    u8 *t = to;
    const u8 *f = from;
    while (count--) *t++ = *f++;
    return to;
}

void *memset(void *to, int value, u64 count)
{
    u8 *t = to;
    while (count--) *t++ = (u8)value;
    return to;
}

void run_kernel(void)
{
    print("@@begin\n");
    u64 sum = work(ROUNDS);
    print("@@end ");
    print_hex(sum);
    print("\n");
    /* Some time, in which the host reads the CPU time before the process is gone. */
    for (u32 i = 0; i < LINGER; i++) __asm__ volatile("");
    *finisher = 0x5555;
}
