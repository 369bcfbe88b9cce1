/*
 * plugin.c - a library to open and close: NAME and SIZE are given by the compiler, so that libraries made
 * from it have the same shape, and what lies at an address tells them apart only by their names.
 */
#include <stdlib.h>

#define JOIN(a, b) a##b
#define NAMED(a, b) JOIN(a, b)

__attribute__((noinline)) static void *NAMED(inner_, NAME)(void) {
    return malloc(SIZE);
}

void *plugin_block(void) {
    void *p = NAMED(inner_, NAME)();
    __asm__ volatile("" : "+r"(p));
    return p;
}
