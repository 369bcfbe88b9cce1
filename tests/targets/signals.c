/*
 * signals.c - a storm of signals whose handlers allocate, over threads that allocate all the time.
 *
 * signals MODE THREADS SIGNALS. Modes: return, jump (siglongjmp out of the handler), altstack (the handler has a
 * stack of its own), altstack-jump, nested (a second signal inside the handler).
 * The main thread sends the signals one after the other; each worker acknowledges by counting.
 * Prints the numbers of blocks that alloc_plain and alloc_in_handler asked for.
 */
#include "target.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>

#define THREADS_MAX 8

static bool jumps, nests, on_altstack;
static atomic_bool done;
static _Atomic unsigned ready, handled;
static _Atomic unsigned long plain, in_handler;
static __thread sigjmp_buf back;
static __thread volatile bool may_jump;
static pthread_t threads[THREADS_MAX];

static void alloc_in_handler(void) {
    keep(malloc(33));
    atomic_fetch_add(&in_handler, 1);
}

static void alloc_plain(void) {
    atomic_fetch_add(&plain, 1);
    free(keep(malloc(44)));
}

static void handle(int number) {
    alloc_in_handler();
    if (nests && number == SIGUSR1)
        raise(SIGUSR2);
    atomic_fetch_add(&handled, 1);
    if (jumps && may_jump)
        siglongjmp(back, 1);
}

static void *work(void *unused) {
    static __thread char own_stack[65536];
    stack_t stack = {.ss_sp = own_stack, .ss_size = sizeof own_stack};
    if (on_altstack)
        sigaltstack(&stack, NULL);
    atomic_fetch_add(&ready, 1);
    if (sigsetjmp(back, 1) == 0)
        may_jump = true;
    while (!atomic_load(&done))
        for (int i = 0; i < 50; i++)
            alloc_plain();
    may_jump = false;
    return unused;
}

static void storm(unsigned count, unsigned signals) {
    while (atomic_load(&ready) < count)
        sched_yield();
    for (unsigned i = 0; i < signals; i++) {
        unsigned before = atomic_load(&handled);
        if (pthread_kill(threads[i % count], SIGUSR1) != 0)
            break;
        while (atomic_load(&handled) == before)
            sched_yield();
    }
}

int main(int argc, char **argv) {
    EXPECT(argc == 4);
    jumps = strstr(argv[1], "jump") != NULL;
    nests = strstr(argv[1], "nested") != NULL;
    on_altstack = strstr(argv[1], "altstack") != NULL;
    unsigned count = (unsigned)atoi(argv[2]);
    EXPECT(count <= THREADS_MAX);
    struct sigaction action = {.sa_handler = handle, .sa_flags = on_altstack ? SA_ONSTACK : 0};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    for (unsigned i = 0; i < count; i++)
        EXPECT(pthread_create(&threads[i], NULL, work, NULL) == 0);
    storm(count, (unsigned)atoi(argv[3]));
    atomic_store(&done, true);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    say("%lu %lu", atomic_load(&plain), atomic_load(&in_handler));
    return 0;
}
