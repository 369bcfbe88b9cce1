/*
 * forge.h - a mutator for inputs made of numbers: a word becomes one that bounds are about.
 */
#ifndef FORGE_H
#define FORGE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t bytes, size_t max);

/* Write a number of 1, 2, 4 or 8 bytes at a place that is a multiple of its size, as in structures; sometimes
 * many times. */
static inline void forge_word(uint8_t *data, size_t bytes, unsigned seed) {
    static const uint64_t values[] = {0,          1,          2,           4,          8,
                                      16,         32,         40,          127,        128,
                                      255,        4095,       4096,        65535,      0x7fffffff,
                                      0x80000000, 0xfffffff8, 0xfffffffc,  0xfffffffe, 0xffffffff,
                                      1ULL << 32, 1ULL << 62, ~0ULL >> 1,  1ULL << 63, ~0ULL - 7,
                                      ~0ULL - 3,  ~0ULL,      ~0ULL << 12, 24,         64};
    uint64_t value = values[seed % (sizeof values / sizeof *values)];
    seed /= sizeof values / sizeof *values;
    size_t width = (size_t)1 << seed % 4;
    if (bytes < width)
        return;
    size_t at = (size_t)(seed / 4) % (bytes / width) * width;
    size_t times = rand() % 8 == 0 ? 1 + (size_t)rand() % 64 : 1;
    for (; times > 0 && at + width <= bytes; times--, at += width)
        memcpy(data + at, &value, width);
}

static inline size_t forge(uint8_t *data, size_t bytes, size_t max, unsigned seed) {
    srand(seed);
    if (bytes == 0 || rand() % 2 == 0)
        return LLVMFuzzerMutate(data, bytes, max);
    for (int i = rand() % 3; i >= 0; i--)
        forge_word(data, bytes, (unsigned)rand());
    return bytes;
}

#endif
