/*
 * arena.h - an arena that reports its blocks to mem_profiler: they are freed all at once.
 *
 *     cc -I"$(python3 -c 'import mem_profiler; print(mem_profiler.include_path())')" ...
 */
#ifndef ARENA_H
#define ARENA_H

#include <mem_profiler.h>

#include <stddef.h>
#include <stdlib.h>

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, bytes;
    _Alignas(16) char data[];
};

struct arena {
    struct mem_profiler_heap heap;
    struct arena_chunk *chunks;
};

/* `name` is what the profile calls it: heap-<name>. Arenas of one name are one. */
static inline void arena_init(struct arena *a, const char *name) {
    mem_profiler_heap_init(&a->heap, name, MEM_PROFILER_ARENA);
    a->chunks = NULL;
}

static inline void *arena_alloc(struct arena *a, size_t bytes) {
    struct arena_chunk *chunk = a->chunks;
    bytes = (bytes + 15) & ~(size_t)15;
    if (chunk == NULL || chunk->bytes - chunk->used < bytes) {
        size_t room = bytes > 65536 ? bytes : 65536;
        chunk = malloc(sizeof *chunk + room);
        if (chunk == NULL)
            return NULL;
        *chunk = (struct arena_chunk){.next = a->chunks, .bytes = room};
        a->chunks = chunk;
    }
    void *block = chunk->data + chunk->used;
    chunk->used += bytes;
    mem_profiler_report_allocation(&a->heap, block, bytes);
    return block;
}

static inline void arena_reset(struct arena *a) {
    mem_profiler_heap_reset(&a->heap);
    while (a->chunks != NULL) {
        struct arena_chunk *next = a->chunks->next;
        free(a->chunks);
        a->chunks = next;
    }
}

/* After this the object may go. */
static inline void arena_destroy(struct arena *a) {
    arena_reset(a);
    mem_profiler_heap_end(&a->heap);
}

#endif
