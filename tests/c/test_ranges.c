/*
 * test_ranges.c - blocks that any range may end, found by their addresses: random calls against a ledger of pages.
 */
#include "device/device_live.h"
#include "device/device_ranges.h"
#include "device_segment.h"

#include <pthread.h>

#define PAGE 4096ULL
#define CHUNK 64u /* pages that are neighbours in every zone */
#define CHUNKS 16u
#define PAGES (CHUNK * CHUNKS)
#define OWNERS 5u
#define THREADS 4u

static uint32_t domain[OWNERS]; /* [0] nobody */

static struct zone {
    uint64_t base, stride, random; /* a chunk begins `stride` bytes after the one before */
    unsigned operations;
    bool shares; /* what is between its chunks is another's */
    unsigned char owner[PAGES];
} zones[THREADS];

static unsigned draw(struct zone *zone, unsigned below) {
    zone->random = zone->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(zone->random >> 33) % below;
}

static uint64_t address_of(const struct zone *zone, unsigned page) {
    return zone->base + page / CHUNK * zone->stride + page % CHUNK * PAGE;
}

static void own(struct zone *zone, unsigned page, unsigned pages, unsigned owner) {
    memset(zone->owner + page, (int)owner, pages);
}

static __attribute__((noinline)) void set(uint64_t address, uint64_t bytes, unsigned owner) {
    struct mp_device_block block = {.domain = domain[owner],
                                    .space = MP_SPACE_HOST,
                                    .address = address,
                                    .asked_bytes = bytes,
                                    .api_pc = (uintptr_t)set};
    MP_CALLER(block.caller);
    mp_range_set(&block);
}

/* Where the ledger's pages are one range: in a chunk, or anywhere in a zone whose chunks follow each other. */
static unsigned pages_from(struct zone *zone, unsigned page, unsigned most) {
    unsigned left = zone->stride == CHUNK * PAGE ? PAGES - page : CHUNK - page % CHUNK;
    return 1 + draw(zone, left < most ? left : most);
}

static void map(struct zone *zone, bool is_fixed) {
    unsigned page = draw(zone, PAGES), pages = pages_from(zone, page, 40);
    unsigned owner = 1 + draw(zone, OWNERS - 1);
    uint64_t from = address_of(zone, page), to = from + pages * PAGE;
    struct mp_range_cleared cleared;
    if (is_fixed)
        mp_range_clear(from, to, true, &cleared);
    set(from, to - from, owner);
    if (is_fixed)
        mp_range_end(&cleared);
    own(zone, page, pages, owner);
}

/* Of any pages, also those of several chunks; the kernel may refuse. */
static void unmap(struct zone *zone, bool is_refused) {
    unsigned page = draw(zone, PAGES), last = page + draw(zone, draw(zone, 9) ? 30 : PAGES);
    unsigned most = zone->shares ? page | (CHUNK - 1) : PAGES - 1;
    last = last < most ? last : most;
    struct mp_range_cleared cleared;
    mp_range_clear(address_of(zone, page), address_of(zone, last) + PAGE, is_refused, &cleared);
    if (is_refused)
        mp_range_restore(&cleared);
    else
        own(zone, page, last + 1 - page, 0);
}

static void move(struct zone *zone) {
    unsigned page = draw(zone, PAGES), pages = pages_from(zone, page, 60);
    unsigned to = draw(zone, PAGES), now = pages_from(zone, to, 60);
    unsigned char owners[PAGES], last = zone->owner[page + pages - 1];
    struct mp_range_cleared moved;
    if (page < to + now && to < page + pages)
        return;
    memcpy(owners, zone->owner + page, pages);
    uint64_t from = address_of(zone, page), target = address_of(zone, to);
    mp_range_clear(from, from + pages * PAGE, true, &moved);
    if (moved.count == 0)
        return; /* the kernel refuses */
    mp_range_move(&moved, target, target + now * PAGE);
    own(zone, page, pages, 0);
    for (unsigned i = 0; i < now; i++)
        zone->owner[to + i] = i < pages ? owners[i] : last;
}

static void *work(void *arg) {
    struct zone *zone = arg;
    for (unsigned i = 0; i < zone->operations; i++) {
        unsigned what = draw(zone, 8);
        if (what < 4)
            map(zone, what & 1);
        else if (what < 7)
            unmap(zone, what == 6);
        else
            move(zone);
    }
    return NULL;
}

/* Pages that the live table says otherwise of, or twice. */
static unsigned wrong_pages(const struct zone *zone) {
    static unsigned char found[PAGES];
    struct mp_segment *seg = &mp_local.segment;
    struct mp_device_live_row row;
    uint64_t cursor = 0;
    unsigned wrong = 0;
    memset(found, 0, sizeof found);
    while (mp_device_live_next(seg, MP_SPACE_HOST, &cursor, &row))
        for (unsigned page = 0; page < PAGES; page++)
            if (address_of(zone, page) - row.address < row.asked_bytes) {
                unsigned owner = 1;
                while (domain[owner] != mp_key_domain(row.site_key))
                    owner++;
                wrong += found[page] != 0;
                found[page] = (unsigned char)owner;
            }
    for (unsigned page = 0; page < PAGES; page++)
        wrong += found[page] != zone->owner[page];
    return wrong;
}

static uint64_t counted(void) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < 1u << MP_STARTS_BITS; i++)
        sum += mp_local.starts.cell[i];
    for (unsigned i = 0; i < 64; i++)
        sum += mp_local.starts.of_size[i];
    return sum;
}

static void begin(void) {
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    for (unsigned i = 1; i < OWNERS; i++)
        domain[i] = mp_domain_intern("mmap", (int)i, MP_MEMORY_MAPPED);
}

static void end(void) {
    struct mp_range_cleared cleared;
    mp_range_clear(PAGE, MP_STARTS_END, false, &cleared);
    CHECK_EQ(live_rows(), 0);
    CHECK_EQ(counted(), 0);
    CHECK_EQ(mp_local.segment.control->device_lost[MP_LOST_LIVE_FULL], 0);
    close_segment();
}

static void test_ledger(uint64_t base, uint64_t stride) {
    struct zone *zone = &zones[0];
    *zone = (struct zone){.base = base, .stride = stride, .random = stride, .operations = 20};
    begin();
    for (unsigned i = 0; i < 150 && wrong_pages(zone) == 0; i++)
        work(zone);
    CHECK_EQ(wrong_pages(zone), 0);
    end();
}

static void test_threads(void) {
    pthread_t thread[THREADS];
    CASE("threads whose pages share nodes");
    begin();
    for (unsigned i = 0; i < THREADS; i++) {
        zones[i] = (struct zone){.base = 0x7f0000000000 + i * CHUNK * PAGE,
                                 .stride = THREADS * CHUNK * PAGE,
                                 .random = i,
                                 .shares = true,
                                 .operations = 1000};
        CHECK_EQ(pthread_create(&thread[i], NULL, work, &zones[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(wrong_pages(&zones[i]), 0);
    end();
}

/* Cells that a search for [from, to) reads. */
static unsigned steps_of(uint64_t from, uint64_t to) {
    struct mp_starts_search search = {.at = from - 1, .steps_left = MP_STARTS_STEPS};
    mp_starts_last(&search);
    search.at = from;
    mp_starts_next(&search, to);
    return MP_STARTS_STEPS - search.steps_left;
}

static void test_cost(uint64_t stride, unsigned count) {
    uint64_t base = 0x600000000000, bytes = 16 * PAGE;
    unsigned most = 0;
    begin();
    for (unsigned i = 0; i < count; i++)
        set(base + i * stride, bytes, 1);
    CHECK_EQ(live_rows(), count);
    for (unsigned i = 0; i < count; i += 97) {
        uint64_t at = base + i * stride + 7 * PAGE;
        unsigned steps = steps_of(at, at + PAGE);
        most = steps > most ? steps : most;
    }
    CHECK(most < 400);
    CHECK(steps_of(base - PAGE, base) < 400);
    CHECK(steps_of(base + count * stride, base + count * stride + PAGE) < 400);
    end();
}

int main(void) {
    start_unwinder();
    CASE("the live table has what the ledger has");
    if (CHECK_ONE_THREAD) {
        test_ledger(0x7f1234560000, CHUNK * PAGE);
        CASE("the same, of chunks that are far apart, and of addresses above 47 bits");
        test_ledger(0x100000000000, 3ULL << 38);
        test_ledger(0xff000000000000, 5ULL << 22);
        CASE("a search reads few cells, however many blocks there are");
        test_cost(64 << 10, 200);
        test_cost(64 << 10, 10000);
        test_cost(1 << 30, 2000);
    }
    test_threads();
    return check_end();
}
