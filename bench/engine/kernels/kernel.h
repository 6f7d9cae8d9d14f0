/*
 * What every kernel shares: integer types, the console, and the end of the program. There is no libc.
 *
 * A kernel defines `work`. It is called once, between two lines on the console; the host times what is between them, so
 * starting the process is not in the figure. The checksum that `work` returns is the result: every contestant has to
 * print the same. ROUNDS, given on the compiler's command line, says how much work there is; LINGER, how
 * long the program stays behind it.
 */
#ifndef KERNEL_H
#define KERNEL_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef int i32;
typedef long i64;

u64 work(u32 rounds);

/* A small generator: the same numbers everywhere (xorshift64). */
static inline u64 next_random(u64 *state)
{
    u64 x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* Mixes a value into a checksum. */
static inline u64 mix(u64 sum, u64 value)
{
    return (sum ^ value) * 0x9e3779b97f4a7c15ul + (sum >> 29);
}

#endif
