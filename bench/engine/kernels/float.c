/*
 * Double precision: planets under gravity, a matrix product, a polynomial. Compiled twice: without contraction
 * (additions, multiplications, divisions, roots), and with it (fused multiply-adds).
 */

#include "kernel.h"

#define BODIES 8
#define SIZE 48

struct body {
    double x[3], v[3], mass;
};

static struct body bodies[BODIES];
static double left[SIZE][SIZE], right[SIZE][SIZE], product[SIZE][SIZE];

static double root(double value)
{
    double result;
    __asm__("fsqrt.d %0, %1" : "=f"(result) : "f"(value));
    return result;
}

static u64 bits(double value)
{
    union {
        double value;
        u64 bits;
    } both = {value};
    return both.bits;
}

static void advance(double step)
{
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++) {
            double d[3], square = 0.01;
            for (int k = 0; k < 3; k++) {
                d[k] = bodies[i].x[k] - bodies[j].x[k];
                square += d[k] * d[k];
            }
            double pull = step / (square * root(square));
            for (int k = 0; k < 3; k++) {
                bodies[i].v[k] -= d[k] * bodies[j].mass * pull;
                bodies[j].v[k] += d[k] * bodies[i].mass * pull;
            }
        }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++) bodies[i].x[k] += step * bodies[i].v[k];
}

static double polynomial(double x)
{
    double value = 1.0 / 39916800;
    value = value * x + 1.0 / 3628800;
    value = value * x + 1.0 / 362880;
    value = value * x + 1.0 / 40320;
    value = value * x + 1.0 / 5040;
    value = value * x + 1.0 / 720;
    value = value * x + 1.0 / 120;
    value = value * x + 1.0 / 24;
    value = value * x + 1.0 / 6;
    value = value * x + 1.0 / 2;
    value = value * x + 1.0;
    return value * x + 1.0;
}

u64 work(u32 rounds)
{
    u64 seed = 3, sum = 0;
    for (int i = 0; i < BODIES; i++) {
        for (int k = 0; k < 3; k++) {
            bodies[i].x[k] = (double)(next_random(&seed) >> 40) / 1048576;
            bodies[i].v[k] = (double)(next_random(&seed) >> 40) / 16777216 - 0.5;
        }
        bodies[i].mass = 1.0 + i;
    }
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) {
            left[i][j] = (double)(next_random(&seed) >> 44) / 65536 - 8;
            right[i][j] = (double)(next_random(&seed) >> 44) / 65536 - 8;
        }
    for (u32 round = 0; round < rounds; round++) {
        for (int i = 0; i < 40; i++) advance(0.001);
        for (int i = 0; i < SIZE; i++)
            for (int j = 0; j < SIZE; j++) {
                double value = 0;
                for (int k = 0; k < SIZE; k++) value += left[i][k] * right[k][j];
                product[i][j] = value;
            }
        double curve = 0;
        for (int i = 0; i < 2000; i++) curve += polynomial((double)i / 2000);
        left[round % SIZE][0] = product[0][round % SIZE] / 4096;
        sum = mix(sum, bits(curve));
        sum = mix(sum, bits(product[round % SIZE][3]));
        sum = mix(sum, bits(bodies[round % BODIES].x[0]));
    }
    return sum;
}
