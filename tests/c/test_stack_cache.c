/*
 * test_stack_cache.c - a stack that mp_known_find() names is always the stack that unwinding finds.
 *
 * Functions with frames of several sizes call each other in random order, so that many stacks meet at
 * the same caller and depth. One of them calls through code that was made at run time, which has no tables.
 * Ids are hashes of all frames.
 */
#include "check.h"
#include "core/local.h"
#include "core/sample.h"
#include "core/stack_cache.h"
#include "made_code.h"
#include "unwind/unwind_cache.h"

#include <pthread.h>

#define FRAMES_MAX 120
#define THREADS 4

static __thread unsigned hits, misses;
static __thread uint64_t rng;
static unsigned all_hits;
static uint32_t generation;

static uint32_t id_of(const uintptr_t *pcs, unsigned depth) {
    uint64_t hash = depth;
    for (unsigned i = 0; i < depth; i++)
        hash = mp_mix(hash ^ pcs[i]);
    return (uint32_t)hash | 1; /* 0 means not known */
}

static __attribute__((noinline)) void sample(void) {
    struct mp_frame caller;
    struct mp_known_key key;
    static __thread struct mp_scratch scratch; /* aligned: MP_CALLER allows no such frame */
    struct mp_unwind_result end;
    uintptr_t *pcs = scratch.frames + 1;
    MP_CALLER(caller);
    uint32_t known = mp_known_find(&caller, 0, generation, &key);
    unsigned depth = mp_unwind_traced(&caller, pcs, FRAMES_MAX, &end, &scratch.trace);
    uint32_t id = id_of(pcs, depth);
    if (known != 0)
        CHECK_EQ(known, id);
    hits += known != 0;
    misses += known == 0;
    if (known == 0)
        mp_known_learn(&key, &caller, 0, generation, &scratch, id);
}

static void walk(unsigned left);

#define STEP(name, bytes)                                                                          \
    static __attribute__((noinline)) void name(unsigned left) {                                    \
        volatile char local[bytes];                                                                \
        local[0] = (char)left;                                                                     \
        walk(left);                                                                                \
        local[bytes - 1] = local[0];                                                               \
    }
STEP(step_small, 16)
STEP(step_equal, 16)
STEP(step_large, 144)

/* Code that keeps a frame pointer whatever the options: its frame has a size known only when it runs. */
static __attribute__((noinline)) void step_dynamic(unsigned left) {
    volatile char *local = __builtin_alloca(16 + 32 * (left % 3));
    local[0] = (char)left;
    walk(left);
    local[1] = local[0];
}

static made_function *made;

static void walk_further(uintptr_t left) {
    walk((unsigned)left);
}

static __attribute__((noinline)) void step_made(unsigned left) {
    made(left, walk_further);
    __asm__ volatile("" ::: "memory");
}

static __attribute__((noinline)) void walk(unsigned left) {
    static void (*const steps[])(unsigned) = {step_small, step_equal, step_large, step_dynamic,
                                              step_made};
    if (left == 0)
        sample();
    else
        steps[mp_random(&rng) % 5](left - 1);
    __asm__ volatile("" ::: "memory");
}

static void random_walks(unsigned walks, unsigned seeds, unsigned depth) {
    for (unsigned i = 0; i < walks; i++) {
        rng = i % seeds + 1;
        walk(1 + (unsigned)(mp_random(&rng) % depth));
    }
}

static void *walk_beside_others(void *unused) {
    random_walks(20000, 900, 40);
    __atomic_fetch_add(&all_hits, hits, __ATOMIC_RELAXED);
    return unused;
}

static void forbid_all_steps(void) {
    for (unsigned set = 0; set < MP_KNOWN_SETS; set++)
        for (unsigned way = 0; way < MP_KNOWN_WAYS; way++)
            mp_local.known.stack[set][way].farthest = UINT16_MAX;
}

/* Each change is followed by a walk that knows again. One call for all, so that the stack is the same. */
static void ask_after_changes(void) {
    for (volatile unsigned step = 0; step < 11; step++) {
        if (step == 0 || step == 10)
            mp_unwind_flush(); /* rules first, the stack next */
        generation += step == 4;
        mp_local.epoch += step == 6;
        if (step == 8)
            forbid_all_steps();
        hits = 0;
        random_walks(1, 1, 20);
        if (step >= 3)
            CHECK_EQ(hits, step % 2);
    }
}

int main(void) {
    struct mp_unwind_config config = {.mode = MP_UNWIND_FP};
    CHECK_EQ(mp_unwind_init(&config), 0);
    made = make_function(48);

    CASE("stacks that come again are known, and are those that unwinding finds");
    random_walks(60000, 300, 40);
    CHECK(hits > 9 * misses);

    CASE("more stacks than there is room for are never taken for others");
    random_walks(40000, 3500, 30);

    CASE("another generation, segment, state of the rules or end of the stack knows nothing");
    ask_after_changes();

    CASE("entries that a thread left while it wrote them keep no set from learning");
    for (unsigned set = 0; set < MP_KNOWN_SETS; set++) {
        mp_local.known.stack[set][0].version |= 1;
        mp_local.known.set[set].tag[0] = 0;
    }
    hits = misses = 0;
    random_walks(60000, 300, 40);
    CHECK(hits > 9 * misses);

    CASE("threads that learn and ask at once, while rules are forgotten");
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, walk_beside_others, NULL), 0);
    for (unsigned i = 0; i < 10; i++) {
        random_walks(1000, 50, 40);
        mp_unwind_flush();
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(all_hits > THREADS * 5000);
    return check_end();
}
