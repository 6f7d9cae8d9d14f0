/*
 * Two guests of `npm run bench:papers`, on the kernels' start code: one writes (REQUEST_TYPE 1) and one reads (0) 8 KiB of the disk
 * again and again, at changing places, computes a little in between, and waits for each answer in WFI, as Bressoud &
 * Schneider's do. Slot 0 of virtio-mmio is a virtio-blk (virtio 1.2, 4.2.2 and 5.2).
 */

#include "kernel.h"

#define BLOCK_BYTES 8192
#define QUEUE 8

static volatile u32 *const disk = (volatile u32 *)0x10001000;
static volatile u32 *const plic = (volatile u32 *)0x0c000000;

struct descriptor { u64 address; u32 length; unsigned short flags, next; };
static struct descriptor table[QUEUE] __attribute__((aligned(16)));
static struct { unsigned short flags, index, ring[QUEUE], used_event; } available __attribute__((aligned(16)));
static volatile struct { unsigned short flags, index; struct { u32 head, length; } ring[QUEUE]; } used __attribute__((aligned(16)));
static struct { u32 type, reserved; u64 sector; } request;
static volatile u8 status;
static u8 block[BLOCK_BYTES];

static void set_address(u32 at, const volatile void *address)
{
    disk[at / 4] = (u32)(u64)address;
    disk[at / 4 + 1] = (u32)((u64)address >> 32);
}

static void start_disk(void)
{
    disk[0x070 / 4] = 3;
    disk[0x024 / 4] = 1;
    disk[0x020 / 4] = 1; /* VERSION_1 */
    disk[0x070 / 4] = 11;
    disk[0x030 / 4] = 0;
    disk[0x038 / 4] = QUEUE;
    set_address(0x080, table);
    set_address(0x090, &available);
    set_address(0x0a0, &used);
    disk[0x044 / 4] = 1;
    disk[0x070 / 4] = 15;
    plic[1] = 1;            /* priority of line 1 */
    plic[0x2000 / 4] = 2;   /* enabled for M mode */
    __asm__ volatile("csrs mie, %0" : : "r"(1 << 11));
}

static void move(u32 type, u64 sector)
{
    request.type = type;
    request.sector = sector;
    table[0] = (struct descriptor){(u64)&request, 16, 1, 1};
    table[1] = (struct descriptor){(u64)block, BLOCK_BYTES, type == 0 ? 3 : 1, 2};
    table[2] = (struct descriptor){(u64)&status, 1, 2, 0};
    unsigned short before = used.index;
    available.ring[available.index % QUEUE] = 0;
    __asm__ volatile("fence" : : : "memory");
    available.index++;
    __asm__ volatile("fence" : : : "memory");
    disk[0x050 / 4] = 0;
    while (used.index == before) __asm__ volatile("wfi" : : : "memory");
    disk[0x064 / 4] = disk[0x060 / 4];
    u32 line = plic[0x200004 / 4];
    if (line) plic[0x200004 / 4] = line;
}

static u64 compute(u64 rounds)
{
    u64 sum = 1;
    for (u64 i = 0; i < rounds; i++) {
        sum = sum * 6364136223846793005ul + i;
        block[sum % BLOCK_BYTES] ^= (u8)(sum >> 33);
    }
    return sum;
}

u64 work(u32 rounds)
{
    start_disk();
    u64 sum = 0;
    for (u64 i = 0; i < rounds; i++) {
        sum += compute(10000);
        move(REQUEST_TYPE, sum % 64 * (BLOCK_BYTES / 512));
    }
    return sum;
}
