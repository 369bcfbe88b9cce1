/*
 * signal_safe_malloc.c - a malloc that may be called from a signal handler that interrupted it.
 *
 * Preloaded behind the sampler, so that what breaks in a handler is the sampler's doing. One atomic addition
 * takes a block; only the block at the end is taken back when it is freed.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ARENA_BYTES ((size_t)1 << 30)
#define HEAD 16

static _Alignas(4096) unsigned char arena[ARENA_BYTES];
static _Atomic size_t used;

static size_t *head_of(void *p) {
    return (size_t *)((unsigned char *)p - HEAD);
}

static size_t bytes_for(size_t size, size_t alignment) {
    return (size + alignment + 2 * HEAD) & ~(size_t)15;
}

/* Everything ends here: a call of one exported function by another would go through the sampler. */
static int take(void **out, size_t alignment, size_t size) {
    if (alignment < HEAD)
        alignment = HEAD;
    size_t need = bytes_for(size, alignment);
    size_t at = size < ARENA_BYTES ? atomic_fetch_add(&used, need) : ARENA_BYTES;
    if (at + need > ARENA_BYTES)
        return ENOMEM;
    uintptr_t p = ((uintptr_t)(arena + at) + HEAD + alignment - 1) & -alignment;
    *head_of((void *)p) = size;
    *out = (void *)p;
    return 0;
}

static void *take_or_refuse(size_t size) {
    void *p;
    if (take(&p, HEAD, size) == 0)
        return p;
    errno = ENOMEM;
    return NULL;
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    return take(out, alignment, size);
}

void *malloc(size_t size) {
    return take_or_refuse(size);
}

void free(void *p) {
    if (p == NULL)
        return;
    size_t start = (size_t)((unsigned char *)head_of(p) - arena);
    size_t end = start + bytes_for(*head_of(p), HEAD);
    atomic_compare_exchange_strong(&used, &end, start);
}

void *calloc(size_t n, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(n, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    void *p = take_or_refuse(total);
    if (p != NULL)
        memset(p, 0, total);
    return p;
}

void *realloc(void *p, size_t size) {
    void *q = take_or_refuse(size);
    if (p != NULL && q != NULL)
        memcpy(q, p, *head_of(p) < size ? *head_of(p) : size);
    return q;
}
