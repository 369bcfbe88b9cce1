/*
 * test_known.c - a stack that mp_known_find() names is always the stack that unwinding finds.
 *
 * Functions with frames of several sizes call each other in random order, so that many stacks meet at
 * the same caller and depth. Ids are indices into a table of our own.
 */
#include "../../sampler/core/known.h"
#include "../../sampler/core/local.h"
#include "../../sampler/core/sample.h"
#include "../../sampler/core/unwind_cache.h"
#include "check.h"

#include <string.h>

#define STACKS_MAX 4096
#define FRAMES_MAX 120
#define FIRST_ID 100 /* 0 means not known */

static struct {
    unsigned depth;
    uintptr_t pcs[FRAMES_MAX];
} stacks[STACKS_MAX];
static unsigned count, hits, misses;
static uint64_t rng;
static uint32_t generation;

static uint32_t id_of(const uintptr_t *pcs, unsigned depth) {
    for (unsigned i = 0; i < count; i++)
        if (stacks[i].depth == depth && memcmp(stacks[i].pcs, pcs, depth * sizeof *pcs) == 0)
            return FIRST_ID + i;
    if (count == STACKS_MAX)
        return 0;
    stacks[count].depth = depth;
    memcpy(stacks[count].pcs, pcs, depth * sizeof *pcs);
    return FIRST_ID + count++;
}

static __attribute__((noinline)) void sample(void) {
    struct mp_frame caller;
    struct mp_known_key key;
    struct mp_unwind_trace trace;
    struct mp_unwind_result end;
    uintptr_t pcs[FRAMES_MAX];
    MP_CALLER(caller);
    uint32_t known = mp_known_find(&caller, 0, generation, &key);
    unsigned depth = mp_unwind_traced(&caller, pcs, FRAMES_MAX, &end, &trace);
    uint32_t id = id_of(pcs, depth);
    if (known != 0)
        CHECK_EQ(known, id);
    hits += known != 0;
    misses += known == 0;
    if (known == 0 && id != 0)
        mp_known_learn(&key, &caller, 0, generation, &trace, pcs, id);
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

static __attribute__((noinline)) void walk(unsigned left) {
    static void (*const steps[])(unsigned) = {step_small, step_equal, step_large, step_dynamic};
    if (left == 0)
        sample();
    else
        steps[mp_random(&rng) % 4](left - 1);
    __asm__ volatile("" ::: "memory");
}

static void random_walks(unsigned walks, unsigned seeds, unsigned depth) {
    for (unsigned i = 0; i < walks; i++) {
        rng = i % seeds + 1;
        walk(1 + (unsigned)(mp_random(&rng) % depth));
    }
}

int main(void) {
    struct mp_unwind_config config = {.mode = MP_UNWIND_CFI};
    CHECK_EQ(mp_unwind_init(&config), 0);

    CASE("stacks that come again are known, and are those that unwinding finds");
    random_walks(60000, 300, 40);
    CHECK(hits > 9 * misses);

    CASE("more stacks than there is room for are never taken for others");
    random_walks(40000, 3500, 30);

    CASE("another generation, segment or state of the rules knows nothing");
    random_walks(2000, 10, 20);
    unsigned before = hits;
    generation++;
    random_walks(1, 1, 20);
    mp_local.epoch++;
    random_walks(1, 1, 20);
    mp_unwind_flush();
    random_walks(1, 1, 20);
    CHECK_EQ(hits, before);
    return check_end();
}
