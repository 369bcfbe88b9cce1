/*
 * tidy.c - a program that leaks while it works, and frees everything before it exits.
 *
 * tidy STEPS: at each step `pile_up` adds a block of 3000 bytes to a list, `work` frees what it takes at once, and 2 ms
 * go by. In the end it frees the list, block by block, and exits; with a second argument it exits at once.
 */
#include "target.h"

#include <time.h>

struct frame {
    struct frame *next;
    char rest[2992];
};

static struct frame *all;

__attribute__((noinline, noclone)) static void pile_up(void) {
    struct frame *frame = keep(malloc(sizeof *frame));
    frame->next = all;
    all = frame;
}

__attribute__((noinline, noclone)) static void work(void) {
    void *buffer = keep(malloc(5000));
    free(buffer);
}

int main(int argc, char **argv) {
    for (int steps = atoi(argv[1]); steps > 0; steps--) {
        pile_up();
        work();
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    while (all && argc < 3) {
        struct frame *next = all->next;
        free(all);
        all = next;
    }
    return 0;
}
