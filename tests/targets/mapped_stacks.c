/*
 * mapped_stacks.c - threads by three functions: with the default stack, one of a size of their own, and one that the
 * program maps. Some end. Then a line "NAME bytes" for each, and it waits.
 */
#include "target.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define MIB (1UL << 20)

static pthread_barrier_t touched;

static void *wait_here(void *arg) {
    volatile char used[256 << 10];
    for (size_t i = 0; i < sizeof used; i += 4096)
        used[i] = 1;
    pthread_barrier_wait(&touched);
    pause();
    return arg;
}

static void *end(void *arg) {
    return arg;
}

__attribute__((noinline)) static void by_default(unsigned count) {
    pthread_t thread;
    for (unsigned i = 0; i < count; i++)
        EXPECT(pthread_create(&thread, NULL, wait_here, NULL) == 0);
}

__attribute__((noinline)) static void of_size(size_t bytes, unsigned ending) {
    pthread_t thread;
    pthread_attr_t attr;
    EXPECT(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, bytes) == 0);
    for (unsigned i = 0; i < ending; i++) /* all in one stack, which the library keeps */
        EXPECT(pthread_create(&thread, &attr, end, NULL) == 0 && pthread_join(thread, NULL) == 0);
    EXPECT(pthread_create(&thread, &attr, wait_here, NULL) == 0);
}

__attribute__((noinline)) static void of_its_own(size_t bytes) {
    pthread_t thread;
    pthread_attr_t attr;
    void *at = keep(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT(at != MAP_FAILED && pthread_attr_init(&attr) == 0);
    EXPECT(pthread_attr_setstack(&attr, at, bytes) == 0);
    EXPECT(pthread_create(&thread, &attr, wait_here, NULL) == 0);
}

int main(void) {
    struct rlimit limit;
    EXPECT(getrlimit(RLIMIT_STACK, &limit) == 0);
    uint64_t size = limit.rlim_cur == RLIM_INFINITY ? 2 * MIB : limit.rlim_cur;
    pthread_barrier_init(&touched, NULL, 6);
    step("ready");
    by_default(3);
    of_size(MIB, 5);
    of_its_own(3 * MIB);
    pthread_barrier_wait(&touched);
    say("by_default %llu", 3 * (unsigned long long)size);
    say("of_size %lu", MIB);
    say("of_its_own %lu", 3 * MIB);
    step("told");
    return 0;
}
