/*
 * heaps.c - see heaps.h.
 */
#include "heaps.h"
#include "core/capture.h"
#include "core/quiescence.h"
#include "core/word_set.h"
#include "device_domains.h"
#include "device_live.h"

#include <errno.h>

#define NODES 16384u
#define NODES_OF_ONE (NODES / 8) /* a longer list is no better than the table */
#define CLEAN_AT 64u
#define WITHOUT_NODE (1u << 31)
#define BYTES_MAX (1ULL << MP_LIVE_SIZE_BITS)

struct node {
    uint64_t address; /* the key of its block */
    uint32_t next;    /* + 1; 0: none */
    uint32_t pad;
};

static struct node nodes[NODES];
static uint64_t free_nodes; /* tag << 32 | node + 1 */
static uint32_t used_nodes;
static struct mp_word_set pools; /* with samples, by their keys */

static uint64_t in_epoch(uint32_t value) {
    return (uint64_t)mp_load_relaxed(&mp_local.epoch) << 32 | value;
}

static uint32_t of_epoch(uint64_t word) {
    return word >> 32 == mp_load_relaxed(&mp_local.epoch) ? (uint32_t)word : 0;
}

static uint32_t take_node(void) {
    uint64_t first = mp_load_acquire(&free_nodes);
    while ((uint32_t)first - 1 < NODES) {
        uint32_t next = mp_load_relaxed(&nodes[(uint32_t)first - 1].next);
        if (mp_cas_u64(&free_nodes, first, ((first >> 32) + 1) << 32 | next))
            return (uint32_t)first;
        first = mp_load_acquire(&free_nodes);
    }
    if (mp_load_relaxed(&used_nodes) >= NODES)
        return 0;
    uint32_t fresh = mp_add_relaxed(&used_nodes, 1);
    return fresh < NODES ? fresh + 1 : 0;
}

static void give_node(uint32_t node) {
    uint64_t first;
    do {
        first = mp_load_acquire(&free_nodes);
        mp_store_relaxed(&nodes[node - 1].next, (uint32_t)first);
    } while (!mp_cas_u64(&free_nodes, first, ((first >> 32) + 1) << 32 | node));
}

static void add_count(struct mp_heap_words *words, uint32_t nodes_more, uint32_t flag) {
    uint64_t seen;
    do
        seen = mp_load_relaxed(&words->counts);
    while (!mp_cas_u64(&words->counts, seen, in_epoch((of_epoch(seen) + nodes_more) | flag)));
}

static void push(struct mp_heap_words *words, uint32_t node) {
    uint64_t first;
    do {
        first = mp_load_relaxed(&words->list);
        mp_store_relaxed(&nodes[node - 1].next, of_epoch(first));
    } while (!mp_cas_u64(&words->list, first, in_epoch(node)));
    add_count(words, 1, 0);
}

/* The first node of a list that is nobody's any more. A forged one ends the list. */
static uint32_t take_list(struct mp_heap_words *words) {
    uint32_t first = of_epoch(__atomic_exchange_n(&words->list, 0, __ATOMIC_ACQ_REL));
    return first <= NODES ? first : 0;
}

static uint32_t next_of(uint32_t node) {
    uint32_t next = mp_load_relaxed(&nodes[node - 1].next);
    return next <= NODES ? next : 0;
}

/* Drop the nodes of blocks that are gone. */
static void clean(struct mp_segment *seg, struct mp_heap_words *words) {
    uint32_t flag = of_epoch(mp_load_relaxed(&words->counts)) & WITHOUT_NODE, kept = 0;
    uint32_t node = take_list(words);
    mp_store_relaxed(&words->counts, in_epoch(flag));
    for (uint32_t next, steps = 0; node != 0 && steps < NODES; node = next, steps++) {
        struct mp_device_live_row row;
        next = next_of(node);
        uint64_t address = mp_load_relaxed(&nodes[node - 1].address);
        if (mp_device_live_look(seg, MP_SPACE_HEAP, address, &row) && row.node == node) {
            push(words, node);
            kept++;
        } else {
            give_node(node);
        }
    }
    mp_store_relaxed(&words->limit, in_epoch(2 * kept > CLEAN_AT ? 2 * kept : CLEAN_AT));
}

/* A node for one more block of an arena; 0: none. */
static uint32_t node_for(struct mp_segment *seg, struct mp_heap_words *words, uint64_t address) {
    uint32_t count = of_epoch(mp_load_relaxed(&words->counts)) & ~WITHOUT_NODE;
    uint32_t limit = of_epoch(mp_load_relaxed(&words->limit));
    if (count >= (limit != 0 ? limit : CLEAN_AT)) {
        clean(seg, words);
        count = of_epoch(mp_load_relaxed(&words->counts)) & ~WITHOUT_NODE;
    }
    uint32_t node = count < NODES_OF_ONE ? take_node() : 0;
    if (node != 0)
        mp_store_relaxed(&nodes[node - 1].address, address);
    return node;
}

static uint64_t key_of(uint32_t domain, uint64_t address) {
    return address ^ (uint64_t)domain << MP_POOL_SHIFT;
}

/* What the blocks of a pool have as container. */
static uint64_t pool_key(uint32_t domain, uint64_t pool) {
    return mp_mix(key_of(domain, pool)) | 1;
}

/* The number that the heap's domain has in this segment; MP_DOMAIN_NONE: none. */
static uint32_t domain_of(const struct mp_heap *heap) {
    uint32_t domain = of_epoch(mp_load_relaxed(&heap->words->domain));
    if (domain == MP_DOMAIN_NONE || domain >= MP_DOMAIN_ROWS) {
        domain = mp_domain_intern(heap->name, -1, heap->kind);
        mp_store_relaxed(&heap->words->domain, in_epoch(domain));
    }
    return domain;
}

/* Finish the decision of mp_sample_due(). */
static bool is_sampled(uint64_t bytes) {
    struct mp_capture_view view;
    if (mp_unlikely(mp_pending_waits()))
        return mp_pending_sampled(bytes);
    if (!mp_capture_view(&view))
        return false;
    mp_thread_seed();
    return mp_countdown_take(&mp_self.countdown, bytes, view.gate,
                             mp_load_relaxed(&view.slot->rate_bytes));
}

static void record(const struct mp_heap *heap, const struct mp_heap_block *block) {
    struct mp_heap_words *words = heap->words;
    struct mp_device_block row = {.domain = domain_of(heap),
                                  .space = MP_SPACE_HEAP,
                                  .container = (uintptr_t)words, /* or its pool */
                                  .asked_bytes =
                                      block->bytes < BYTES_MAX ? block->bytes : BYTES_MAX - 1,
                                  .api_pc = block->api_pc,
                                  .caller = block->caller};
    struct mp_segment *seg = mp_capture_segment();
    row.address = key_of(row.domain, block->address);
    if (block->pool != 0)
        row.container = pool_key(row.domain, block->pool);
    else if (heap->is_arena && seg != NULL && row.domain != MP_DOMAIN_NONE)
        row.node = node_for(seg, words, row.address);
    bool recorded = true;
    if ((heap->kind & 1) == 0)
        recorded = mp_device_alloc_sampled(&row);
    else
        mp_device_alloc(&row);
    if (block->pool != 0 && recorded)
        mp_word_set_add(&pools, row.container);
    else if (row.node != 0 && recorded)
        push(words, row.node);
    else if (row.node != 0)
        give_node(row.node);
    else if (recorded)
        add_count(words, 0, WITHOUT_NODE);
}

void mp_heap_alloc(const struct mp_heap *heap, const struct mp_heap_block *block) {
    int saved_errno = errno;
    struct mp_inside *in = mp_inside_enter();
    if (!mp_inside_too_late(in) && ((heap->kind & 1) != 0 || is_sampled(block->bytes)))
        record(heap, block);
    mp_inside_leave(in);
    errno = saved_errno;
}

static void note_unknown(struct mp_segment *seg, uint32_t domain) {
    struct mp_domain *row = mp_domain_at(seg, domain);
    if (row != NULL && mp_gate() != MP_GATE_OFF)
        mp_add_relaxed(&row->unknown_frees, 1);
}

static void end_block(const struct mp_heap *heap, uint64_t address) {
    struct mp_segment *seg = mp_capture_segment();
    uint32_t domain = domain_of(heap); /* another object of its name may have reported the block */
    struct mp_device_taken taken = {.found = false};
    if (seg == NULL || domain == MP_DOMAIN_NONE)
        return;
    if (mp_filter_hit_large((const void *)(uintptr_t)address))
        mp_device_take(MP_SPACE_HEAP, key_of(domain, address), &taken);
    if (!taken.found && (heap->kind & 1) != 0)
        note_unknown(seg, domain);
}

void mp_heap_free(const struct mp_heap *heap, uint64_t address) {
    int saved_errno = errno;
    struct mp_inside *in = mp_inside_enter();
    if (!mp_inside_too_late(in))
        end_block(heap, address);
    mp_inside_leave(in);
    errno = saved_errno;
}

/* The block of a node, if it is this heap's: another one may have got the address since. */
static void end_listed(struct mp_segment *seg, const struct mp_heap_words *words, uint32_t node) {
    uint64_t address = mp_load_relaxed(&nodes[node - 1].address);
    struct mp_device_live_row row;
    struct mp_device_taken taken;
    if (mp_device_live_look(seg, MP_SPACE_HEAP, address, &row) && row.container == (uintptr_t)words)
        mp_device_take(MP_SPACE_HEAP, address, &taken);
}

static void reset(struct mp_heap_words *words) {
    struct mp_segment *seg = mp_capture_segment();
    uint32_t counts = of_epoch(mp_load_relaxed(&words->counts));
    if (seg == NULL || counts == 0)
        return;
    uint32_t node = take_list(words);
    mp_store_relaxed(&words->counts, 0ULL);
    for (uint32_t next, steps = 0; node != 0 && steps < NODES; node = next, steps++) {
        next = next_of(node);
        end_listed(seg, words, node);
        give_node(node);
    }
    if ((counts & WITHOUT_NODE) != 0)
        mp_device_drop_container(MP_SPACE_HEAP, (uintptr_t)words);
}

void mp_heap_reset(const struct mp_heap *heap) {
    int saved_errno = errno;
    struct mp_inside *in = mp_inside_enter();
    if (!mp_inside_too_late(in))
        reset(heap->words);
    mp_inside_leave(in);
    errno = saved_errno;
}

void mp_heap_end_pool(const struct mp_heap *heap, uint64_t pool) {
    int saved_errno = errno;
    struct mp_inside *in = mp_inside_enter();
    uint32_t domain = mp_inside_too_late(in) ? MP_DOMAIN_NONE : domain_of(heap);
    uint64_t key = pool_key(domain, pool);
    if (domain != MP_DOMAIN_NONE && mp_word_set_remove(&pools, key))
        mp_device_drop_container(MP_SPACE_HEAP, key);
    mp_inside_leave(in);
    errno = saved_errno;
}

void mp_heaps_forget(void) {
    free_nodes = 0;
    used_nodes = 0;
}
