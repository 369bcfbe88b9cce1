/*
 * churn.c - nanoseconds of one malloc+free pair in a program with a call tree.
 *
 *   churn THREADS DEPTH SECONDS [LIVE]     prints `cpu_ns wall_ns pairs all_pairs`
 *
 * Model: each thread keeps LIVE blocks (1024) of 208 to 400 bytes. It walks down a chain of DEPTH functions
 * without frame pointers, no function twice on a stack, on one of 64 paths; at the bottom it replaces 8
 * blocks chosen at random (free, malloc, two bytes written), from one of four call sites; then it walks
 * up again. 256 stacks and 13 sizes give a sampler 3,328 sites to keep apart.
 *
 * Time is counted after a warm-up of a quarter of SECONDS, as CPU time of the slowest thread (what other
 * programs on the machine take is not in it) and as wall time, both per pair, over `pairs` of them;
 * `all_pairs` are those of all threads with the warm-up, for who looks at the process from outside. Also built as a library: churn_run()
 * is what a Python program calls through ctypes.
 *
 * Build: gcc -O2 -fomit-frame-pointer churn.c -pthread; with -shared -fPIC for the library.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NOINLINE __attribute__((noinline))
#define PAIRS_PER_WALK 8
#define WALKS_PER_LOOK 64 /* the clock is read once in so many walks */
#define THREADS_MAX 64
#define DEPTH_MAX 100
#define FRAMES_BELOW                                                                               \
    3 /* churn_thread and its two callers: frames of a stack that the chain has not */

struct worker {
    uint64_t rng;
    uint64_t path;
    char **slots;
    unsigned live;
    unsigned depth;
    double seconds;
    double cpu_ns, wall_ns;
    uint64_t warm_up_pairs, pairs;
    volatile char sink;
    pthread_barrier_t *start;
};

typedef void level_function(struct worker *w, unsigned level);

static uint64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static inline uint32_t next_random(struct worker *w) {
    w->rng = w->rng * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(w->rng >> 32);
}

/* Four call sites of malloc at the bottom of the chain. */
#define LEAF(i)                                                                                    \
    NOINLINE static void leaf_##i(struct worker *w, uint32_t random) {                             \
        char **slot = &w->slots[(random >> 8) % w->live];                                          \
        size_t size = 208 + 16 * (size_t)(random % 13);                                            \
        free(*slot);                                                                               \
        char *block = malloc(size);                                                                \
        if (block == NULL)                                                                         \
            abort();                                                                               \
        block[0] = block[size - 1] = i;                                                            \
        *slot = block;                                                                             \
    }
LEAF(0)
LEAF(1)
LEAF(2)
LEAF(3)

static NOINLINE void bottom(struct worker *w) {
    for (unsigned i = 0; i < PAIRS_PER_WALK; i += 4) {
        leaf_0(w, next_random(w));
        leaf_1(w, next_random(w));
        leaf_2(w, next_random(w));
        leaf_3(w, next_random(w));
    }
    w->sink++;
}

static level_function *const levels[DEPTH_MAX][2];

/* Two functions for each level, with frames of different sizes; a bit of the path chooses. */
#define LEVEL(level, variant)                                                                      \
    NOINLINE static void level_##level##_##variant(struct worker *w, unsigned left) {              \
        volatile char local[16 + (1##level % 7) * 24 + variant * 8];                               \
        local[0] = variant;                                                                        \
        if (left == 0)                                                                             \
            bottom(w);                                                                             \
        else                                                                                       \
            levels[left - 1][w->path >> (left & 63) & 1](w, left - 1);                             \
        w->sink += local[0];                                                                       \
    }
#define BOTH(level) LEVEL(level, 0) LEVEL(level, 1)
#define ROW(level) {level_##level##_0, level_##level##_1},
#define TEN(x, t) x(t##0) x(t##1) x(t##2) x(t##3) x(t##4) x(t##5) x(t##6) x(t##7) x(t##8) x(t##9)
#define ALL(x)                                                                                     \
    TEN(x, 0)                                                                                      \
    TEN(x, 1) TEN(x, 2) TEN(x, 3) TEN(x, 4) TEN(x, 5) TEN(x, 6) TEN(x, 7) TEN(x, 8) TEN(x, 9)
ALL(BOTH)
static level_function *const levels[DEPTH_MAX][2] = {ALL(ROW)};

/* `depth` counts the frames of a stack from malloc's caller to the thread's first function. */
static NOINLINE void walk(struct worker *w) {
    unsigned top = w->depth > FRAMES_BELOW + 3 ? w->depth - FRAMES_BELOW - 3 : 0;
    uint64_t choice = next_random(w) & 63;
    w->path =
        choice * 0x0101010101010101ULL; /* any six levels in a row are chosen by all six bits */
    levels[top][choice & 1](w, top);
}

static NOINLINE uint64_t walk_until(struct worker *w, uint64_t end_ns) {
    uint64_t walks = 0;
    do {
        for (unsigned i = 0; i < WALKS_PER_LOOK; i++)
            walk(w);
        walks += WALKS_PER_LOOK;
    } while (now_ns(CLOCK_MONOTONIC) < end_ns);
    return walks * PAIRS_PER_WALK;
}

static NOINLINE void *churn_thread(void *argument) {
    struct worker *w = argument;
    w->slots = calloc(w->live, sizeof *w->slots);
    if (w->slots == NULL)
        abort();
    uint64_t span_ns = (uint64_t)(w->seconds * 1e9);
    pthread_barrier_wait(w->start);
    w->warm_up_pairs = walk_until(w, now_ns(CLOCK_MONOTONIC) + span_ns / 4);
    pthread_barrier_wait(w->start);
    uint64_t wall = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
    w->pairs = walk_until(w, wall + span_ns);
    w->cpu_ns = (double)(now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu);
    w->wall_ns = (double)(now_ns(CLOCK_MONOTONIC) - wall);
    pthread_barrier_wait(w->start);
    for (unsigned i = 0; i < w->live; i++)
        free(w->slots[i]);
    free(w->slots);
    return NULL;
}

/* result: {CPU ns, wall ns, pairs} of the slowest thread, pairs of all. 0, or -1 on bad arguments. */
int churn_run(unsigned threads, unsigned depth, double seconds, unsigned live, double result[4]) {
    static struct worker workers[THREADS_MAX];
    pthread_t ids[THREADS_MAX];
    pthread_barrier_t start;
    if (threads < 1 || threads > THREADS_MAX || depth > DEPTH_MAX || live < 1 || !(seconds > 0))
        return -1;
    pthread_barrier_init(&start, NULL, threads);
    for (unsigned i = 0; i < threads; i++) {
        workers[i] = (struct worker){
            .rng = i * 7919 + 1, .live = live, .depth = depth, .seconds = seconds, .start = &start};
        if (threads > 1 && pthread_create(&ids[i], NULL, churn_thread, &workers[i]) != 0)
            abort();
    }
    if (threads == 1)
        churn_thread(&workers[0]);
    double worst = -1;
    result[3] = 0;
    for (unsigned i = 0; i < threads; i++) {
        if (threads > 1)
            pthread_join(ids[i], NULL);
        result[3] += (double)(workers[i].warm_up_pairs + workers[i].pairs);
        double each = workers[i].cpu_ns / (double)workers[i].pairs;
        if (each > worst) {
            worst = each;
            result[0] = each;
            result[1] = workers[i].wall_ns / (double)workers[i].pairs;
            result[2] = (double)workers[i].pairs;
        }
    }
    pthread_barrier_destroy(&start);
    return 0;
}

#ifndef CHURN_LIBRARY
int main(int argc, char **argv) {
    double result[4];
    unsigned live = argc > 4 ? (unsigned)atoi(argv[4]) : 1024;
    if (argc < 4 || churn_run((unsigned)atoi(argv[1]), (unsigned)atoi(argv[2]), atof(argv[3]), live,
                              result) != 0) {
        fprintf(stderr, "usage: churn THREADS DEPTH SECONDS [LIVE]\n");
        return 2;
    }
    printf("%.3f %.3f %.0f %.0f\n", result[0], result[1], result[2], result[3]);
    return 0;
}
#endif
