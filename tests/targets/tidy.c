/*
 * tidy.c - a program that leaks while it works, and frees everything before it exits.
 *
 * tidy SECONDS: every 2 ms `pile_up` adds a block of 3000 bytes to a list and `work` frees what it takes at once. After
 * SECONDS it frees the list, block by block, and exits; with a second argument it exits at once.
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

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    double end = seconds() + atof(argv[1]);
    while (seconds() < end) {
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
