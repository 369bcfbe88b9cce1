/*
 * chain.c - another tool that takes malloc and forwards to the next definition.
 *
 * Built with -DTAKES_LARGE it answers large blocks from memory of its own and forwards only the others, so that
 * no order of the two libraries but one can see everything.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

static void *(*next_malloc)(size_t);
static void (*next_free)(void *);

void *malloc(size_t size) {
    if (next_malloc == NULL)
        next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
#ifdef TAKES_LARGE
    if (size >= 1u << 20) {
        void *p =
            mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return p == MAP_FAILED ? NULL : (char *)p + 16;
    }
#endif
    return next_malloc(size);
}

void free(void *p) {
    if (next_free == NULL)
        next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
#ifdef TAKES_LARGE
    if (((size_t)p & 4095) == 16 && p != NULL)
        return;
#endif
    next_free(p);
}
