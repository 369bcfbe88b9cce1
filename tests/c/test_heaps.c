/*
 * test_heaps.c - blocks of a program's allocators in the device tables: many threads, resets, lists that are cleaned.
 */
#include "device/heaps.h"
#include "device_segment.h"

#include <pthread.h>

#define THREADS 4
#define ROUNDS 3000

static __attribute__((noinline)) void alloc_in_pool(const struct mp_heap *heap, uint64_t pool,
                                                    uint64_t address, uint64_t bytes) {
    struct mp_heap_block block = {
        .address = address, .bytes = bytes, .pool = pool, .api_pc = (uintptr_t)alloc_in_pool};
    MP_CALLER(block.caller);
    mp_heap_alloc(heap, &block);
}

static void alloc_in(const struct mp_heap *heap, uint64_t address, uint64_t bytes) {
    alloc_in_pool(heap, 0, address, bytes);
}

static void test_reset(void) {
    CASE("a reset ends the blocks of its heap alone");
    struct mp_heap_words words[2] = {{0}};
    struct mp_heap first = {&words[0], "one", MP_MEMORY_HEAP_EXACT, true};
    struct mp_heap second = {&words[1], "one", MP_MEMORY_HEAP_EXACT, true};
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    for (uint64_t i = 1; i <= 300; i++)
        alloc_in(i % 2 ? &first : &second, i << 12, 100);
    CHECK_EQ(live_rows(), 300);
    mp_heap_reset(&first);
    CHECK_EQ(live_rows(), 150);
    CHECK_EQ(sums(0, 1).freed_blocks, 150);
    CASE("an address that another heap has now is not this one's, whose list still names it");
    alloc_in(&first, 0x7000000, 8);
    mp_heap_free(&first, 0x7000000);
    alloc_in(&second, 0x7000000, 8);
    mp_heap_reset(&first);
    CHECK_EQ(live_rows(), 151);
    mp_heap_reset(&second);
    CHECK_EQ(live_rows(), 0);
    CASE("a block may be ended by another object of the heap's name");
    struct mp_heap_words fresh = {0};
    struct mp_heap third = {&fresh, "one", MP_MEMORY_HEAP_EXACT, false};
    alloc_in(&first, 0x7000000, 8);
    mp_heap_free(&third, 0x7000000);
    CHECK_EQ(live_rows(), 0);
    close_segment();
}

static void test_pools(void) {
    CASE("the end of a pool ends its blocks alone, more pools than are remembered too");
    struct mp_heap_words words = {0}, more = {0};
    struct mp_heap heap = {&words, "pools", MP_MEMORY_HEAP_EXACT, false};
    struct mp_heap other = {&more, "pools", MP_MEMORY_HEAP_EXACT, false};
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    for (uint64_t i = 1; i <= 6000; i++)
        alloc_in_pool(&heap, 0x1000 * (1 + i % 3000), i << 12, 100);
    alloc_in(&heap, 0x9000000, 100);
    CHECK_EQ(live_rows(), 6001);
    mp_heap_end_pool(&other, 0x1000);
    CHECK_EQ(live_rows(), 5999);
    for (uint64_t pool = 2; pool <= 3000; pool++)
        mp_heap_end_pool(&heap, 0x1000 * pool);
    CHECK_EQ(live_rows(), 1);
    mp_heap_reset(&heap);
    CHECK_EQ(live_rows(), 0);
    close_segment();
}

static void test_lists_are_cleaned(void) {
    CASE("a heap whose blocks are freed one by one keeps no more nodes than it needs");
    struct mp_heap_words words = {0}, other = {0};
    struct mp_heap churned = {&words, "churned", MP_MEMORY_HEAP_EXACT, true};
    struct mp_heap arena = {&other, "arena", MP_MEMORY_HEAP_EXACT, true};
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    for (uint64_t i = 0; i < 40000; i++) {
        alloc_in(&churned, (1 + i % 7) << 12, 10);
        mp_heap_free(&churned, (1 + i % 7) << 12);
    }
    CHECK((uint32_t)words.counts <= 64);
    alloc_in(&arena, 0x100000, 1);
    CHECK_EQ((uint32_t)other.counts, 1);
    mp_heap_reset(&arena);
    CHECK_EQ(live_rows(), 0);
    CASE("more blocks than nodes: the reset finds them all the same");
    for (uint64_t i = 1; i <= 3000; i++)
        alloc_in(&arena, i << 12, 1);
    CHECK_EQ((uint32_t)other.counts >> 31, 1);
    mp_heap_reset(&arena);
    CHECK_EQ(live_rows(), 0);
    CHECK_EQ(sums(0, 1).alloc_blocks, sums(0, 1).freed_blocks);
    close_segment();
}

static void test_forged_words(void) {
    CASE("words that the program overwrote end no list in what is not ours");
    struct mp_heap_words words = {0};
    struct mp_heap heap = {&words, "forged", MP_MEMORY_HEAP_EXACT, true};
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    alloc_in(&heap, 0x1000, 1);
    words.list = words.list | 0x7fffffff;
    mp_heap_reset(&heap);
    words.domain |= 0xffff;
    alloc_in(&heap, 0x2000, 1);
    mp_heap_free(&heap, 0x2000);
    close_segment();
}

static struct mp_heap_words shared_words;
static const struct mp_heap shared = {&shared_words, "shared", MP_MEMORY_HEAP_EXACT, true};

static void *use(void *ordinal) {
    uint64_t base = (1 + (uint64_t)(uintptr_t)ordinal) << 32;
    struct mp_heap_words words = {0};
    struct mp_heap own = {&words, "own", MP_MEMORY_HEAP_EXACT, true};
    for (uint64_t i = 0; i < ROUNDS; i++) {
        alloc_in(&shared, base + ((i % 50) << 4), 16);
        if (i % 3 != 0)
            mp_heap_free(&shared, base + ((i % 50) << 4));
        alloc_in(&own, base + (1 << 20) + (i << 4), 32);
        if (i % 20 == 0)
            mp_heap_reset(&own);
    }
    mp_heap_reset(&own);
    return NULL;
}

static void test_threads(void) {
    CASE("threads that share a heap, and reset their own");
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, use, (void *)i);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(sums(mp_domain_intern("own", -1, MP_MEMORY_HEAP_EXACT), 1).freed_blocks,
             THREADS * ROUNDS);
    struct mp_device_site_row s = sums(mp_domain_intern("shared", -1, MP_MEMORY_HEAP_EXACT), 1);
    CHECK_EQ(s.alloc_blocks, THREADS * ROUNDS);
    CHECK_EQ(s.alloc_blocks - s.freed_blocks, live_rows());
    mp_heap_reset(&shared);
    CHECK_EQ(live_rows(), 0);
    close_segment();
}

int main(void) {
    start_unwinder();
    mp_local.epoch = 1;
    if (CHECK_ONE_THREAD) {
        test_reset();
        test_pools();
        mp_heaps_forget();
        test_lists_are_cleaned();
        mp_heaps_forget();
        test_forged_words();
        mp_heaps_forget();
    }
    test_threads();
    return check_end();
}
