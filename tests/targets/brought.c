/*
 * brought.c - a library with an allocator of its own that nobody else can call, as Arrow and Polars are built. It is
 * large, as these are, and calls malloc, too. With PROGRAM the program: `brought MIB` waits for a second, so that its
 * memory has been read, takes and frees as much from malloc, 1 MiB at a time, touches as much of the library's, and
 * holds that for another second. With COPIED a caller has a part of the allocator in itself, so that nothing can lead it.
 */
#include "target.h"

#include <sys/mman.h>

void brought(size_t bytes);

#ifdef PROGRAM
int main(int count, char **words) {
    size_t mib = count > 1 ? strtoul(words[1], NULL, 10) : 0;
    sleep(1);
    for (size_t k = 0; k < mib; k++)
        free(memset(keep(malloc(1 << 20)), 1, 1 << 20));
    brought(mib << 20);
    sleep(1);
    return 0;
}
#else
const char large[33 << 20] = {1};

static void *last; /* kept, and used anew */

__attribute__((visibility("hidden"))) void *mi_malloc(size_t size) {
    if (last != NULL)
        return last;
    void *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return block == MAP_FAILED ? NULL : block;
}

__attribute__((visibility("hidden"))) void mi_free(void *block) {
    last = block;
}

#ifdef COPIED
__attribute__((visibility("hidden"), noinline)) void mi_free_generic_mt(void *block) {
    last = block;
}

void release(void *block) {
    mi_free_generic_mt(block);
}
#endif

void brought(size_t bytes) {
    free(keep(malloc(1 << 20)));
    void *block = mi_malloc(bytes);
    if (block != NULL)
        mi_free(memset(block, 1, bytes));
}
#endif
