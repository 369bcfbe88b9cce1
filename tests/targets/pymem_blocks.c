/*
 * pymem_blocks.c - blocks from each of CPython's allocators, each kind from one function. A library for ctypes.PyDLL:
 * the interpreter that opens it has the functions.
 */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define KEPT_MAX 100000

extern void *PyMem_RawMalloc(size_t), *PyMem_RawCalloc(size_t, size_t);
extern void *PyMem_RawRealloc(void *, size_t);
extern void PyMem_RawFree(void *);
extern void *PyMem_Malloc(size_t), *PyMem_Calloc(size_t, size_t);
extern void *PyMem_Realloc(void *, size_t);
extern void PyMem_Free(void *);
extern void *PyObject_Malloc(size_t), *PyObject_Calloc(size_t, size_t);
extern void *PyObject_Realloc(void *, size_t);
extern void PyObject_Free(void *);

struct allocator {
    void *ctx, *malloc, *calloc, *realloc, *free;
};

extern void PyMem_GetAllocator(int, struct allocator *);

/* Where the table of a domain leads. */
void *leads_to(int domain) {
    struct allocator found;
    PyMem_GetAllocator(domain, &found);
    return found.malloc;
}

static void *kept[3][KEPT_MAX];
static size_t kept_blocks[3];

/* `n` blocks of `size` bytes, of which the first `keep` stay: they are the domain's until NAME_drop(). */
#define BLOCKS(name, domain, take, give)                                                           \
    void name(size_t n, size_t size, size_t keep) {                                                \
        for (size_t i = 0; i < n; i++) {                                                           \
            void *p = take;                                                                        \
            if (p == NULL)                                                                         \
                abort();                                                                           \
            if (i < keep && kept_blocks[domain] < KEPT_MAX)                                        \
                kept[domain][kept_blocks[domain]++] = p;                                           \
            else                                                                                   \
                give(p);                                                                           \
        }                                                                                          \
    }

BLOCKS(raw_malloc_blocks, 0, PyMem_RawMalloc(size), PyMem_RawFree)
BLOCKS(raw_calloc_blocks, 0, PyMem_RawCalloc(2, size / 2), PyMem_RawFree)
BLOCKS(raw_realloc_blocks, 0, PyMem_RawRealloc(NULL, size), PyMem_RawFree)
BLOCKS(mem_malloc_blocks, 1, PyMem_Malloc(size), PyMem_Free)
BLOCKS(mem_calloc_blocks, 1, PyMem_Calloc(2, size / 2), PyMem_Free)
BLOCKS(mem_realloc_blocks, 1, PyMem_Realloc(NULL, size), PyMem_Free)
BLOCKS(object_malloc_blocks, 2, PyObject_Malloc(size), PyObject_Free)
BLOCKS(object_calloc_blocks, 2, PyObject_Calloc(2, size / 2), PyObject_Free)
BLOCKS(object_realloc_blocks, 2, PyObject_Realloc(NULL, size), PyObject_Free)

static void drop(int domain, void (*give)(void *)) {
    while (kept_blocks[domain] != 0)
        give(kept[domain][--kept_blocks[domain]]);
}

void drop_all(void) {
    drop(0, PyMem_RawFree);
    drop(1, PyMem_Free);
    drop(2, PyObject_Free);
}

/* A block that grows over the largest size of pymalloc and shrinks below it again, n times. */
void object_growing_blocks(size_t n) {
    for (size_t i = 0; i < n; i++) {
        void *p = PyObject_Malloc(100);
        p = PyObject_Realloc(p, 2000);
        p = PyObject_Realloc(p, 50);
        if (p == NULL)
            abort();
        PyObject_Free(p);
    }
}

/* Refused: too large for any address space. The old block is still there. */
void object_refused_block(void) {
    void *p = PyObject_Malloc(100);
    if (p == NULL || PyObject_Realloc(p, PTRDIFF_MAX - 4096) != NULL ||
        PyObject_Malloc(PTRDIFF_MAX - 4096) != NULL)
        abort();
    kept[2][kept_blocks[2]++] = p;
}

static void *raw_thread(void *n) {
    raw_malloc_blocks((size_t)n, 600, 0);
    return NULL;
}

/* The raw domain needs no GIL. */
void raw_threads(size_t threads, size_t n) {
    pthread_t made[16];
    for (size_t i = 0; i < threads && i < 16; i++)
        if (pthread_create(&made[i], NULL, raw_thread, (void *)n) != 0)
            abort();
    for (size_t i = 0; i < threads && i < 16; i++)
        pthread_join(made[i], NULL);
}
