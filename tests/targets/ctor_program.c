/*
 * ctor_program.c - a program that itself allocates one block of 4321 bytes; the rest is its library's.
 */
#include "target.h"

void *ctor_library_block(void);

static __attribute__((noinline)) void allocate_in_main(void) {
    keep(malloc(4321));
}

int main(void) {
    keep(ctor_library_block());
    allocate_in_main();
    return 0;
}
