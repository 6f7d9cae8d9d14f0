/*
 * A register bytecode machine that runs a sieve and Collatz chains: one indirect jump per bytecode, as in every
 * language's interpreter.
 */

#include "kernel.h"

enum { LOAD, MOVE, ADD, ADDI, MUL, SHIFT_RIGHT, AND, LESS, JUMP, JUMP_IF, JUMP_UNLESS, GET, PUT, HALT, OPERATIONS };

struct operation {
    u8 code, a, b, c;
    i32 value;
};

#define LIMIT 4096
static i64 memory[LIMIT];

/* r0: limit, r1: i, r2: j, r3: found, r4 … r7: scratch. */
static const struct operation sieve[] = {
    {LOAD, 0, 0, 0, LIMIT},    /*  0 limit */
    {LOAD, 1, 0, 0, 2},        /*  1 i = 2 */
    {LOAD, 3, 0, 0, 0},        /*  2 found = 0 */
    {LESS, 4, 1, 0, 0},        /*  3 while i < limit */
    {JUMP_UNLESS, 4, 0, 0, 17}, /*  4 */
    {GET, 5, 1, 0, 0},         /*  5 if memory[i] is clear */
    {JUMP_IF, 5, 0, 0, 14},    /*  6 */
    {ADDI, 3, 3, 0, 1},        /*  7 found++ */
    {ADD, 2, 1, 1, 0},         /*  8 j = 2 i */
    {LOAD, 6, 0, 0, 1},        /*  9 */
    {LESS, 4, 2, 0, 0},        /* 10 while j < limit */
    {JUMP_UNLESS, 4, 0, 0, 14}, /* 11 */
    {PUT, 6, 2, 0, 0},         /* 12 memory[j] = 1 */
    {JUMP, 0, 0, 0, 15},       /* 13 */
    {JUMP, 0, 0, 0, 18},       /* 14 */
    {ADD, 2, 2, 1, 0},         /* 15 j += i */
    {JUMP, 0, 0, 0, 10},       /* 16 */
    {HALT, 3, 0, 0, 0},        /* 17 */
    {ADDI, 1, 1, 0, 1},        /* 18 i++ */
    {JUMP, 0, 0, 0, 3},        /* 19 */
};

/* r0: n, r1: steps in all, r2: last start, r3: start. */
static const struct operation collatz[] = {
    {LOAD, 3, 0, 0, 1},        /*  0 */
    {LOAD, 1, 0, 0, 0},        /*  1 */
    {LOAD, 2, 0, 0, 1000},     /*  2 */
    {LOAD, 7, 0, 0, 1},        /*  3 */
    {LESS, 4, 3, 2, 0},        /*  4 while start < last */
    {JUMP_UNLESS, 4, 0, 0, 18}, /*  5 */
    {MOVE, 0, 3, 0, 0},        /*  6 n = start */
    {LESS, 4, 7, 0, 0},        /*  7 while 1 < n */
    {JUMP_UNLESS, 4, 0, 0, 16}, /*  8 */
    {ADDI, 1, 1, 0, 1},        /*  9 steps++ */
    {AND, 5, 0, 7, 0},         /* 10 */
    {JUMP_IF, 5, 0, 0, 14},    /* 11 odd? */
    {SHIFT_RIGHT, 0, 0, 0, 1}, /* 12 n /= 2 */
    {JUMP, 0, 0, 0, 7},        /* 13 */
    {MUL, 0, 0, 0, 3},         /* 14 n = 3 n + 1 */
    {JUMP, 0, 0, 0, 19},       /* 15 */
    {ADDI, 3, 3, 0, 1},        /* 16 start++ */
    {JUMP, 0, 0, 0, 4},        /* 17 */
    {HALT, 1, 0, 0, 0},        /* 18 */
    {ADDI, 0, 0, 0, 1},        /* 19 */
    {JUMP, 0, 0, 0, 7},        /* 20 */
};

static i64 run(const struct operation *program)
{
    i64 r[8] = {0};
    const struct operation *at = program;
    for (;;) {
        const struct operation *now = at++;
        switch (now->code) {
        case LOAD: r[now->a] = now->value; break;
        case MOVE: r[now->a] = r[now->b]; break;
        case ADD: r[now->a] = r[now->b] + r[now->c]; break;
        case ADDI: r[now->a] = r[now->b] + now->value; break;
        case MUL: r[now->a] = r[now->b] * now->value; break;
        case SHIFT_RIGHT: r[now->a] = r[now->b] >> now->value; break;
        case AND: r[now->a] = r[now->b] & r[now->c]; break;
        case LESS: r[now->a] = r[now->b] < r[now->c]; break;
        case JUMP: at = program + now->value; break;
        case JUMP_IF: if (r[now->a]) at = program + now->value; break;
        case JUMP_UNLESS: if (!r[now->a]) at = program + now->value; break;
        case GET: r[now->a] = memory[r[now->b]]; break;
        case PUT: memory[r[now->b]] = r[now->a]; break;
        default: return r[now->a];
        }
    }
}

u64 work(u32 rounds)
{
    u64 sum = 0;
    for (u32 round = 0; round < rounds; round++) {
        for (u32 i = 0; i < LIMIT; i++) memory[i] = 0;
        memory[2 + round % 64] = 1;
        sum = mix(sum, (u64)run(sieve));
        sum = mix(sum, (u64)run(collatz));
    }
    return sum;
}
