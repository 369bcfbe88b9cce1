/*
 * holder.c - a process that holds memory, for what a profiler adds to it and what reading it costs.
 *
 *   holder bytes N          N bytes in blocks of 64 bytes to 64 KiB, every page touched
 *   holder sites STACKS     STACKS call stacks (a power of two), each with 64 live blocks of 64 sizes
 *
 * Prints `ready RSS_KIB`, with RSS from /proc/self/status, and lives until its input ends.
 *
 * Build: gcc -O2 -fomit-frame-pointer holder.c
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))
#define SIZES 64

static volatile int sink;
static unsigned path;

static void keep(size_t size) {
    char *block = malloc(size);
    if (block == NULL)
        abort();
    memset(block, 1, size);
    sink += block[0];
}

static NOINLINE void hold_bytes(uint64_t bytes) {
    uint64_t random = 1;
    for (uint64_t held = 0; held < bytes;) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        size_t base = 64u << ((random >> 40) % 10);
        size_t size = base + (random >> 50) % base;
        keep(size);
        held += size;
    }
}

/* Sizes of distinct classes: a class is at most 1/64 wide. */
static NOINLINE void hold_sizes(void) {
    for (unsigned i = 1; i <= SIZES; i++)
        keep(i * 2);
    sink++;
}

/* One bit of the path decides at each level who calls the next. */
static NOINLINE void descend(unsigned bits);

static NOINLINE void descend_0(unsigned bits) {
    descend(bits);
    sink++;
}

static NOINLINE void descend_1(unsigned bits) {
    descend(bits);
    sink += 2;
}

static NOINLINE void descend(unsigned bits) {
    if (bits == 0)
        hold_sizes();
    else if (path >> (bits - 1) & 1)
        descend_1(bits - 1);
    else
        descend_0(bits - 1);
    sink++;
}

static void hold_sites(unsigned stacks) {
    unsigned bits = 0;
    while (1u << bits < stacks)
        bits++;
    for (path = 0; path < stacks; path++)
        descend(bits);
}

static long rss_kib(void) {
    char text[8192];
    FILE *file = fopen("/proc/self/status", "r");
    size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
    text[n] = '\0';
    const char *line = strstr(text, "VmRSS:");
    return line ? atol(line + 6) : -1;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    if (strcmp(argv[1], "bytes") == 0)
        hold_bytes(strtoull(argv[2], NULL, 10));
    else
        hold_sites((unsigned)atoi(argv[2]));
    printf("ready %ld\n", rss_kib());
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    return 0;
}
