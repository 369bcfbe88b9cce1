/*
 * mapped_handles.c - threads that give back the page with their own handle, before or after pthread_create returns.
 *
 * Says how many it made.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#define THREADS 2000
#define PAGE 4096

static atomic_int ended;

static void *give_back(void *handle) {
    munmap(handle, PAGE);
    atomic_fetch_add(&ended, 1);
    return NULL;
}

int main(void) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    for (int i = 0; i < THREADS; i++) {
        char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED ||
            pthread_create((pthread_t *)(page + PAGE / 2), &attr, give_back, page) != 0)
            return 1;
    }
    while (atomic_load(&ended) < THREADS)
        ;
    printf("%d\n", THREADS);
    return 0;
}
