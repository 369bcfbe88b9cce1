/*
 * plugin.c - a library to open and close: NAME and SIZE are given by the compiler, so that libraries made
 * from it have the same shape, and what lies at an address tells them apart only by their names. With AT_OPEN
 * a constructor keeps that many bytes, before anybody can look at the library.
 */
#include <stdlib.h>
#include <string.h>

#define JOIN(a, b) a##b
#define NAMED(a, b) JOIN(a, b)

__attribute__((noinline)) static void *NAMED(inner_, NAME)(void) {
    return malloc(SIZE);
}

#ifdef AT_OPEN
__attribute__((constructor)) static void begin(void) {
    void *p = memset(malloc(AT_OPEN), 1, AT_OPEN);
    __asm__ volatile("" : "+r"(p));
}
#endif

void *plugin_block(void) {
    void *p = NAMED(inner_, NAME)();
    __asm__ volatile("" : "+r"(p));
    return p;
}
