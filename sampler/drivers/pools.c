/*
 * pools.c - see pools.h.
 */
#include "pools.h"
#include "abi/atomics.h"
#include "device/launches.h"

#include <string.h>

#define DOMAINS ((unsigned)MP_TOOL_DOMAINS)
#define NAME_BYTES 48u /* with "pool-" in front it fits MP_DOMAIN_NAME_BYTES */
#define HEAPS 1024u    /* 16 KiB */
#define DEVICES 64u

struct mp_tool_domain {
    uint32_t state;     /* 0: free, 1: being written, 2: its name may be read */
    bool tells_totals;  /* a heap is the sum of all there are */
    char name[NAME_BYTES];
    char label[NAME_BYTES]; /* the name as a domain of the segment may be called */
    int64_t reserved_bytes;       /* of all heaps */
    int64_t reserved_told_bytes;  /* as the segment has it */
    int64_t total_bytes[DEVICES]; /* of the heaps of each device; the last: of no known device */
    uint64_t told; /* a capture << 32 | a bit for each device of which it has the total */
};

struct heap {
    uint32_t state; /* as above */
    uint32_t device;
    uint64_t bytes;
};

static struct mp_tool_domain domains[DOMAINS] = {{.state = 2, .name = ""}};
static struct heap heaps[HEAPS];

static bool tells_totals(const char *name) {
    static const char *const names[] = {"ptaCaching", "ptaWorkspace", "msleaks", "atb",
                                        "mindsporeMemPool"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static void set_letter(struct mp_tool_domain *domain, unsigned at, char c) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    domain->name[at] = c;
    domain->label[at] = plain || c == '_' ? c : '-';
}

struct mp_tool_domain *mp_tool_domain(const char *name) {
    if (name == NULL || *name == '\0')
        return &domains[0];
    for (unsigned i = 1; i < DOMAINS; i++) {
        struct mp_tool_domain *domain = &domains[i];
        uint32_t state = mp_load_acquire(&domain->state);
        if (state == 2 && strncmp(domain->name, name, NAME_BYTES - 1) == 0)
            return domain;
        if (state != 0 || !mp_cas_u32(&domain->state, 0, 1))
            continue; /* one that is being written may get this name too: two rows then, no harm */
        for (unsigned k = 0; k < NAME_BYTES - 1 && name[k] != '\0'; k++)
            set_letter(domain, k, name[k]);
        domain->tells_totals = tells_totals(domain->name);
        mp_store_release(&domain->state, 2u);
        return domain;
    }
    return &domains[0];
}

struct mp_tool_domain *mp_tool_domain_of(const void *handle) {
    uintptr_t offset = (uintptr_t)handle - (uintptr_t)domains;
    if (offset >= sizeof domains || offset % sizeof domains[0] != 0)
        return &domains[0];
    return &domains[offset / sizeof domains[0]];
}

const char *mp_tool_domain_name(const struct mp_tool_domain *domain) {
    return domain->name;
}

bool mp_tool_domain_tells_totals(const struct mp_tool_domain *domain) {
    return domain->tells_totals;
}

unsigned mp_tool_domain_index(const struct mp_tool_domain *domain) {
    return (unsigned)(domain - domains);
}

static void mark(const void *handle, enum mp_mark_kind kind, uint64_t id, const char *text) {
    mp_mark_add(kind, id, mp_tool_domain_of(handle)->name, text != NULL ? text : "");
}

void mp_tool_mark(const void *handle, const char *text) {
    mark(handle, MP_MARK_POINT, 0, text);
}

uint64_t mp_tool_range_begin(const void *handle, const char *text) {
    static uint64_t last_range;
    uint64_t id = mp_add_relaxed(&last_range, 1) + 1;
    mark(handle, MP_MARK_BEGIN, id, text);
    return id;
}

void mp_tool_range_end(const void *handle, uint64_t id) {
    mark(handle, MP_MARK_END, id, "");
}

void mp_tool_take_slots(const struct mp_tool_slot *slots, size_t n, mp_get_slots *get,
                        bool zero_is_success) {
    for (const struct mp_tool_slot *slot = slots; slot < slots + n; slot++) {
        mp_slot_function **table = NULL;
        unsigned size = 0;
        if ((get(slot->module, &table, &size) == 0) == zero_is_success && table != NULL &&
            slot->index < size && table[slot->index] != NULL)
            *table[slot->index] = slot->function;
    }
}

static uint32_t segment_domain(const struct mp_tool_domain *domain) {
    return mp_domain_intern(domain->name[0] != '\0' ? domain->name : "unnamed", -1, MP_MEMORY_POOL);
}

/* Store the missing bytes in the segment, perhaps because no capture was on. */
static void tell_reserved(struct mp_tool_domain *domain) {
    uint32_t number = segment_domain(domain);
    if (number == MP_DOMAIN_NONE)
        return;
    int64_t now = mp_load_relaxed(&domain->reserved_bytes);
    int64_t told = __atomic_exchange_n(&domain->reserved_told_bytes, now, __ATOMIC_ACQ_REL);
    if (now != told)
        mp_device_reserved(number, now - told);
}

/* A device's bit in `told`; 0: it has none, and only its changes are told. */
static uint64_t bit_of(unsigned device) {
    return device < 31 ? 1ULL << device : device == MP_LAUNCH_NO_DEVICE ? 1ULL << 31 : 0;
}

/* Test and set: does the capture have the total of a device? Two threads may both store it. */
static bool was_told(struct mp_tool_domain *domain, unsigned device, uint32_t capture) {
    uint64_t word = mp_load_relaxed(&domain->told), own = bit_of(device);
    uint64_t devices = word >> 32 == capture ? word & UINT32_MAX : 0;
    if (own == 0 || (devices & own) != 0)
        return true;
    mp_cas_u64(&domain->told, word, (uint64_t)capture << 32 | devices | own);
    return false;
}

/* A fact of the capture, where the total is new in it. */
static void tell_total(struct mp_tool_domain *domain, unsigned device, bool changed) {
    uint32_t capture = mp_launch_capture(MP_LAUNCH_FACTS);
    uint32_t number = capture != 0 ? segment_domain(domain) : MP_DOMAIN_NONE;
    if (number == MP_DOMAIN_NONE || (was_told(domain, device, capture) && !changed))
        return;
    struct mp_launch fact = {.kind = MP_LAUNCH_RESERVED,
                             .device = (int)device,
                             .address = (uint64_t)mp_load_relaxed(&domain->total_bytes[device]),
                             .size_bytes = number};
    mp_launch_add(&fact);
}

static struct heap *heap_of(const void *handle) {
    uintptr_t offset = (uintptr_t)handle - (uintptr_t)heaps;
    if (offset >= sizeof heaps || offset % sizeof heaps[0] != 0)
        return NULL;
    return &heaps[offset / sizeof heaps[0]];
}

static void *heap_add(uint64_t bytes, unsigned device) {
    for (unsigned i = 0; i < HEAPS; i++)
        if (mp_load_relaxed(&heaps[i].state) == 0 && mp_cas_u32(&heaps[i].state, 0, 1)) {
            heaps[i].bytes = bytes;
            heaps[i].device = device;
            mp_store_release(&heaps[i].state, 2u);
            return &heaps[i];
        }
    return NULL;
}

void *mp_pool_heap_begin(struct mp_tool_domain *domain, const struct mp_pool_range *range) {
    void *handle = domain; /* of a heap that is only a number */
    int64_t change = (int64_t)range->bytes;
    unsigned device = range->device % DEVICES;
    if (domain->tells_totals) {
        change -= __atomic_exchange_n(&domain->total_bytes[device], (int64_t)range->bytes,
                                      __ATOMIC_ACQ_REL);
    } else if ((handle = heap_add(range->bytes, device)) == NULL) {
        return domain;
    } else {
        __atomic_fetch_add(&domain->total_bytes[device], change, __ATOMIC_RELAXED);
    }
    tell_total(domain, device, change != 0);
    __atomic_fetch_add(&domain->reserved_bytes, change, __ATOMIC_RELAXED);
    tell_reserved(domain);
    return handle;
}

void mp_pool_heap_reset(struct mp_tool_domain *domain, void *handle) {
    (void)domain;
    if (heap_of(handle) != NULL)
        mp_device_drop_container(MP_SPACE_POOL, (uintptr_t)handle);
}

void mp_pool_heap_end(struct mp_tool_domain *domain, void *handle) {
    struct heap *heap = heap_of(handle);
    if (heap == NULL || mp_load_acquire(&heap->state) != 2)
        return;
    mp_pool_heap_reset(domain, handle);
    int64_t bytes = (int64_t)heap->bytes;
    unsigned device = heap->device;
    __atomic_fetch_sub(&domain->reserved_bytes, bytes, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&domain->total_bytes[device], bytes, __ATOMIC_RELAXED);
    mp_store_release(&heap->state, 0u);
    tell_total(domain, device, bytes != 0);
    tell_reserved(domain);
}

/* Pools may be nested: the same address is then a block of each. */
static uint64_t region_key(const struct mp_tool_domain *domain, uint64_t address) {
    return address ^ (uint64_t)mp_tool_domain_index(domain) << MP_POOL_SHIFT;
}

void mp_pool_region_begin(struct mp_tool_domain *domain, const void *heap,
                          const struct mp_pool_range *range, uintptr_t api_pc,
                          const struct mp_frame *caller) {
    struct mp_device_block block = {.domain = segment_domain(domain),
                                    .space = MP_SPACE_POOL,
                                    .address = region_key(domain, range->address),
                                    .container = heap_of(heap) != NULL ? (uintptr_t)heap : 0,
                                    .asked_bytes = range->bytes,
                                    .taken_bytes = range->bytes,
                                    .api_pc = api_pc,
                                    .caller = *caller};
    if (block.domain == MP_DOMAIN_NONE)
        return;
    tell_reserved(domain);
    /* Perhaps its heaps are from before the capture. */
    unsigned device = range->device % DEVICES;
    if (mp_load_relaxed(&domain->total_bytes[device]) != 0)
        tell_total(domain, device, false);
    mp_device_alloc(&block);
}

void mp_pool_region_end(struct mp_tool_domain *domain, uint64_t address) {
    struct mp_device_taken taken;
    mp_device_take(MP_SPACE_POOL, region_key(domain, address), &taken);
}

/* Rows that nobody used are not written: that would copy their pages for the child. */
void mp_pool_after_fork(void) {
    for (unsigned i = 0; i < DOMAINS; i++) {
        if (domains[i].state == 0)
            continue;
        domains[i].reserved_bytes = domains[i].reserved_told_bytes = 0;
        memset(domains[i].total_bytes, 0, sizeof domains[i].total_bytes);
        domains[i].told = 0;
    }
    for (unsigned i = 0; i < HEAPS; i++)
        if (heaps[i].state != 0)
            heaps[i] = (struct heap){0};
}
