/* Fibonacci numbers and the Ackermann function, both by plain recursion: calls, returns, and the stack. */

#include "kernel.h"

/* Optimizations that turn the recursion into something else would measure something else. */
#define PLAIN __attribute__((noinline, optimize("no-optimize-sibling-calls", "no-inline", "no-ipa-cp", "no-tree-pre")))

static PLAIN u64 fibonacci(u32 n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static PLAIN u64 ackermann(u64 m, u64 n)
{
    if (m == 0) return n + 1;
    return ackermann(m - 1, n == 0 ? 1 : ackermann(m, n - 1));
}

u64 work(u32 rounds)
{
    u64 sum = 0;
    for (u32 round = 0; round < rounds; round++) {
        sum = mix(sum, fibonacci(24 + (round & 3)));
        sum = mix(sum, ackermann(2, 200 + (round & 7)));
        sum = mix(sum, ackermann(3, 5));
    }
    return sum;
}
