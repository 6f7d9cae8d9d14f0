/* Copies 8 MiB and sorts them (quicksort with insertion sort for short stretches): loads and stores beyond every cache. */

#include "kernel.h"

#define COUNT (1 << 20)
#define SHORT 16

static u64 source[COUNT], target[COUNT];

static void sort(u64 *low, u64 *high)
{
    while (high - low >= SHORT) {
        u64 pivot = low[(high - low) >> 1];
        u64 *i = low, *j = high;
        while (i <= j) {
            while (*i < pivot) i++;
            while (*j > pivot) j--;
            if (i <= j) {
                u64 swapped = *i;
                *i++ = *j;
                *j-- = swapped;
            }
        }
        /* The shorter side by a call, so the stack stays small. */
        if (j - low < high - i) {
            sort(low, j);
            low = i;
        } else {
            sort(i, high);
            high = j;
        }
    }
    for (u64 *i = low + 1; i <= high; i++) {
        u64 value = *i, *j = i;
        for (; j > low && j[-1] > value; j--) *j = j[-1];
        *j = value;
    }
}

u64 work(u32 rounds)
{
    u64 seed = 2, sum = 0;
    for (u32 round = 0; round < rounds; round++) {
        for (u32 i = 0; i < COUNT; i++) source[i] = next_random(&seed);
        for (u32 copy = 0; copy < 8; copy++) {
            for (u32 i = 0; i < COUNT; i++) target[i] = source[i];
            source[copy] ^= target[COUNT - 1 - copy];
        }
        sort(target, target + COUNT - 1);
        for (u32 i = 1; i < COUNT; i++) sum += target[i - 1] <= target[i];
        sum = mix(sum, target[COUNT / 2]);
    }
    return sum;
}
