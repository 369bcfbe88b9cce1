/*
 * contexts.h - memory contexts that tell Valgrind of their blocks, as PostgreSQL's do, and unchanged tell mem_profiler:
 *
 *     cc -I"$(python3 -c 'import mem_profiler; print(mem_profiler.include_path())')" -include mem_profiler.h \
 *         -DMEM_PROFILER_POOL_REQUESTS='"contexts"' ...
 */
#ifndef CONTEXTS_H
#define CONTEXTS_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/memcheck.h>

#define CONTEXT_BYTES 65536

struct context {
    size_t used;
    _Alignas(16) char data[CONTEXT_BYTES];
};

static inline struct context *context_create(void) {
    struct context *context = malloc(sizeof *context);
    if (context != NULL) {
        context->used = 0;
        VALGRIND_CREATE_MEMPOOL(context, 0, 0);
        VALGRIND_MAKE_MEM_NOACCESS(context->data, CONTEXT_BYTES);
    }
    return context;
}

static inline void *context_alloc(struct context *context, size_t bytes) {
    size_t rounded = (bytes + 15) & ~(size_t)15;
    if (rounded > CONTEXT_BYTES - context->used)
        return NULL;
    void *block = context->data + context->used;
    context->used += rounded;
    VALGRIND_MEMPOOL_ALLOC(context, block, bytes);
    return block;
}

static inline void context_free(struct context *context, void *block) {
    (void)context;
    VALGRIND_MEMPOOL_FREE(context, block);
}

static inline void *context_realloc(struct context *context, void *block, size_t old_bytes,
                                    size_t bytes) {
    if (bytes <= old_bytes) {
        VALGRIND_MEMPOOL_CHANGE(context, block, block, bytes);
        return block;
    }
    void *larger = context_alloc(context, bytes);
    if (larger != NULL) {
        memcpy(larger, block, old_bytes);
        context_free(context, block);
    }
    return larger;
}

static inline void context_reset(struct context *context) {
    VALGRIND_DESTROY_MEMPOOL(context);
    VALGRIND_CREATE_MEMPOOL(context, 0, 0);
    context->used = 0;
}

static inline void context_delete(struct context *context) {
    VALGRIND_DESTROY_MEMPOOL(context);
    free(context);
}

#endif
