/*
 * mstx.c - marks, ranges and memory pools that Ascend programs announce through mstx.
 *
 * How it gets here: the first mstx call of each shared object looks up InitInjectionMstx, in the library
 * that MSTX_INJECTION_PATH names or else by dlsym in the global scope. So we export that one name; it
 * belongs to tools, not to a driver, and no program tests for it to learn what a device can do. Where two
 * tools export it, the first one in LD_PRELOAD gets the call.
 *
 * Interface: ms_tools_ext.h, ms_tools_ext_mem.h and mstx_detail/mstx_types.h of mstx.
 */
#include "drivers/backend.h"
#include "drivers/pools.h"

#define EXPORT __attribute__((visibility("default")))
#define CALLED __attribute__((noinline)) static

int InitInjectionMstx(mp_get_slots *get_table);

enum { MODULE_CORE = 1, MODULE_DOMAIN = 2, MODULE_MEMORY = 3 };

typedef uint64_t mstxRangeId;

struct range_desc {
    uint32_t device;
    const void *pointer;
    uint64_t bytes;
};

/* not all callers set usage and type, which say nothing more: there is one of each. */
struct heap_desc {
    int usage, type;
    const struct range_desc *range;
};

struct regions {
    void *heap; /* not set by all callers */
    int type;
    size_t count;
    const struct range_desc *ranges;
    const void **handles; /* out; may be NULL, and is not set by the pools that tell totals */
};

struct region_ref {
    int type; /* 0: pointer, 1: handle; ours are the pointers */
    const void *value;
};

struct region_refs {
    size_t count;
    const struct region_ref *refs;
};

CALLED void mstxDomainMarkA(void *domain, const char *message, void *stream) {
    (void)stream;
    mp_tool_mark(domain, message);
}

CALLED void mstxMarkA(const char *message, void *stream) {
    mstxDomainMarkA(NULL, message, stream);
}

CALLED mstxRangeId mstxDomainRangeStartA(void *domain, const char *message, void *stream) {
    (void)stream;
    return mp_tool_range_begin(domain, message);
}

CALLED mstxRangeId mstxRangeStartA(const char *message, void *stream) {
    return mstxDomainRangeStartA(NULL, message, stream);
}

CALLED void mstxDomainRangeEnd(void *domain, mstxRangeId id) {
    mp_tool_range_end(domain, id);
}

CALLED void mstxRangeEnd(mstxRangeId id) {
    mp_tool_range_end(NULL, id);
}

CALLED void *mstxDomainCreateA(const char *name) {
    return mp_tool_domain(name);
}

static struct mp_pool_range range_of(const struct range_desc *desc) {
    return (struct mp_pool_range){
        .address = (uintptr_t)desc->pointer, .bytes = desc->bytes, .device = desc->device};
}

CALLED void *mstxMemHeapRegister(void *domain, const struct heap_desc *desc) {
    if (desc == NULL || desc->range == NULL)
        return NULL;
    struct mp_pool_range range = range_of(desc->range);
    return mp_pool_heap_begin(mp_tool_domain_of(domain), &range);
}

CALLED void mstxMemHeapUnregister(void *domain, void *heap) {
    mp_pool_heap_end(mp_tool_domain_of(domain), heap);
}

CALLED void mstxMemRegionsRegister(void *domain, const struct regions *desc) {
    struct mp_frame caller;
    MP_CALLER(caller);
    if (desc == NULL || desc->ranges == NULL)
        return;
    bool wants_handles = !mp_tool_domain_tells_totals(mp_tool_domain_of(domain));
    for (size_t i = 0; i < desc->count; i++) {
        struct mp_pool_range range = range_of(&desc->ranges[i]);
        mp_pool_region_begin(mp_tool_domain_of(domain), desc->heap, &range,
                             (uintptr_t)mstxMemRegionsRegister, &caller);
        if (wants_handles && desc->handles != NULL)
            desc->handles[i] = desc->ranges[i].pointer;
    }
}

CALLED void mstxMemRegionsUnregister(void *domain, const struct region_refs *desc) {
    for (size_t i = 0; desc != NULL && desc->refs != NULL && i < desc->count; i++)
        mp_pool_region_end(mp_tool_domain_of(domain), (uintptr_t)desc->refs[i].value);
}

static const struct mp_tool_slot slots[] = {
    {MODULE_CORE, 1, (mp_slot_function)mstxMarkA},
    {MODULE_CORE, 2, (mp_slot_function)mstxRangeStartA},
    {MODULE_CORE, 3, (mp_slot_function)mstxRangeEnd},
    {MODULE_DOMAIN, 1, (mp_slot_function)mstxDomainCreateA},
    {MODULE_DOMAIN, 3, (mp_slot_function)mstxDomainMarkA},
    {MODULE_DOMAIN, 4, (mp_slot_function)mstxDomainRangeStartA},
    {MODULE_DOMAIN, 5, (mp_slot_function)mstxDomainRangeEnd},
    {MODULE_MEMORY, 1, (mp_slot_function)mstxMemHeapRegister},
    {MODULE_MEMORY, 2, (mp_slot_function)mstxMemHeapUnregister},
    {MODULE_MEMORY, 3, (mp_slot_function)mstxMemRegionsRegister},
    {MODULE_MEMORY, 4, (mp_slot_function)mstxMemRegionsUnregister},
};

/* Called once for each shared object that uses mstx. 0: we take the calls. */
EXPORT int InitInjectionMstx(mp_get_slots *get_table) {
    if (get_table == NULL || !mp_device_marks_on())
        return 1;
    mp_tool_take_slots(slots, sizeof slots / sizeof slots[0], get_table, true);
    return 0;
}
