/*
 * holes_guest.c - a library for holes.c: allocates itself, and calls its caller back.
 */
#include <stdlib.h>

__attribute__((noinline)) static void *guest_block(size_t size) {
    void *p = malloc(size);
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

void *guest(void *(*call)(size_t size), size_t size) {
    void *p = call(size + 1);
    free(guest_block(size));
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}
