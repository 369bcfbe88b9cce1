/*
 * mapped_race.c - four threads unmap pages of one mapping at once, all but every seventh, while two others map and
 * unmap. Then "common bytes", and it waits.
 */
#include "target.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

#define PAGE 4096UL
#define PAGES 2000UL
#define ROUNDS 2000
#define RW (PROT_READ | PROT_WRITE)
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)

static char *all;

__attribute__((noinline)) static void common(void) {
    all = keep(mmap(NULL, PAGES * PAGE, RW, PRIVATE, -1, 0));
    EXPECT(all != MAP_FAILED);
}

static void *unmap(void *arg) {
    for (size_t page = (size_t)arg; page < PAGES; page += 4)
        EXPECT(page % 7 == 0 || munmap(all + page * PAGE, PAGE) == 0);
    return NULL;
}

static void *turn_over(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        char *at = keep(mmap(NULL, 4 * PAGE, RW, PRIVATE, -1, 0));
        EXPECT(at != MAP_FAILED && munmap(at + PAGE, PAGE) == 0 && munmap(at, 4 * PAGE) == 0);
    }
    return arg;
}

int main(void) {
    pthread_t thread[6];
    step("ready");
    common();
    for (size_t i = 0; i < 6; i++)
        EXPECT(pthread_create(&thread[i], NULL, i < 4 ? unmap : turn_over, (void *)i) == 0);
    for (size_t i = 0; i < 6; i++)
        EXPECT(pthread_join(thread[i], NULL) == 0);
    say("common %lu", (PAGES + 6) / 7 * PAGE);
    step("told");
    return 0;
}
