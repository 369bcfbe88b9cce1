/*
 * mimalloc_beside.c - a library with names of mimalloc that is not the program's malloc: blocks of pages of its own, or
 * (FROM_MALLOC) in front of malloc. mi_calloc calls mi_malloc through a slot.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *mi_malloc(size_t size);
void *mi_calloc(size_t count, size_t size);
void mi_free(void *block);

#ifdef FROM_MALLOC
void *mi_malloc(size_t size) {
    return malloc(size);
}

void mi_free(void *block) {
    free(block);
}
#else
void *mi_malloc(size_t size) {
    static char *next;
    static size_t left;
    size_t rounded = (size + 15) & ~(size_t)15;
    if (left < rounded) {
        left = 1 << 20;
        next = mmap(NULL, left, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    left -= rounded;
    next += rounded;
    return next - rounded;
}

void mi_free(void *block) {
    (void)block;
}
#endif

void *mi_calloc(size_t count, size_t size) {
    void *block = mi_malloc(count * size);
    return block != NULL ? memset(block, 0, count * size) : NULL;
}
