/*
 * What a small controller does, in the proportions of CoreMark (none of its code): a linked list that is searched,
 * reversed and merge-sorted, a matrix of 16-bit numbers, a state machine that reads numbers, a bitwise CRC-16.
 */

#include "kernel.h"

#define ITEMS 200
#define SIZE 20

struct item {
    struct item *next;
    u16 key, value;
};

static struct item items[ITEMS];
static short a[SIZE][SIZE], b[SIZE][SIZE];
static i32 c[SIZE][SIZE];
static char text[512];

static u16 crc16(u16 value, u16 crc)
{
    for (int bit = 0; bit < 16; bit++) {
        u16 carry = (crc ^ value) & 1;
        value >>= 1;
        crc >>= 1;
        if (carry) crc ^= 0xa001;
    }
    return crc;
}

static struct item *reverse(struct item *list)
{
    struct item *done = 0;
    while (list) {
        struct item *next = list->next;
        list->next = done;
        done = list;
        list = next;
    }
    return done;
}

static struct item *find(struct item *list, u16 key)
{
    while (list && list->key != key) list = list->next;
    return list;
}

static struct item *merge_sort(struct item *list, int by_value)
{
    if (!list || !list->next) return list;
    struct item *slow = list, *fast = list->next;
    while (fast && fast->next) {
        slow = slow->next;
        fast = fast->next->next;
    }
    struct item *second = slow->next;
    slow->next = 0;
    list = merge_sort(list, by_value);
    second = merge_sort(second, by_value);
    struct item *head = 0, **end = &head;
    while (list && second) {
        int first = by_value ? list->value <= second->value : list->key <= second->key;
        struct item **from = first ? &list : &second;
        *end = *from;
        *from = (*from)->next;
        end = &(*end)->next;
    }
    *end = list ? list : second;
    return head;
}

static u16 lists(u16 crc)
{
    struct item *list = 0;
    for (int i = 0; i < ITEMS; i++) {
        items[i].next = list;
        list = &items[i];
    }
    for (u16 key = 0; key < 30; key++) {
        list = reverse(list);
        struct item *found = find(list, (u16)(key * 7));
        if (found) crc = crc16(found->value, crc);
    }
    list = merge_sort(list, 1);
    crc = crc16(list->key, crc);
    list = merge_sort(list, 0);
    return crc16(list->next->value, crc);
}

static u16 matrices(u16 crc, short scale)
{
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) {
            i32 value = 0;
            for (int k = 0; k < SIZE; k++) value += a[i][k] * b[k][j];
            c[i][j] = value;
        }
    i32 last = 0, total = 0;
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) {
            i32 value = (c[i][j] >> 2 & 15) * (c[i][j] >> 5 & 127) + scale;
            total += value > last ? 10 : 1;
            last = value;
        }
    a[total % SIZE][0] = (short)(total ^ scale);
    return crc16((u16)total, crc);
}

enum state { START, SIGN, WHOLE, POINT, FRACTION, EXPONENT, EXPONENT_SIGN, DIGITS, INVALID, STATES };

static u16 states(u16 crc)
{
    u32 seen[STATES] = {0};
    enum state state = START;
    for (const char *at = text; *at; at++) {
        char letter = *at;
        int digit = letter >= '0' && letter <= '9';
        if (letter == ',') {
            seen[state]++;
            state = START;
            continue;
        }
        switch (state) {
        case START: state = digit ? WHOLE : letter == '+' || letter == '-' ? SIGN : letter == '.' ? POINT : INVALID; break;
        case SIGN: state = digit ? WHOLE : letter == '.' ? POINT : INVALID; break;
        case WHOLE: state = digit ? WHOLE : letter == '.' ? FRACTION : letter == 'e' ? EXPONENT : INVALID; break;
        case POINT: state = digit ? FRACTION : INVALID; break;
        case FRACTION: state = digit ? FRACTION : letter == 'e' ? EXPONENT : INVALID; break;
        case EXPONENT: state = digit ? DIGITS : letter == '+' || letter == '-' ? EXPONENT_SIGN : INVALID; break;
        case EXPONENT_SIGN: state = digit ? DIGITS : INVALID; break;
        case DIGITS: state = digit ? DIGITS : INVALID; break;
        default: break;
        }
    }
    for (int i = 0; i < STATES; i++) crc = crc16((u16)seen[i], crc);
    return crc;
}

static void fill_text(void)
{
    static const char *const samples[] = {"512,", "+3.5,", "-.75e4,", "1.e-9,", "7e+22,", "x15,", "-12.x,", "0.0001,"};
    char *at = text;
    for (u32 i = 0; at < text + sizeof text - 16; i++)
        for (const char *from = samples[i * 5 % 8]; *from;) *at++ = *from++;
    *at = 0;
}

u64 work(u32 rounds)
{
    u64 seed = 4, sum = 0;
    u16 crc = 0;
    for (int i = 0; i < ITEMS; i++) {
        items[i].key = (u16)i;
        items[i].value = (u16)next_random(&seed);
    }
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++) {
            a[i][j] = (short)(next_random(&seed) & 255);
            b[i][j] = (short)(next_random(&seed) & 255);
        }
    fill_text();
    for (u32 round = 0; round < rounds; round++) {
        crc = lists(crc);
        crc = matrices(crc, (short)round);
        crc = states(crc);
        sum = mix(sum, crc);
    }
    return sum;
}
