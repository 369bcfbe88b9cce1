/*
 * checked.c - a program to build with a sanitizer: it says `ready`, and allocates until its input ends.
 *
 * One string names tsan: nobody may take it for the tool.
 */
#include "target.h"

#include <poll.h>
#include <stdint.h>

static const char *volatile innocent = "__tsan_init libtsan.so ThreadSanitizer";

int main(void) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    keep((void *)(uintptr_t)innocent);
    say("ready");
    while (poll(&input, 1, 1) == 0)
        for (int i = 0; i < 100; i++)
            free(keep(malloc(100 + (size_t)i)));
    say("done");
    return 0;
}
