/*
 * mix.c - known amounts of memory at known places, each block freed at once: what estimates are held against.
 *
 * mix ROUNDS: one thread. small_blocks, even_blocks, large_blocks have one size each; mixed_blocks has
 * sizes from 1 to 30000 at one place, most of them small. mix ROUNDS THREADS: as many threads besides, one
 * after the other, each allocating a single block in first_block.
 * Prints per function: its name, blocks, bytes.
 */
#include "target.h"

#include <pthread.h>
#include <stdint.h>

static uint64_t state = 88172645463325252ULL;

static uint64_t next_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void small_blocks(unsigned n) {
    for (unsigned i = 0; i < n; i++)
        free(keep(malloc(48)));
}

static void even_blocks(unsigned n) {
    for (unsigned i = 0; i < n; i++)
        free(keep(malloc(1024)));
}

static void large_blocks(unsigned n) {
    for (unsigned i = 0; i < n; i++)
        free(keep(calloc(10, 1000)));
}

static uint64_t mixed_blocks(unsigned n) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        uint64_t r = next_random();
        size_t size = 1 + (r >> 8) % (r & 3 ? 200 : 30000);
        bytes += size;
        free(keep(malloc(size)));
    }
    return bytes;
}

static void *first_block(void *unused) {
    free(keep(malloc(700)));
    return unused;
}

int main(int argc, char **argv) {
    unsigned n = (unsigned)atoi(argv[1]), threads = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    small_blocks(20 * n);
    even_blocks(2 * n);
    large_blocks(n);
    uint64_t mixed_bytes = mixed_blocks(4 * n);
    for (unsigned i = 0; i < threads; i++) {
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, first_block, NULL) == 0);
        pthread_join(thread, NULL);
    }
    say("small_blocks %u %llu", 20 * n, 48ULL * 20 * n);
    say("even_blocks %u %llu", 2 * n, 1024ULL * 2 * n);
    say("large_blocks %u %llu", n, 10000ULL * n);
    say("mixed_blocks %u %llu", 4 * n, (unsigned long long)mixed_bytes);
    say("first_block %u %llu", threads, 700ULL * threads);
    return 0;
}
