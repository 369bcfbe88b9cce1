/*
 * ctor_library.c - a library that allocates in its constructor, before main and before the sampler's own constructor.
 *
 * $CTOR says what else it does there: "fork" forks, and the child allocates 3 blocks of 777 bytes and ends;
 * "thread" starts a thread that allocates 5 blocks of 555 bytes and waits for it; "environment" sets, changes and
 * removes variables; "missing" asks the loader for a function that nobody has, whose message the loader allocates.
 */
#include "target.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>

#define BLOCKS 578
#define BLOCK_BYTES 100000

static void *blocks[BLOCKS];

static void *allocate_in_thread(void *unused) {
    (void)unused;
    for (int i = 0; i < 5; i++)
        keep(malloc(555));
    return NULL;
}

static void in_child(void) {
    for (int i = 0; i < 3; i++)
        keep(malloc(777));
    _exit(0);
}

static void change_environment(void) {
    unsetenv("PATH");
    setenv("MEM_PROFILER_START", "1G", 1);
    setenv("CTOR_NEW", "1", 1);
    unsetenv("HOME");
}

__attribute__((constructor)) static void allocate_in_constructor(void) {
    const char *what = getenv("CTOR");
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = keep(malloc(BLOCK_BYTES));
    if (what == NULL)
        return;
    if (strcmp(what, "environment") == 0)
        change_environment();
    if (strcmp(what, "missing") == 0)
        EXPECT(dlsym(RTLD_DEFAULT, "ctor_library_missing") == NULL);
    if (strcmp(what, "thread") == 0) {
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, allocate_in_thread, NULL) == 0);
        EXPECT(pthread_join(thread, NULL) == 0);
    }
    if (strcmp(what, "fork") == 0) {
        pid_t child = fork();
        int status;
        if (child == 0)
            in_child();
        EXPECT(waitpid(child, &status, 0) == child && status == 0);
    }
}

void *ctor_library_block(void);
void *ctor_library_block(void) {
    return blocks[0];
}
