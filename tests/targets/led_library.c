/*
 * led_library.c - a library with a jemalloc of its own under private names, as Arrow and Polars are built, and the
 * program (PROGRAM) that opens it, uses it against a ledger, and closes it: `led LIBRARY`, three times, the last time at
 * another place. LARGE makes it as large as these libraries.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef PROGRAM
#include "target.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>

/* Nothing can be loaded there any more. False: something is. */
static int occupied(void *place) {
    return mmap(place, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == place;
}

int main(int count, char **words) {
    for (int round = 0; round < 3; round++) {
        void *library = dlopen(count > 1 ? words[1] : NULL, RTLD_NOW | RTLD_LOCAL);
        if (library == NULL)
            return fprintf(stderr, "%s\n", dlerror()), 1;
        struct link_map *map = NULL;
        if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0)
            return 1;
        void *place = (void *)map->l_addr;
        void (*use)(void) = (void (*)(void))dlsym(library, "use");
        size_t (*ledger)(void) = (size_t (*)(void))dlsym(library, "ledger");
        use();
        printf("%zu\n", ledger());
        fflush(stdout);
        dlclose(library);
        if (round == 1 && !occupied(place))
            return 2;
    }
    return 0;
}
#else
#define KEPT 40

void *_rjem_malloc(size_t size);
void *_rjem_mallocx(size_t size, int flags);
void *_rjem_calloc(size_t n, size_t size);
void *_rjem_realloc(void *block, size_t size);
void *_rjem_rallocx(void *block, size_t size, int flags);
void _rjem_free(void *block);
void _rjem_sdallocx(void *block, size_t size, int flags);

#ifdef LARGE
const char large[33 << 20] = {1};
#endif

static size_t live_bytes;
static void *volatile kept[KEPT];

size_t ledger(void) {
    return live_bytes;
}

/* Each way in, of moving and out. */
void use(void) {
    for (int k = 0; k < KEPT; k++) {
        size_t size = 1000 + (size_t)k;
        void *block = k % 3 == 0   ? _rjem_malloc(size)
                      : k % 3 == 1 ? _rjem_mallocx(size, 0)
                                   : _rjem_calloc(2, size / 2);
        size = k % 3 == 2 ? size / 2 * 2 : size;
        if (k % 4 == 1)
            block = _rjem_realloc(block, size = 5000);
        else if (k % 4 == 2)
            block = _rjem_rallocx(block, size = 6000, 0);
        kept[k] = block != NULL ? memset(block, 1, size) : NULL;
        live_bytes += size;
        if (k % 8 == 3)
            _rjem_free(block);
        else if (k % 8 == 5)
            _rjem_sdallocx(block, size, 0);
        live_bytes -= k % 8 == 3 || k % 8 == 5 ? size : 0;
    }
}
#endif
