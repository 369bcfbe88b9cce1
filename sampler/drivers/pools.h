/*
 * pools.h - pools of memory that the program announces through mstx or NVTX.
 *
 * Model: both interfaces have domains (a name that the program chose), heaps (memory that a pool holds)
 * and regions (blocks that it gave out of a heap). A domain with regions or heaps is a pool: the domain
 * "pool-<name>" of the segment, each region a block of it, the heaps' bytes its reserved bytes.
 *
 * torch_npu, ATB and MindSpore announce differently: before each region they register a "heap" whose size
 * is the memory that the pool now holds on that device. We know such a pool by its name; a heap then
 * replaces the total before.
 *
 * Threads: HOOK. Tables are append-only; without room a row belongs to the domain without a name, or gets
 * no record. A row's state goes from 0 to 1 by compare-and-swap and, once the row is filled, to 2 by a
 * release store, which pairs with the acquire load of a look-up. The exchange of a total with the one
 * before uses acquire and release, so that each difference counts once. A log of events has the total of
 * each device when it begins and when it changes; that of two threads at once may be the one before.
 */
#ifndef MP_POOLS_H
#define MP_POOLS_H

#include "device/device.h"

/* A domain of marks and pools. It exists for ever; the first one is the domain without a name. */
struct mp_tool_domain;

/* The domain of that name; NULL or "": the one without a name. */
struct mp_tool_domain *mp_tool_domain(const char *name);

/* The domain of a handle that we gave to the program; for any other value: the domain without a name. */
struct mp_tool_domain *mp_tool_domain_of(const void *handle);

const char *mp_tool_domain_name(const struct mp_tool_domain *domain);

/* What a program marks in the domain of a handle: a point, the begin of a range (its id), the end. Text: or NULL. */
void mp_tool_mark(const void *handle, const char *text);
uint64_t mp_tool_range_begin(const void *handle, const char *text);
void mp_tool_range_end(const void *handle, uint64_t id);

/* Each of these interfaces gives tables of addresses of slots, by modules: put a function into one where it has it. */
typedef void (*mp_slot_function)(void);
typedef int mp_get_slots(int module, mp_slot_function ***table, unsigned *size);
struct mp_tool_slot {
    int module;
    unsigned index;
    mp_slot_function function;
};
void mp_tool_take_slots(const struct mp_tool_slot *slots, size_t n, mp_get_slots *get,
                        bool zero_is_success);

/* Is it one of those whose heaps are sums? */
bool mp_tool_domain_tells_totals(const struct mp_tool_domain *domain);

#define MP_TOOL_DOMAINS 64

/* 0..MP_TOOL_DOMAINS - 1. */
unsigned mp_tool_domain_index(const struct mp_tool_domain *domain);

/* A range of memory, as reported by a pool. */
struct mp_pool_range {
    uint64_t address;
    uint64_t bytes;
    uint32_t device; /* MP_LAUNCH_NO_DEVICE: unknown */
};

/* A heap begins. Returns its handle, never NULL. */
void *mp_pool_heap_begin(struct mp_tool_domain *domain, const struct mp_pool_range *range);

/* It ends, and with it its regions. */
void mp_pool_heap_end(struct mp_tool_domain *domain, void *heap);

/* All regions of a heap end, the heap stays. */
void mp_pool_heap_reset(struct mp_tool_domain *domain, void *heap);

/* A region begins; `heap` as above, or anything. */
void mp_pool_region_begin(struct mp_tool_domain *domain, const void *heap,
                          const struct mp_pool_range *range, uintptr_t api_pc,
                          const struct mp_frame *caller);

/* It ends. */
void mp_pool_region_end(struct mp_tool_domain *domain, uint64_t address);

/* In a forked child: its segment has no totals yet. */
void mp_pool_after_fork(void);

#endif
