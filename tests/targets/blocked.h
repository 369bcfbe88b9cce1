/*
 * blocked.h - a process whose main thread blocks in one kind of call, without a time limit that the test
 * would reach, until a line comes on stdin.
 *
 * PROGRAM KIND     prints "ready", blocks; after the line another thread ends the wait, and it prints
 *                  "KIND RESULT ERRNO"
 */
#ifndef BLOCKED_H
#define BLOCKED_H

#include "target.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#define FAR_S 3600

struct blocked {
    const char *kind;
    void (*prepare)(void); /* on the main thread; NULL: nothing */
    long (*wait)(void);    /* on the main thread */
    void (*release)(void); /* on the other thread; until the wait ends */
};

static pthread_t main_thread;
static int blocked_over;
static const struct blocked *blocked_now;

/* Far ahead on that clock. */
static inline struct timespec far(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_sec += FAR_S;
    return t;
}

static void *blocked_release(void *unused) {
    char line[64];
    (void)unused;
    while (hear(line, sizeof line) && !__atomic_load_n(&blocked_over, __ATOMIC_ACQUIRE))
        blocked_now->release();
    return NULL;
}

static int blocked_main(int argc, char **argv, const struct blocked *kinds, unsigned count) {
    for (unsigned i = 0; argc == 2 && i < count; i++)
        if (strcmp(kinds[i].kind, argv[1]) == 0)
            blocked_now = &kinds[i];
    if (blocked_now == NULL)
        return 2;
    main_thread = pthread_self();
    if (blocked_now->prepare != NULL)
        blocked_now->prepare();
    pthread_t other;
    EXPECT(pthread_create(&other, NULL, blocked_release, NULL) == 0);
    say("ready");
    errno = 0;
    long result = blocked_now->wait();
    int error = errno;
    __atomic_store_n(&blocked_over, 1, __ATOMIC_RELEASE);
    say("%s %ld %d", blocked_now->kind, result, error);
    return 0;
}

#endif
