/*
 * mem_profiler.h - report the blocks of your own allocator to mem_profiler: of arenas, pools, caches, slabs.
 *
 *     static struct mem_profiler_heap heap = MEM_PROFILER_HEAP("requests", MEM_PROFILER_ARENA);
 *
 *     void *arena_alloc(struct arena *a, size_t n) {
 *         void *block = ...;
 *         mem_profiler_report_allocation(&heap, block, n);
 *         return block;
 *     }
 *
 * Nothing to link: without a sampler a report is one load and one branch that is not taken. A sampler, preloaded or
 * attached later, finds a note in each program and library that includes this file, and through it a pointer, which it
 * fills. So executables need no -rdynamic, may be stripped, and nothing is exported. An executable without a dynamic
 * loader (-static) can have no sampler. Define MEM_PROFILER_DISABLE before the #include to report nothing at all.
 *
 * Heaps. The blocks of a heap are the domain "heap-<name>" of a profile, in a file of their own; heaps of one name and
 * the same flags share it (a thousand arenas are one domain). Of a name count 39 bytes; other characters than letters,
 * digits, '-' and '_' become '_'. A profile holds 63 domains; blocks of further ones are counted as lost. The object is
 * yours, and has to stay at its place until mem_profiler_heap_end(): do not copy it once it was reported to.
 *
 * Sampling. As with malloc a block of s bytes is a sample with the chance 1 - exp(-s/T), at the rate T of the capture;
 * with MEM_PROFILER_EXACT every block is one, for allocators of few and large blocks.
 *
 * Totals. Most allocators cut their blocks from those of malloc, which counts these already: a heap is shown beside it
 * and never added. MEM_PROFILER_OWN_PAGES says that its memory comes from elsewhere (mmap, shared memory).
 *
 * What to report when:
 *   allocation  after you have the block, before another thread can get it. `block` NULL: ignored.
 *   free        before another thread can get the block again.
 *   resize      after it succeeded, in the allocator's own lock if another thread could get the old address already;
 *               the block ends and begins, perhaps at the same address, as for realloc.
 *   reset       when all blocks of the heap ended, before the first new one. No other report of this heap at the same
 *               time. With MEM_PROFILER_ARENA it costs what the sampled blocks are, else a search in all live ones.
 *   end         the same, before the object goes.
 * A block reported where one is in use ends that one; `repeated` counts it. A free of an unknown block changes nothing;
 * with MEM_PROFILER_EXACT `unknown` counts it. Blocks from before a capture are unknown to it.
 *
 * Pools. Many pools can share one heap: mem_profiler_report_pool_allocation() also has the address that a pool is known
 * by, and mem_profiler_pool_end() ends all blocks of that pool, which mem_profiler_heap_reset() does not. It searches
 * all live blocks of heaps if the pool had a sample.
 *
 * Requests to Valgrind. A program that is built for Valgrind (PostgreSQL with USE_VALGRIND) has VALGRIND_MEMPOOL_ALLOC,
 * _FREE, _CHANGE and VALGRIND_DESTROY_MEMPOOL. It reports by them, and tells Valgrind nothing of pools, if it is
 * compiled with `-include mem_profiler.h -DMEM_PROFILER_POOL_REQUESTS='"contexts"'`, the name of a heap. A pool that is
 * destroyed and made again was reset. Not of use: VALGRIND_MOVE_MEMPOOL, VALGRIND_MEMPOOL_TRIM, and ASan's poisoning:
 * what is poisoned may be a block, its edge, or a chunk before it goes.
 *
 * Threads: all reports from any thread, in signal handlers, and under locks of yours. They take no lock, allocate
 * nothing and leave errno alone. After fork() the child reports to its own capture, if it has one.
 *
 * Versions: fields are only appended; `bytes` says how many there are on each side.
 */
#ifndef MEM_PROFILER_H
#define MEM_PROFILER_H

#include <stddef.h>
#include <stdint.h>

#ifdef MEM_PROFILER_POOL_REQUESTS
#include <valgrind/valgrind.h> /* here, so that it defines nothing later */
#endif

#define MEM_PROFILER_VERSION 1
#define MEM_PROFILER_NAME_BYTES 40

#define MEM_PROFILER_SAMPLED 0u
#define MEM_PROFILER_EXACT 1u     /* every block is a sample */
#define MEM_PROFILER_OWN_PAGES 2u /* no memory of malloc */
#define MEM_PROFILER_ARENA 4u     /* its blocks end mostly by resets */

#ifdef __cplusplus
extern "C" {
#endif

struct mem_profiler_heap {
    uint32_t bytes; /* sizeof(struct mem_profiler_heap) */
    uint32_t flags;
    uint64_t of_sampler[4]; /* zeros; the sampler's own */
    char name[MEM_PROFILER_NAME_BYTES];
};

#define MEM_PROFILER_HEAP(name, flags)                                                             \
    {sizeof(struct mem_profiler_heap), (flags), {0, 0, 0, 0}, name}

/* The sampler's functions. */
struct mem_profiler_calls {
    uint32_t bytes;
    uint32_t version;
    void (*allocated)(struct mem_profiler_heap *heap, const void *block, size_t bytes);
    void (*freed)(struct mem_profiler_heap *heap, const void *block);
    void (*resized)(struct mem_profiler_heap *heap, const void *before, const void *after,
                    size_t bytes);
    void (*emptied)(struct mem_profiler_heap *heap);
    void (*allocated_in)(struct mem_profiler_heap *heap, const void *pool, const void *block,
                         size_t bytes);
    void (*emptied_pool)(struct mem_profiler_heap *heap, const void *pool);
};

#if defined(__linux__) && defined(__LP64__) && (defined(__x86_64__) || defined(__aarch64__)) &&    \
    defined(__GNUC__) && !defined(MEM_PROFILER_DISABLE)

/* One in each program and library. */
__attribute__((weak, used, visibility("hidden")))
const struct mem_profiler_calls *mem_profiler_calls_1 = NULL;

/* Where it is: type 1 of "mem_profiler", eight bytes from here to there. */
__asm__(".pushsection .note.mem_profiler,\"a\",%note\n"
        ".balign 4\n"
        ".4byte 13, 8, 1\n"
        ".asciz \"mem_profiler\"\n"
        ".balign 4\n"
        ".8byte mem_profiler_calls_1 - .\n"
        ".popsection\n");

#define MEM_PROFILER_CALL(function, ...)                                                           \
    do {                                                                                           \
        const struct mem_profiler_calls *calls_ =                                                  \
            __atomic_load_n(&mem_profiler_calls_1, __ATOMIC_ACQUIRE);                              \
        if (__builtin_expect(calls_ != NULL, 0))                                                   \
            calls_->function(__VA_ARGS__);                                                         \
    } while (0)
#define MEM_PROFILER_INLINE static inline __attribute__((always_inline, unused))
#else
#define MEM_PROFILER_CALL(function, ...) mem_profiler_ignore(__VA_ARGS__)
#define MEM_PROFILER_INLINE static inline
MEM_PROFILER_INLINE void mem_profiler_ignore(struct mem_profiler_heap *heap, ...) {
    (void)heap;
}
#endif

/* For heaps that are made at run time; of `name` the first bytes are kept. */
MEM_PROFILER_INLINE void mem_profiler_heap_init(struct mem_profiler_heap *heap, const char *name,
                                                uint32_t flags) {
    size_t i = 0;
    heap->bytes = (uint32_t)sizeof *heap;
    heap->flags = flags;
    for (size_t k = 0; k < 4; k++)
        heap->of_sampler[k] = 0;
    for (; i + 1 < MEM_PROFILER_NAME_BYTES && name[i] != '\0'; i++)
        heap->name[i] = name[i];
    for (; i < MEM_PROFILER_NAME_BYTES; i++)
        heap->name[i] = '\0';
}

MEM_PROFILER_INLINE void mem_profiler_report_allocation(struct mem_profiler_heap *heap,
                                                        const void *block, size_t bytes) {
    MEM_PROFILER_CALL(allocated, heap, block, bytes);
}

MEM_PROFILER_INLINE void mem_profiler_report_free(struct mem_profiler_heap *heap,
                                                  const void *block) {
    MEM_PROFILER_CALL(freed, heap, block);
}

MEM_PROFILER_INLINE void mem_profiler_report_resize(struct mem_profiler_heap *heap,
                                                    const void *before, const void *after,
                                                    size_t bytes) {
    MEM_PROFILER_CALL(resized, heap, before, after, bytes);
}

MEM_PROFILER_INLINE void mem_profiler_report_pool_allocation(struct mem_profiler_heap *heap,
                                                             const void *pool, const void *block,
                                                             size_t bytes) {
    MEM_PROFILER_CALL(allocated_in, heap, pool, block, bytes);
}

MEM_PROFILER_INLINE void mem_profiler_pool_end(struct mem_profiler_heap *heap, const void *pool) {
    MEM_PROFILER_CALL(emptied_pool, heap, pool);
}

MEM_PROFILER_INLINE void mem_profiler_heap_reset(struct mem_profiler_heap *heap) {
    MEM_PROFILER_CALL(emptied, heap);
}

MEM_PROFILER_INLINE void mem_profiler_heap_end(struct mem_profiler_heap *heap) {
    mem_profiler_heap_reset(heap);
}

#ifdef MEM_PROFILER_POOL_REQUESTS
__attribute__((unused)) static struct mem_profiler_heap mem_profiler_pools =
    MEM_PROFILER_HEAP(MEM_PROFILER_POOL_REQUESTS, MEM_PROFILER_SAMPLED);

#undef VALGRIND_MEMPOOL_ALLOC
#undef VALGRIND_MEMPOOL_FREE
#undef VALGRIND_MEMPOOL_CHANGE
#undef VALGRIND_DESTROY_MEMPOOL
#define VALGRIND_MEMPOOL_ALLOC(pool, block, bytes)                                                 \
    mem_profiler_report_pool_allocation(&mem_profiler_pools, (pool), (block), (bytes))
#define VALGRIND_MEMPOOL_FREE(pool, block) mem_profiler_report_free(&mem_profiler_pools, (block))
#define VALGRIND_MEMPOOL_CHANGE(pool, before, after, bytes)                                        \
    do {                                                                                           \
        VALGRIND_MEMPOOL_FREE(pool, before);                                                       \
        VALGRIND_MEMPOOL_ALLOC(pool, after, bytes);                                                \
    } while (0)
#define VALGRIND_DESTROY_MEMPOOL(pool) mem_profiler_pool_end(&mem_profiler_pools, (pool))
#endif

#ifdef __cplusplus
}
#endif

#endif
