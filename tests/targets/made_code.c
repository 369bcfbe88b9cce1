/*
 * made_code.c - a target whose functions are made as it runs: no file has their names.
 *
 * It prints the addresses of two functions, and then answers each line `F N S` of its input: N
 * blocks of S bytes are allocated by function F, 0 or 1, and kept.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../c/made_code.h"

int main(void) {
    static char in[1 << 12], out[1 << 12]; /* stdio shall not allocate */
    setvbuf(stdin, in, _IOLBF, sizeof in);
    setvbuf(stdout, out, _IOLBF, sizeof out);
    made_function *made[2] = {make_function(16), make_function(32)};
    /* Its blocks are kept for ever: the answer of malloc is dropped. */
    void (*allocate)(uintptr_t) = (void (*)(uintptr_t))(uintptr_t)malloc;
    printf("%lx %lx\n", (unsigned long)made[0], (unsigned long)made[1]);
    unsigned which;
    long count, size;
    while (scanf("%u %ld %ld", &which, &count, &size) == 3 && which < 2) {
        while (count-- > 0)
            made[which]((uintptr_t)size, allocate);
        puts("ok");
    }
    return 0;
}
