/*
 * odd_entries.c - an allocator whose entry points are those of odd_entries.S. by_NAME() allocates 10 blocks by NAME
 * and frees 4 of them. With an argument, that many threads do so all the time until a line comes.
 */
#include "target.h"

#include <pthread.h>

char odd_flag;

void *mi_malloc(size_t size);
void *mi_zalloc(size_t size);
void *mi_calloc(size_t n, size_t size);
void *mi_malloc_small(size_t size);
void *mi_heap_malloc(void *heap, size_t size);
void *mi_new(size_t size);
void mi_free(void *p);

void *odd_malloc(size_t size);
void odd_free(void *p);

/* glibc's own names: no slot of these is anybody's. */
void *__libc_malloc(size_t size);
void __libc_free(void *p);

void *odd_malloc(size_t size) {
    char *p = __libc_malloc(size + 16);
    memset(p, 0x5a, size + 16);
    return p + 16;
}

void odd_free(void *p) {
    if (p != NULL && ((char *)p)[-1] != 0x5a)
        _exit(98);
    if (p != NULL)
        __libc_free((char *)p - 16);
}

#define BY(name, allocate)                                                                         \
    void by_##name(void);                                                                          \
    void by_##name(void) {                                                                         \
        for (int i = 0; i < 10; i++) {                                                             \
            void *p = keep(allocate);                                                              \
            if (i < 4)                                                                             \
                mi_free(p);                                                                        \
        }                                                                                          \
    }

BY(malloc, mi_malloc(101))
BY(zalloc, mi_zalloc(102))
BY(calloc, mi_calloc(3, 34))
BY(small, mi_malloc_small(103))
BY(heap, mi_heap_malloc(&odd_flag, 104))
BY(new, mi_new(105))

static int stopping;

static void *worker(void *unused) {
    void *held[32] = {0};
    unsigned n = 0;
    for (; !__atomic_load_n(&stopping, __ATOMIC_RELAXED); n++) {
        void **p = &held[n * 7 % 32];
        if (*p != NULL)
            mi_free(*p);
        size_t size = 1 + n % 500;
        *p = n % 5 == 0   ? mi_malloc(size)
             : n % 5 == 1 ? mi_zalloc(size)
             : n % 5 == 2 ? mi_calloc(1, size)
             : n % 5 == 3 ? mi_heap_malloc(NULL, size)
                          : mi_new(size);
    }
    return unused;
}

int main(int argc, char **argv) {
    pthread_t thread[8];
    int threads = argc > 1 ? atoi(argv[1]) : 0;
    for (int i = 0; i < threads; i++)
        EXPECT(pthread_create(&thread[i], NULL, worker, NULL) == 0);
    if (threads > 0)
        step("running");
    __atomic_store_n(&stopping, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    by_malloc();
    by_zalloc();
    by_calloc();
    by_small();
    by_heap();
    by_new();
    say("done");
    return 0;
}
