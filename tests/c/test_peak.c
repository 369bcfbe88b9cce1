/*
 * test_peak.c - the highest total and what each site had then, against a ledger.
 */
#include "check.h"
#include "core/sites.h"

/* What another thread does while one is held up just before its compare-and-swap. */
static __thread void (*meanwhile)(void);
static __thread unsigned held_up;

static void hold_up(void) {
    void (*other)(void) = meanwhile;
    meanwhile = NULL;
    held_up += other != NULL;
    if (other != NULL)
        other();
}

#define mp_cas_u64(...) (hold_up(), mp_cas_u64(__VA_ARGS__))
#define mp_cas_u32(...) (hold_up(), mp_cas_u32(__VA_ARGS__))
#include "core/peak.c"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SITES 24
#define THREADS 4

static struct mp_site_row rows[SITES];
static struct mp_peak peak;

static void reset(void) {
    memset(rows, 0, sizeof rows);
    peak = (struct mp_peak){.capture = 1};
}

static void born(unsigned site, uint64_t size) {
    mp_site_stamp(&rows[site], mp_peak_epoch(&peak));
    mp_site_add(&rows[site], size, 0, false);
    mp_peak_add(&peak, size, 1, 1);
}

static void died(unsigned site, uint64_t size) {
    mp_peak_remove(&peak, size, 1);
    mp_site_stamp(&rows[site], mp_peak_epoch(&peak));
    mp_site_free(&rows[site], size);
}

static uint64_t live_blocks(unsigned site) {
    return (uint32_t)rows[site].alloc_blocks - rows[site].freed_blocks;
}

/* As a reader does it: blocks of a site at the peak. */
static uint64_t remembered(unsigned site) {
    bool now = mp_peak_class(peak.live_parts) > peak.epoch;
    uint64_t word = rows[site].peak;
    return !now && word >> 32 >= peak.epoch ? (uint32_t)word : live_blocks(site);
}

/* Sizes are fixed by site, so counts of blocks are states of the whole. */
static uint64_t size_of(unsigned site) {
    return 16 + 40 * (uint64_t)site;
}

struct state {
    uint64_t total;
    uint64_t blocks[SITES];
};

static uint64_t remembered_total(void) {
    uint64_t total = 0;
    for (unsigned i = 0; i < SITES; i++)
        total += remembered(i) * size_of(i);
    return total;
}

static bool same_as(const struct state *state) {
    for (unsigned i = 0; i < SITES; i++)
        if (remembered(i) != state->blocks[i])
            return false;
    return true;
}

/* The states in which a new high ended: a reader must find one of them, near the highest. */
static struct state *ended;
static unsigned ends;

static void note_end(const struct state *now) {
    ended = realloc(ended, (ends + 1) * sizeof *ended);
    ended[ends++] = *now;
}

static void step(struct state *now, uint64_t *rng, uint64_t *high, unsigned grow) {
    unsigned site = (unsigned)(mp_random(rng) % SITES);
    if (mp_random(rng) % 100 < grow) {
        born(site, size_of(site));
        now->blocks[site]++;
        now->total += size_of(site);
        *high = now->total > *high ? now->total : *high;
    } else if (now->blocks[site] > 0) {
        if (now->total == *high)
            note_end(now);
        died(site, size_of(site));
        now->blocks[site]--;
        now->total -= size_of(site);
    }
}

static void test_one_thread(void) {
    CASE("sites remember a moment within 1/1024 of the highest total, exactly");
    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint64_t rng = seed, high = 0;
        struct state now = {0};
        unsigned grow = 50;
        reset();
        ends = 0;
        for (unsigned i = 0; i < 5000; i++) {
            if (i % 500 == 0)
                grow = 30 + (unsigned)(mp_random(&rng) % 45);
            step(&now, &rng, &high, grow);
        }
        CHECK_EQ(peak.high_parts, (int64_t)(high << MP_PART_BITS));
        CHECK_EQ(peak.live_parts, (int64_t)(now.total << MP_PART_BITS));
        uint64_t total = remembered_total();
        CHECK(total <= high && total + total / MP_PEAK_STEPS + 1 >= high);
        bool found = same_as(&now);
        for (unsigned i = 0; i < ends && !found; i++)
            found = same_as(&ended[i]);
        CHECK(found);
    }
}

static void test_start_and_end(void) {
    CASE("a total that only grew is remembered as it is now, an empty capture as nothing");
    reset();
    CHECK_EQ(remembered_total(), 0);
    for (unsigned i = 0; i < 100; i++)
        born(3, size_of(3));
    CHECK_EQ(remembered(3), 100);
    for (unsigned i = 0; i < 100; i++)
        died(3, size_of(3));
    CHECK_EQ(remembered(3), 100);
    CHECK_EQ(live_blocks(3), 0);
    CASE("a maximum is no older than one before it, whichever thread comes first");
    reset();
    mp_peak_add(&peak, 64, 1, 9);
    mp_peak_add(&peak, 64, 1, 5);
    CHECK_EQ(peak.high_ns, 9);
    CASE("a site that comes after the peak had nothing then");
    reset();
    for (unsigned i = 0; i < 100; i++)
        born(3, size_of(3));
    for (unsigned i = 0; i < 100; i++)
        died(3, size_of(3));
    born(5, size_of(5));
    CHECK_EQ(remembered(5), 0);
    CHECK_EQ(remembered(3), 100);
}

static void others_free(void) {
    for (unsigned i = 0; i < 40; i++)
        died(1, size_of(1));
    for (unsigned i = 0; i < 10; i++)
        born(2, size_of(2));
}

static void test_held_up(void) {
    CASE("a thread held up at the end of a new high takes nothing from the others' moment");
    reset();
    for (unsigned i = 0; i < 50; i++)
        born(1, size_of(1));
    meanwhile = others_free;
    held_up = 0;
    died(1, size_of(1));
    CHECK_EQ(held_up, 1);
    CHECK_EQ(remembered(1), 50);
    CHECK_EQ(remembered(2), 0);
    CASE("nor does one that is held up before it writes a site's word");
    reset();
    for (unsigned i = 0; i < 50; i++)
        born(1, size_of(1));
    uint32_t epoch = mp_peak_class(peak.live_parts);
    peak.epoch = epoch;
    meanwhile = others_free;
    held_up = 0;
    mp_site_stamp(&rows[1], epoch);
    CHECK_EQ(held_up, 1);
    CHECK_EQ(live_blocks(1), 10);
    CHECK_EQ(remembered(1), 50);
}

static void test_classes(void) {
    CASE("classes of totals grow with them, in steps of 1/1024");
    uint32_t before = 0;
    for (uint64_t total = 0; total < 1 << 22; total++) {
        uint32_t class = mp_peak_class((int64_t)total);
        CHECK(class == before || class == before + 1);
        before = class;
    }
    for (int64_t total = 4096; total < INT64_MAX / 4; total += total / 2000 + 1)
        CHECK(mp_peak_class(total + total / MP_PEAK_STEPS + 1) > mp_peak_class(total));
    CHECK_EQ(mp_peak_class(-5), 0);
}

#define ROUNDS 300
#define EACH 200

static pthread_barrier_t gate;

/* All rise together, meet, and fall together: the peak is where they meet. */
static void *rise_and_fall(void *arg) {
    unsigned self = (unsigned)(uintptr_t)arg;
    for (unsigned round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&gate);
        for (unsigned i = 0; i < EACH; i++)
            born((self + i) % SITES, 64);
        pthread_barrier_wait(&gate);
        for (unsigned i = 0; i < EACH; i++)
            died((self + i) % SITES, 64);
        pthread_barrier_wait(&gate);
    }
    return NULL;
}

static void check_round(void) {
    uint64_t total = 0;
    for (unsigned i = 0; i < SITES; i++) {
        CHECK_EQ(live_blocks(i), 0);
        total += remembered(i);
        uint64_t true_blocks = 0;
        for (unsigned t = 0; t < THREADS; t++)
            for (unsigned k = 0; k < EACH; k++)
                true_blocks += (t + k) % SITES == i;
        CHECK(remembered(i) + THREADS >= true_blocks && remembered(i) <= true_blocks);
    }
    CHECK(total + THREADS >= THREADS * EACH);
    CHECK_EQ(peak.high_parts, 64 * THREADS * EACH << MP_PART_BITS);
    CHECK_EQ(peak.live_parts, 0);
}

static void test_threads(void) {
    CASE("of threads, each may be on both sides of the moment with one block");
    pthread_t threads[THREADS];
    pthread_barrier_init(&gate, NULL, THREADS + 1);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, rise_and_fall, (void *)i);
    for (unsigned round = 0; round < ROUNDS; round++) {
        reset();
        pthread_barrier_wait(&gate);
        pthread_barrier_wait(&gate);
        pthread_barrier_wait(&gate);
        check_round();
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&gate);
}

int main(void) {
    test_classes();
    test_start_and_end();
    test_one_thread();
    test_held_up();
    test_threads();
    free(ended);
    return check_end();
}
