/*
 * test_core.c - the sampler's tables without hooks: stacks, sites, live blocks, filter.
 */
#include "check.h"
#include "check_tables.h"
#include "core/local.h"
#include "core/sites.h"
#include "core/stacks.h"
#include "unwind/stack_range.h"

/* What another thread does just before and just after this one's compare-and-swap. */
static __thread void (*just_before)(void), (*just_after)(void);

static void run_once(void (**function)(void)) {
    void (*other)(void) = *function;
    *function = NULL;
    if (other != NULL)
        other();
}

static bool cas_u64(uint64_t *p, uint64_t expected, uint64_t desired) {
    run_once(&just_before);
    bool done = mp_cas_u64(p, expected, desired);
    run_once(&just_after);
    return done;
}

#define mp_cas_u64 cas_u64
#define claim claim_key
#include "core/keyed.c"
#undef claim
#include "core/live.c"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LIMIT_BYTES (64ULL << 20)
#define THREADS 4

static __thread struct mp_live_evicted evicted;

static struct mp_segment new_segment(uint64_t limit_bytes) {
    struct mp_segment seg;
    void *base =
        mmap(NULL, limit_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct mp_control *control = base;
    control->limit_bytes = limit_bytes;
    control->page_bytes = 4096;
    mp_segment_layout(control);
    mp_segment_attach(&seg, base, control);
    CHECK_EQ(mp_segment_reserve_first(&seg, -1), 0);
    return seg;
}

/* Rows of sites and live blocks are made apart in most cases, and do not add up. */
static void drop_segment(struct mp_segment *seg) {
    mp_check_stacks(seg);
    mp_check_filters(mp_check_host(seg, 0, false), 0);
    mp_filter_clear();
    munmap(seg->base, seg->control->limit_bytes);
}

static uint32_t intern(struct mp_segment *seg, const uintptr_t *frames, uint32_t depth,
                       uint32_t generation, bool *is_new) {
    struct mp_stack_identity stack = {.frames = frames, .depth = depth, .generation = generation};
    return mp_stack_intern_native(seg, &stack, is_new);
}

static void test_stacks(void) {
    CASE("a stack is stored once and found again");
    struct mp_segment seg = new_segment(LIMIT_BYTES);
    uintptr_t frames[64];
    bool is_new;
    uint32_t ids[20000];
    for (uint32_t i = 0; i < 20000; i++) {
        for (uint32_t j = 0; j < 64; j++)
            frames[j] = i * 1000 + j;
        ids[i] = intern(&seg, frames, 1 + i % 64, 0, &is_new);
        CHECK(is_new && ids[i] >= MP_STACK_LOST_MAX);
    }
    for (uint32_t i = 0; i < 20000; i++) {
        for (uint32_t j = 0; j < 64; j++)
            frames[j] = i * 1000 + j;
        CHECK_EQ(intern(&seg, frames, 1 + i % 64, 0, &is_new), ids[i]);
        CHECK(!is_new);
    }
    CASE("another loader generation is another stack");
    CHECK(intern(&seg, frames, 3, 1, &is_new) != intern(&seg, frames, 3, 2, &is_new));
    CASE("the same frames under another stack of an interpreter are another stack");
    struct mp_stack_identity pair = {.frames = frames, .depth = 3, .interpreter = 77};
    uint32_t other = mp_stack_intern(&seg, &pair, &is_new);
    CHECK(is_new && other != intern(&seg, frames, 3, 0, &is_new));
    CHECK_EQ(mp_stack_intern(&seg, &pair, &is_new), other);
    CHECK(!is_new);
    CASE("an empty stack has no id");
    CHECK_EQ(intern(&seg, frames, 0, 0, &is_new), MP_STACK_LOST_EMPTY);
    drop_segment(&seg);
}

/* Of calls over one another, as `path` says. */
static void walk(uintptr_t *frames, uint32_t depth, uint64_t path) {
    for (uint32_t i = 0; i < depth; i++)
        frames[i] = mp_mix(i % 7) + (path >> (i % 40) & 1);
}

static void test_joined_stacks(void) {
    CASE("deep stacks share the frames that they have in common, wherever these are");
    struct mp_segment seg = new_segment(LIMIT_BYTES);
    uintptr_t frames[MP_DEPTH_MAX];
    bool is_new;
    for (uint32_t i = 0; i < 400; i++)
        frames[i] = mp_mix(i);
    intern(&seg, frames, 400, 0, &is_new);
    uint64_t before = seg.control->arena_cursor, whole = before / 8;
    for (uint32_t shift = 1; shift <= 100; shift++)
        intern(&seg, frames + shift, 250, 0, &is_new);
    CHECK(seg.control->arena_cursor - before < 100 * 250 * 8 / 2);
    CASE("of equal frames, another depth, end and generation are other stacks");
    struct mp_stack_identity cut = {.frames = frames, .depth = 300, .truncated = 1};
    uint32_t ids[] = {intern(&seg, frames, 300, 0, &is_new), intern(&seg, frames, 299, 0, &is_new),
                      intern(&seg, frames, 300, 9, &is_new),
                      mp_stack_intern_native(&seg, &cut, &is_new)};
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t j = 0; j < i; j++)
            CHECK(ids[i] != ids[j]);
    CASE("every stack is found again, at any depth");
    uint32_t id[600];
    for (uint32_t i = 0; i < 600; i++) {
        walk(frames, 20 + 6 * i, mp_mix(i));
        id[i] = intern(&seg, frames, 20 + 6 * i, 0, &is_new);
    }
    for (uint32_t i = 0; i < 600; i++) {
        walk(frames, 20 + 6 * i, mp_mix(i));
        CHECK_EQ(intern(&seg, frames, 20 + 6 * i, 0, &is_new), id[i]);
        CHECK(!is_new && id[i] > whole);
    }
    CASE("a record that names runs outside of the arena is no stack");
    for (uint32_t i = 0; i < 400; i++)
        frames[i] = mp_mix(i);
    uint32_t forged = intern(&seg, frames, 300, 0, &is_new);
    uint32_t *runs = (uint32_t *)(mp_check_stack_at(&seg, forged * 8ULL) + 1);
    uint32_t first = runs[0];
    runs[0] = UINT32_MAX;
    CHECK(intern(&seg, frames, 300, 0, &is_new) != forged && is_new);
    runs[0] = first;
    drop_segment(&seg);
}

static void test_kept_for_devices(void) {
    CASE("where the host's stacks filled the arena, there is room for those of devices");
    struct mp_segment seg = new_segment(MP_LIMIT_WHOLE_BYTES);
    uintptr_t frames[16];
    bool is_new;
    uint64_t i = 0;
    uint32_t id;
    do {
        for (uint32_t j = 0; j < 16; j++)
            frames[j] = mp_mix(++i);
        id = intern(&seg, frames, 16, 0, &is_new);
    } while (id != MP_STACK_LOST_TABLE_FULL && i < 10000000);
    CHECK_EQ(id, MP_STACK_LOST_TABLE_FULL);
    uint32_t stored = 0;
    mp_self.of_device = true;
    for (uint32_t more = 0; more < 100; more++) {
        frames[0] = mp_mix(++i);
        stored += intern(&seg, frames, 16, 0, &is_new) >= MP_STACK_LOST_MAX && is_new;
    }
    mp_self.of_device = false;
    CHECK(stored > 90); /* the index may be growing */
    drop_segment(&seg);
}

static void test_full_arena(void) {
    CASE("a full arena loses stacks, says so, and writes nothing outside");
    struct mp_segment seg = new_segment(MP_LIMIT_WHOLE_BYTES);
    uintptr_t frames[128];
    bool is_new;
    uint32_t lost = 0;
    for (uint32_t i = 0; i < 100000; i++) {
        for (uint32_t j = 0; j < 128; j++)
            frames[j] = mp_mix(i) + j;
        lost += intern(&seg, frames, 128, 0, &is_new) == MP_STACK_LOST_TABLE_FULL;
    }
    CHECK(lost > 0 && lost < 100000);
    drop_segment(&seg);
}

static void test_sites(void) {
    CASE("a site is found again by its key, also past the first level");
    struct mp_segment seg = new_segment(LIMIT_BYTES);
    uint32_t n = 60000, none = 0, again;
    uint32_t *refs = malloc(n * sizeof *refs);
    for (uint32_t i = 0; i < n; i++)
        mp_site_intern(&seg, mp_site_key(100 + i, 64, 0, 0, 1), &refs[i]);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = mp_site_key(100 + i, 64, 0, 0, 1);
        none += refs[i] == MP_SITE_NONE;
        if (refs[i] == MP_SITE_NONE)
            continue;
        struct mp_site_row *row = mp_site_intern(&seg, key, &again);
        CHECK_EQ(again, refs[i]);
        CHECK(row != NULL && mp_site_at(&seg, refs[i], key) == row);
        CHECK(mp_site_at(&seg, refs[i], key + 1) == NULL);
    }
    CHECK(none < 200); /* only while a new level was being reserved */
    CASE("sites of lost stacks have room of their own");
    CHECK(mp_site_intern(&seg, mp_site_key(MP_STACK_LOST_EMPTY, 64, 0, 0, 1), &again) != NULL);
    CHECK_EQ(again >> 28, MP_LOST_SITES_LEVEL);
    CASE("a reference out of bounds is refused");
    CHECK(mp_site_at(&seg, 0x70000000, mp_site_key(100, 64, 0, 0, 1)) == NULL);
    CHECK(mp_site_at(&seg, 0x0fffffff, mp_site_key(100, 64, 0, 0, 1)) == NULL);
    free(refs);
    drop_segment(&seg);
}

static struct mp_segment shared;
static uint64_t *contended;

static void claim_first(void) {
    mp_store_release(contended, mp_site_key(200, 64, 0, 0, 1));
}

static void test_a_row_claimed_by_two(void) {
    CASE("a row that another thread claims first is left to it");
    shared = new_segment(LIMIT_BYTES);
    uint64_t key = mp_site_key(100, 64, 0, 0, 1), again;
    uint32_t other, site;
    mp_site_intern(&shared, mp_site_key(101, 64, 0, 0, 1), &other); /* reserves the level */
    const struct mp_level *level = &shared.layout.sites.level[0];
    contended = &mp_level_keys(&shared, level)[mp_bucket(level, mp_mix(key), 0)];
    CHECK_EQ(*contended, 0);
    just_before = claim_first;
    mp_site_intern(&shared, key, &site);
    again = *contended;
    CHECK(site != MP_SITE_NONE && mp_site_at(&shared, site, key) != NULL && again != key);
    *contended = 0;
    drop_segment(&shared);
}

static void test_captures_reuse_rows(void) {
    CASE("fifty captures of 1500 sites each do not fill the table");
    struct mp_segment seg = new_segment(MP_LIMIT_WHOLE_BYTES);
    for (uint32_t capture = 1; capture <= 50; capture++) {
        uint32_t none = 0;
        for (uint32_t i = 0; i < 1500; i++) {
            uint64_t key = mp_site_key(1000 + i, 64, 0, 0, capture);
            uint32_t site;
            struct mp_site_row *row = mp_site_intern(&seg, key, &site);
            none += site == MP_SITE_NONE;
            CHECK(site == MP_SITE_NONE || (row != NULL && row->alloc_blocks == 0));
            if (row != NULL)
                mp_site_add(row, 64, 0, false);
        }
        CHECK_EQ(none, 0);
    }
    drop_segment(&seg);
}

/* Fill both buckets of `key` on the first level with rows of a capture; 0: empty them. */
static void crowd(struct mp_segment *seg, uint64_t key, uint32_t capture) {
    const struct mp_level *level = &seg->layout.sites.level[0];
    for (unsigned which = 0; which < 2; which++) {
        uint32_t first = mp_bucket(level, mp_mix(key), which);
        for (uint32_t i = 0; i < MP_BUCKET_ROWS; i++) {
            struct mp_site_row *row = mp_level_row(seg, level, first + i);
            uint64_t old = mp_site_key(5000 + first + i, 64, 0, 0, capture);
            memset(row, 0, sizeof *row);
            mp_store_release(&mp_level_keys(seg, level)[first + i], capture == 0 ? 0 : old);
            if (capture != 0)
                mp_site_add(row, 64, 0, false);
        }
    }
}

static void test_only_rows_of_older_captures_are_reused(void) {
    CASE("a full bucket gives rows of captures two or more back, and no others");
    struct mp_segment seg = new_segment(MP_LIMIT_WHOLE_BYTES);
    uint64_t key = mp_site_key(1000, 64, 0, 0, 5);
    uint32_t site;
    mp_site_intern(&seg, mp_site_key(1001, 64, 0, 0, 5), &site); /* reserves the level */
    seg.layout.sites.count = 1; /* no second level */
    CHECK_EQ(mp_table_ready(&seg.layout.sites, &seg.control->sites), 1);
    for (uint32_t capture = 4; capture <= 5; capture++) {
        crowd(&seg, key, capture);
        site = MP_SITE_NONE;
        CHECK(mp_site_intern(&seg, key, &site) == NULL);
        CHECK_EQ(site, MP_SITE_NONE);
    }
    crowd(&seg, key, 3);
    struct mp_site_row *row = mp_site_intern(&seg, key, &site);
    CHECK(row != NULL && row->alloc_blocks == 0);
    CHECK_EQ(site, mp_bucket(&seg.layout.sites.level[0], mp_mix(key), 0));
    crowd(&seg, key, 0);
    drop_segment(&seg);
}

static void test_live(void) {
    CASE("a live block is found once, with what was stored");
    struct mp_segment seg = new_segment(LIMIT_BYTES);
    uint32_t n = 50000, missing = 0;
    bool *stored = calloc(n, sizeof *stored);
    for (uint32_t i = 0; i < n; i++) {
        struct mp_live_block row = {
            .size_bytes = i, .site_key = mp_site_key(99, 1, 0, 0, 1), .thread = i};
        stored[i] = mp_live_add(&seg, (void *)(uintptr_t)(0x10000 + 16 * i), &row, 1, &evicted);
        missing += !stored[i];
    }
    CHECK(missing < n / 100);
    for (uint32_t i = 0; i < n; i++) {
        struct mp_live_block row;
        const void *block = (void *)(uintptr_t)(0x10000 + 16 * i);
        CHECK(!stored[i] || mp_filter_hit(block));
        CHECK_EQ(mp_live_take(&seg, block, &row), stored[i]);
        CHECK(!stored[i] || (row.size_bytes == i && row.thread == i));
        CHECK(!mp_live_take(&seg, block, &row));
    }
    CASE("the filter is empty when nothing is live");
    uint32_t cells = 0;
    for (uint32_t i = 0; i < 1u << MP_FILTER_SMALL_BITS; i++)
        cells += mp_local.filter_small[i] != 0;
    for (uint32_t i = 0; i < 1u << MP_FILTER_LARGE_BITS; i++)
        cells += mp_local.filter_large[i] != 0;
    CHECK_EQ(cells, 0);
    free(stored);
    drop_segment(&seg);
}

/* Addresses that share the large filter's cell of `first`, itself included. */
static void find_cell_mates(const void *first, const void **mates, uint32_t n) {
    uint64_t cell = mp_filter_large_cell(first);
    uint32_t found = 0;
    for (uintptr_t page = (uintptr_t)first & -4096; found < n; page += 4096)
        for (uintptr_t p = page; p < page + 4096 && found < n; p += 16) {
            uint64_t other = mp_filter_large_cell((void *)p);
            if (other >> 7 != cell >> 7)
                break; /* all of the page lie elsewhere */
            if (other == cell && (found > 0 || p == (uintptr_t)first))
                mates[found++] = (void *)p;
        }
}

static void test_filter(void) {
    enum { MATES = MP_FILTER_LARGE_MAX + 1 };
    const void *mates[MATES + 1];
    uint32_t wrong = 0, missing = 0;
    find_cell_mates((void *)(uintptr_t)0x7f0000001230, mates, MATES + 1);

    CASE("a cell with one address tells it from others of the cell");
    CHECK(mp_filter_add(mates[0]));
    for (uint32_t i = 1; i < MATES; i++)
        wrong += mp_filter_hit_large(mates[i]);
    CHECK(mp_filter_hit_large(mates[0]));
    CHECK(wrong < MATES / 20);

    CASE("a cell with several never denies one of them, and is full before it wraps");
    for (uint32_t i = 1; i < MATES; i++)
        CHECK(mp_filter_add(mates[i]));
    CHECK(!mp_filter_add(mates[MATES]));
    for (uint32_t gone = 0; gone < MATES; gone++) {
        for (uint32_t i = gone; i < MATES; i++)
            missing += !mp_filter_hit_large(mates[i]);
        mp_filter_remove(mates[gone]);
    }
    CHECK_EQ(missing, 0);
    CHECK_EQ(mp_local.filter_large[mp_filter_large_cell(mates[0])], 0);

    CASE("blocks that begin pages spread over all cells");
    uint32_t blocks = 100000, most = 0;
    for (uintptr_t i = 0; i < blocks; i++)
        CHECK(mp_filter_add((void *)(0x7e0000000000 + (i << 12))));
    for (uintptr_t i = 0; i < blocks; i++) {
        const void *p = (void *)(0x7e0000000000 + (i << 12));
        uint32_t count = mp_filter_count(mp_local.filter_large[mp_filter_large_cell(p)]);
        most = count > most ? count : most;
        mp_filter_remove(p);
    }
    CHECK(most < 8);
}

static void test_live_evicts_old_captures(void) {
    CASE("blocks of an old capture make room for new ones");
    struct mp_segment seg = new_segment(MP_LIMIT_WHOLE_BYTES);
    uint32_t n = 8000, refused = 0;
    for (uint32_t capture = 1; capture <= 4; capture++)
        for (uint32_t i = 0; i < n; i++) {
            struct mp_live_block row = {.site_key = mp_site_key(99, 1, 0, 0, capture)};
            refused += capture == 4 &&
                       !mp_live_add(&seg, (void *)(uintptr_t)(0x100000ULL * capture + 16 * i), &row,
                                    capture, &evicted);
            if (capture < 4)
                mp_live_add(&seg, (void *)(uintptr_t)(0x100000ULL * capture + 16 * i), &row,
                            capture, &evicted);
        }
    CHECK(refused < n / 50);
    drop_segment(&seg);
}

/* Add `count` blocks side by side from `base` on, as malloc(500) gives them; the last `most` live on. The
 * levels that are ready in the end, and how many blocks found no room in *refused. */
static uint32_t blocks_of_one_size(uint64_t base, uint64_t count, uint64_t most,
                                   uint32_t *refused) {
    struct mp_segment seg = new_segment(LIMIT_BYTES);
    struct mp_live_block out, row = {.site_key = mp_site_key(99, 500, 0, 0, 1)};
    for (uint64_t i = 0; i < count + most; i++) {
        if (i >= most)
            mp_live_take(&seg, (void *)(base + 512 * (i - most)), &out);
        if (i < count)
            *refused += !mp_live_add(&seg, (void *)(base + 512 * i), &row, 1, &evicted);
    }
    uint32_t ready = seg.control->live.levels_ready;
    drop_segment(&seg);
    return ready;
}

static void test_live_of_one_size(void) {
    CASE("blocks of one size, side by side, come to no full level");
    uint32_t refused = 0;
    for (uint64_t heap = 0; heap < 40; heap++)
        CHECK_EQ(blocks_of_one_size(0x550000000000 + heap * 0x12345000, 20000, 20000, &refused), 3);
    CHECK_EQ(refused, 0);
    CASE("few blocks that come and go ask for no more");
    CHECK_EQ(blocks_of_one_size(0x550000000000, 400000, 5000, &refused), 2);
}

static void *at_address(uint64_t i) {
    return (void *)(uintptr_t)(0x100000 + 16 * i);
}

static struct mp_live_block of_capture(uint32_t capture) {
    return (struct mp_live_block){.site_key = mp_site_key(99, 1, 0, 0, capture)};
}

/* The address of the row that is about to be evicted is freed, and sampled anew in the same row. */
static void sample_anew(void) {
    struct mp_live_block out, row = of_capture(2);
    CHECK(mp_live_take(&shared, at_address(0), &out));
    CHECK(mp_live_add(&shared, at_address(0), &row, 2, &evicted));
}

static void free_first(void) {
    struct mp_live_block out;
    CHECK(!mp_live_take(&shared, at_address(0), &out));
}

static void test_live_evicts_what_changes_below_it(void) {
    CASE("a block that is freed while its row is evicted leaves no row behind");
    shared = new_segment(LIMIT_BYTES);
    const struct mp_level *level = &shared.layout.live.level[0];
    struct mp_live_block old = of_capture(1);
    struct mp_live_evicted told = {.row = {.site_key = 0}};
    struct place place = place_of(key_of(at_address(0)));
    CHECK(mp_live_add(&shared, at_address(0), &old, 1, &evicted));
    just_before = sample_anew;
    just_after = NULL;
    struct mp_live_row *row = claim_old(&shared, level, key_of(at_address(1)), &place, 2, &told);
    CHECK(row != NULL);
    CHECK(told.block == at_address(0));
    CHECK_EQ(told.row.site_key, of_capture(2).site_key);
    free_first();
    mp_store_release(&row->key, 0ULL);
    drop_segment(&shared);
}

static void *churn(void *arg) {
    uintptr_t base = 0x1000000 * ((uintptr_t)arg + 1);
    uint64_t rng = (uint64_t)base;
    uint32_t shard = mp_shard_of((uint32_t)(uintptr_t)arg + 1);
    bool is_new;
    for (int i = 0; i < 20000; i++) {
        uintptr_t frames[8];
        for (int j = 0; j < 8; j++)
            frames[j] = mp_random(&rng) % 2 + 10 * (uintptr_t)j;
        uint32_t stack = intern(&shared, frames, 8, 0, &is_new);
        struct mp_live_block row = {.size_bytes = 32,
                                    .site_key = mp_site_key(stack, 32, 0, shard, 1)};
        struct mp_site_row *counters = mp_site_intern(&shared, row.site_key, &row.site);
        const void *block = (void *)(base + 16 * (uintptr_t)(i % 500));
        if (counters == NULL || !mp_live_add(&shared, block, &row, 1, &evicted))
            continue;
        mp_site_add(counters, 32, (uint64_t)i, mp_key_owned(row.site_key));
        struct mp_live_block out;
        if (mp_live_take(&shared, block, &out))
            mp_site_free(mp_site_at(&shared, out.site, out.site_key), out.size_bytes);
    }
    return NULL;
}

static void test_threads(void) {
    CASE("threads that meet in the tables lose no count");
    shared = new_segment(LIMIT_BYTES);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, churn, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    uint64_t alloc = 0, freed = 0;
    for (uint32_t l = 0; l < shared.control->sites.levels_ready; l++) {
        struct mp_level *level = &shared.control->sites.level[l];
        for (uint32_t r = 0; r < level->rows; r++) {
            struct mp_site_row *row = mp_level_row(&shared, level, r);
            alloc += mp_births_blocks(row->alloc_blocks);
            freed += row->freed_blocks; /* fewer than 2^32 */
        }
    }
    mp_check_host(&shared, 1, true);
    CHECK(alloc > THREADS * 19000);
    CHECK_EQ(alloc, freed);
    drop_segment(&shared);
}

struct piece {
    uint64_t offset, bytes;
};

static unsigned pieces_of(const struct mp_control *c, struct piece *out) {
    const struct mp_table *tables[] = {&c->stack_index, &c->sites, &c->live, &c->device_sites,
                                       &c->device_live};
    unsigned n = 0;
    out[n++] = (struct piece){0, sizeof *c};
    for (unsigned kind = 1; kind < MP_ARRAYS; kind++) {
        const struct mp_array *array = &c->directory[kind];
        if (kind == MP_ARRAY_EVENTS && c->limit_bytes < MP_LIMIT_WHOLE_BYTES)
            continue;
        CHECK_EQ(array->kind, kind);
        out[n++] = (struct piece){array->offset, array->rows * array->row_bytes};
    }
    out[n++] = (struct piece){c->lost_sites.offset, mp_level_bytes(&c->lost_sites)};
    out[n++] = (struct piece){c->device_lost_sites.offset, mp_level_bytes(&c->device_lost_sites)};
    for (unsigned t = 0; t < 5; t++)
        for (unsigned i = 0; i < tables[t]->levels; i++)
            out[n++] =
                (struct piece){tables[t]->level[i].offset, mp_level_bytes(&tables[t]->level[i])};
    return n;
}

static void check_layout(uint64_t limit, uint32_t page) {
    struct piece pieces[64];
    struct mp_control c = {.limit_bytes = limit, .page_bytes = page};
    mp_segment_layout(&c);
    unsigned n = pieces_of(&c, pieces);
    for (unsigned i = 0; i < n; i++) {
        CHECK(pieces[i].bytes > 0 && pieces[i].offset + pieces[i].bytes <= limit);
        for (unsigned j = 0; j < i; j++)
            CHECK(pieces[i].offset + pieces[i].bytes <= pieces[j].offset ||
                  pieces[j].offset + pieces[j].bytes <= pieces[i].offset);
    }
    uint64_t arena = c.directory[MP_ARRAY_STACKS].rows * 8;
    CHECK(arena >= limit / 10 || arena == 8ULL << MP_KEY_STACK_BITS);
    CHECK(limit < MP_LIMIT_WHOLE_BYTES || c.directory[MP_ARRAY_MODULES].rows == MP_MODULE_ROWS);
}

static void test_layout(void) {
    const uint32_t pages[] = {4096, 16384, 65536};
    CASE("every table of a file of any size lies inside it, and touches no other");
    for (unsigned p = 0; p < 3; p++)
        for (uint64_t limit = mp_limit_min_bytes(pages[p]); limit < 64ULL << 30;
             limit += 0x10000 + ((limit / 7) & ~0xffffULL))
            check_layout(limit, pages[p]);
    CASE("the smallest file holds a capture");
    struct mp_segment seg = new_segment(MP_LIMIT_MIN_BYTES);
    uint32_t refused = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        uintptr_t frames[8] = {i, 1, 2, 3, 4, 5, 6, 7};
        bool is_new;
        uint32_t stack = intern(&seg, frames, 8, 0, &is_new);
        struct mp_live_block row = {.site_key = mp_site_key(stack, 64, 0, 0, 1)};
        refused += stack < MP_STACK_LOST_MAX;
        refused += mp_site_intern(&seg, row.site_key, &row.site) == NULL;
        refused += !mp_live_add(&seg, (void *)(uintptr_t)(0x100000 + 64 * i), &row, 1, &evicted);
    }
    CHECK(refused < 100);
    drop_segment(&seg);
}

int main(void) {
    mp_stack_init(NULL);
    test_threads();
    if (!CHECK_ONE_THREAD)
        return check_end();
    test_stacks();
    test_joined_stacks();
    test_kept_for_devices();
    test_full_arena();
    test_layout();
    test_sites();
    test_a_row_claimed_by_two();
    test_captures_reuse_rows();
    test_only_rows_of_older_captures_are_reused();
    test_live();
    test_live_of_one_size();
    test_filter();
    test_live_evicts_old_captures();
    test_live_evicts_what_changes_below_it();
    return check_end();
}
