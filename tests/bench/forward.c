/*
 * forward.c - the floor: a preload library that takes malloc and free and passes them on.
 *
 * Whatever exports malloc from a library of its own pays for one more indirect call; that is not
 * the cost of sampling. Nothing is counted here and the call to the real function is a jump.
 *
 * Build: gcc -O2 -fPIC -shared -fno-builtin -Wl,-z,now forward.c
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

static void *first_malloc(size_t size);
static void first_free(void *p);
static void *(*real_malloc)(size_t) = first_malloc;
static void (*real_free)(void *) = first_free;

static void *first_malloc(size_t size) {
    real_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    return real_malloc(size);
}

static void first_free(void *p) {
    real_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    real_free(p);
}

void *malloc(size_t size) {
    return real_malloc(size);
}

void free(void *p) {
    real_free(p);
}
