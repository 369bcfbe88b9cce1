/*
 * near_peaks.c - a target with three moments that are nearly as high as each other, and a low one; and with much that is
 * thrown away at once.
 *
 * near_peaks     `first`, `second`, `third` and `low` each hold blocks of 96 bytes, one after the other, and free them.
 *                For each it prints "FUNCTION bytes" from its own count; `second` holds most, by 1 %.
 *                `churn` then makes 6000 blocks of 400 bytes, each freed before the next.
 */
#include "target.h"

enum { SIZE = 96, MOST = 6060 };

static void *held[MOST];

#define PHASE(name, count)                                                                         \
    __attribute__((noinline)) static void *name(void) {                                            \
        return keep(malloc(SIZE));                                                                 \
    }                                                                                              \
    static void name##_phase(void) {                                                               \
        size_t bytes = 0;                                                                          \
        for (int i = 0; i < (count); i++) {                                                        \
            held[i] = name();                                                                      \
            bytes += SIZE;                                                                         \
        }                                                                                          \
        for (int i = 0; i < (count); i++)                                                          \
            free(held[i]);                                                                         \
        printf("%s %zu\n", #name, bytes);                                                          \
    }

PHASE(first, 6000)
PHASE(second, 6060)
PHASE(third, 6000)
PHASE(low, 1500)

__attribute__((noinline)) static void churn(void) {
    for (int i = 0; i < 6000; i++)
        free(keep(malloc(400)));
}

int main(void) {
    first_phase();
    second_phase();
    third_phase();
    low_phase();
    churn();
    return 0;
}
