/*
 * raw_thread.c - a thread that the C library knows nothing of, by clone() alone, waits beside the main one.
 */
#include "target.h"

#include <poll.h>
#include <sched.h>

static char stack[1 << 16] __attribute__((aligned(16)));

static int wait_too(void *unused) {
    (void)unused;
    for (;;)
        poll(NULL, 0, -1);
    return 0;
}

int main(void) {
    char line[8];
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    EXPECT(clone(wait_too, stack + sizeof stack, flags, NULL) > 0);
    say("ready");
    while (hear(line, sizeof line))
        continue;
    return 0;
}
