/*
 * leaky.c - planted leaks among everything that only looks like one.
 *
 * leaky SECONDS SCALE: works for so long in ticks of 5 ms, and catches up on those for which a busy machine did not let it
 * run: it always allocates the same. SCALE multiplies what is allocated per tick. The leaks are
 * leak_steady (half the bytes go), leak_some (one block in ten is lost) and leak_callers (called from four places);
 * nothing else leaks: a cache that fills and stays, one that replaces its oldest, one that replaces any, a pool, globals, a queue,
 * a table that grows by realloc, buffers freed at once, and a burst.
 */
#include "target.h"

#include <stdint.h>
#include <time.h>

#define SLOTS 4096
#define TICK_S 0.005

static void *volatile lost, *volatile kept[SLOTS], *volatile settings[256];
static uint64_t state = 88172645463325252ULL;
static unsigned scale;

static unsigned next_random(unsigned n) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)((state >> 11) % n);
}

#define PLACE __attribute__((noinline, noclone))

PLACE static void leak_steady(void) {
    for (unsigned i = 0; i < scale; i++)
        lost = keep(malloc(2000));
}

PLACE static void leak_some(unsigned tick) {
    for (unsigned i = 0; i < 5 * scale; i++) {
        void *p = keep(malloc(3000));
        if ((tick + i) % 10)
            free(p);
        else
            lost = p;
    }
}

PLACE static void leak_callers(void) {
    lost = keep(malloc(2200));
}

PLACE static void caller_a(void) {
    leak_callers();
    __asm__ volatile("");
}

PLACE static void caller_b(void) {
    leak_callers();
    __asm__ volatile("");
}

PLACE static void fill_cache(double share) {
    static unsigned used;
    for (unsigned i = 0; i < 4 * scale && used < SLOTS && share < 0.3; i++)
        kept[used++] = malloc(4000);
}

/* A ring holds about a fifth of what passes through it in 3 s. */
PLACE static void replace_oldest(unsigned size) {
    static void *slots[SLOTS];
    static unsigned at;
    for (unsigned i = 0; i < scale; i++) {
        free(slots[at]);
        slots[at] = keep(malloc(5000));
        at = (at + 1) % size;
    }
}

PLACE static void replace_any(unsigned size) {
    static void *slots[SLOTS];
    for (unsigned i = 0; i < 2 * scale; i++) {
        unsigned at = next_random(size);
        free(slots[at]);
        slots[at] = keep(malloc(3500));
    }
}

PLACE static void use_pool(unsigned tick) {
    static void *slots[64];
    if (!slots[tick % 64])
        slots[tick % 64] = keep(malloc(65536));
}

PLACE static void set_globals(void) {
    for (unsigned i = 0; i < 256; i++)
        settings[i] = malloc(6000);
}

PLACE static void use_queue(void) {
    static void *slots[64];
    static unsigned at;
    for (unsigned i = 0; i < 2 * scale; i++) {
        free(slots[at]);
        slots[at] = keep(malloc(4500));
        at = (at + 1) % 64;
    }
}

PLACE static void grow_table(unsigned tick) {
    static void *table;
    static size_t size = 4096;
    if (tick % 16 == 0)
        table = keep(realloc(table, size += 8192));
}

PLACE static void use_buffers(void) {
    for (unsigned i = 0; i < 4 * scale; i++)
        free(keep(malloc(8000)));
}

PLACE static void load_once(double share) {
    static bool done;
    if (done || share < 0.6)
        return;
    done = true;
    for (unsigned i = 0; i < 300; i++)
        lost = keep(malloc(5500));
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    unsigned ticks = argc > 1 ? (unsigned)(atof(argv[1]) / TICK_S) : 800;
    scale = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    unsigned ring = ticks * scale / 6;
    ring = ring < SLOTS ? ring : SLOTS;
    step("ready");
    double start = seconds();
    for (unsigned tick = 0; tick < ticks; tick++) {
        double share = (double)tick / ticks;
        if (tick == 0)
            set_globals();
        leak_steady();
        leak_some(tick);
        caller_a();
        caller_b();
        fill_cache(share);
        replace_oldest(ring);
        replace_any(ring);
        use_pool(tick);
        use_queue();
        grow_table(tick);
        use_buffers();
        load_once(share);
        while (seconds() < start + (tick + 1) * TICK_S)
            nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    step("done");
    return 0;
}
