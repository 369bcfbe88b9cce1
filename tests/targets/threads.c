/*
 * threads.c - threads that start and exit while others allocate, on stacks down to the smallest.
 *
 * threads churn N      N threads in all, 8 at a time, each allocating ten blocks and freeing nine in a place of its own
 * threads tiny N       N threads with the smallest stack that the system allows
 * threads last N       N threads whose keys' destructors allocate and free
 * threads cancelled N  N threads cancelled while they sleep; clean-up handlers free
 * threads handover N   N blocks allocated by one thread and freed by another
 * threads exit N       the process exits while N threads allocate
 */
#include "target.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define AT_ONCE 8

static pthread_key_t key;
static pthread_barrier_t barrier;
static void *_Atomic slot;

static void *alloc_ten(void *unused) {
    for (int i = 0; i < 9; i++)
        free(keep(malloc(10)));
    keep(malloc(10));
    return unused;
}

static void alloc_late(void *p) {
    free(p);
    free(keep(malloc(60)));
}

static void *alloc_keyed(void *unused) {
    pthread_setspecific(key, malloc(50));
    return unused;
}

static void *alloc_cancelled(void *unused) {
    void *p = malloc(70);
    pthread_cleanup_push(free, p);
    pthread_barrier_wait(&barrier);
    for (;;)
        pause();
    pthread_cleanup_pop(1);
    return unused;
}

static void *free_handed(void *count) {
    for (long i = 0; i < (long)count; i++) {
        void *p;
        while ((p = atomic_exchange(&slot, NULL)) == NULL)
            sched_yield();
        free(p);
    }
    return NULL;
}

static void *alloc_for_ever(void *unused) {
    for (;;)
        free(keep(malloc(16)));
    return unused;
}

static void alloc_handed(long n) {
    pthread_t other;
    EXPECT(pthread_create(&other, NULL, free_handed, (void *)n) == 0);
    for (long i = 0; i < n; i++) {
        void *p = keep(malloc(80)), *none = NULL;
        while (!atomic_compare_exchange_weak(&slot, &none, p)) {
            none = NULL;
            sched_yield();
        }
    }
    pthread_join(other, NULL);
}

static void batches(int n, void *(*body)(void *), size_t stack_bytes) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (stack_bytes != 0)
        EXPECT(pthread_attr_setstacksize(&attributes, stack_bytes) == 0);
    for (int done = 0; done < n; done += AT_ONCE) {
        pthread_t threads[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++)
            EXPECT(pthread_create(&threads[i], &attributes, body, NULL) == 0);
        for (int i = 0; i < AT_ONCE; i++)
            pthread_join(threads[i], NULL);
    }
}

static void cancel_each(int n) {
    pthread_barrier_init(&barrier, NULL, 2);
    for (int i = 0; i < n; i++) {
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, alloc_cancelled, NULL) == 0);
        pthread_barrier_wait(&barrier);
        EXPECT(pthread_cancel(thread) == 0);
        pthread_join(thread, NULL);
    }
}

int main(int argc, char **argv) {
    EXPECT(argc == 3);
    int n = atoi(argv[2]);
    alarm(60);
    pthread_key_create(&key, alloc_late);
    if (strcmp(argv[1], "churn") == 0)
        batches(n, alloc_ten, 0);
    else if (strcmp(argv[1], "tiny") == 0)
        batches(n, alloc_ten, (size_t)sysconf(_SC_THREAD_STACK_MIN));
    else if (strcmp(argv[1], "last") == 0)
        batches(n, alloc_keyed, 0);
    else if (strcmp(argv[1], "cancelled") == 0)
        cancel_each(n);
    else if (strcmp(argv[1], "handover") == 0)
        alloc_handed(n);
    else
        for (int i = 0; i < n; i++) {
            pthread_t thread;
            EXPECT(pthread_create(&thread, NULL, alloc_for_ever, NULL) == 0);
        }
    say("done");
    return 0;
}
