/*
 * nvtx_memory.c - NVTX's extension for memory: heaps and regions of pools. How it gets here:
 * nvtx.c.
 *
 * Interface: nvToolsExtMem.h and nvtxDetail/nvtxExtTypes.h of NVTX 3. The caller passes element sizes, so
 * that descriptions may grow.
 */
#include "drivers/backend.h"
#include "drivers/pools.h"

#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))
#define CALLED __attribute__((noinline)) static

enum { MODULE_MEMORY = 1, COMPATIBLE_MEMORY = 0x0102, TYPE_VIRTUAL = 1 };

struct extension_segment {
    size_t id, slots;
    intptr_t *functions;
};

struct extension {
    uint16_t version, bytes, module, compatible;
    size_t segments_count;
    struct extension_segment *segments;
};

int InitializeInjectionNvtxExtension(struct extension *extension);

struct range_desc {
    size_t bytes;
    const void *pointer;
};

struct heap_desc {
    uint16_t compatible, bytes;
    uint32_t reserved, usage, type;
    size_t range_bytes;
    const struct range_desc *range;
};

struct regions {
    uint16_t compatible, bytes;
    uint32_t type;
    void *heap;
    size_t count, element_bytes;
    const char *elements;  /* of struct range_desc */
    const void **handles; /* out; may be NULL */
};

struct elements {
    uint16_t compatible, bytes;
    uint32_t type; /* of references: pointers or handles; ours are the pointers */
    size_t count, element_bytes;
    const char *elements; /* of struct range_desc, or of pointers */
};

static struct mp_pool_range range_of(const struct range_desc *desc) {
    return (struct mp_pool_range){
        .address = (uintptr_t)desc->pointer, .bytes = desc->bytes, .device = MP_LAUNCH_NO_DEVICE};
}

CALLED void *nvtxMemHeapRegister(void *domain, const struct heap_desc *desc) {
    if (desc == NULL || desc->compatible != COMPATIBLE_MEMORY || desc->type != TYPE_VIRTUAL ||
        desc->range == NULL || desc->range_bytes < sizeof *desc->range)
        return NULL;
    struct mp_pool_range range = range_of(desc->range);
    return mp_pool_heap_begin(mp_tool_domain_of(domain), &range);
}

CALLED void nvtxMemHeapUnregister(void *domain, void *heap) {
    mp_pool_heap_end(mp_tool_domain_of(domain), heap);
}

CALLED void nvtxMemHeapReset(void *domain, void *heap) {
    mp_pool_heap_reset(mp_tool_domain_of(domain), heap);
}

CALLED void nvtxMemRegionsRegister(void *domain, const struct regions *desc) {
    struct mp_frame caller;
    MP_CALLER(caller);
    if (desc == NULL || desc->compatible != COMPATIBLE_MEMORY || desc->type != TYPE_VIRTUAL ||
        desc->elements == NULL || desc->element_bytes < sizeof(struct range_desc))
        return;
    for (size_t i = 0; i < desc->count; i++) {
        const struct range_desc *element =
            (const struct range_desc *)(desc->elements + i * desc->element_bytes);
        struct mp_pool_range range = range_of(element);
        mp_pool_region_begin(mp_tool_domain_of(domain), desc->heap, &range,
                             (uintptr_t)nvtxMemRegionsRegister, &caller);
        if (desc->handles != NULL)
            desc->handles[i] = element->pointer;
    }
}

/* A region of another size is another block: it ends, and begins here. */
CALLED void nvtxMemRegionsResize(void *domain, const struct elements *desc) {
    struct mp_frame caller;
    MP_CALLER(caller);
    if (desc == NULL || desc->compatible != COMPATIBLE_MEMORY || desc->type != TYPE_VIRTUAL ||
        desc->elements == NULL || desc->element_bytes < sizeof(struct range_desc))
        return;
    for (size_t i = 0; i < desc->count; i++) {
        struct mp_pool_range range =
            range_of((const struct range_desc *)(desc->elements + i * desc->element_bytes));
        mp_pool_region_end(mp_tool_domain_of(domain), range.address);
        mp_pool_region_begin(mp_tool_domain_of(domain), NULL, &range,
                             (uintptr_t)nvtxMemRegionsResize, &caller);
    }
}

CALLED void nvtxMemRegionsUnregister(void *domain, const struct elements *desc) {
    if (desc == NULL || desc->compatible != COMPATIBLE_MEMORY || desc->elements == NULL ||
        desc->element_bytes < sizeof(void *))
        return;
    for (size_t i = 0; i < desc->count; i++) {
        const void *const *element =
            (const void *const *)(desc->elements + i * desc->element_bytes);
        mp_pool_region_end(mp_tool_domain_of(domain), (uintptr_t)*element);
    }
}

/* Called once for each extension in each shared object. 1: we take the calls. */
EXPORT int InitializeInjectionNvtxExtension(struct extension *extension) {
    static void (*const functions[])(void) = {
        NULL,
        (void (*)(void))nvtxMemHeapRegister,
        (void (*)(void))nvtxMemHeapUnregister,
        (void (*)(void))nvtxMemHeapReset,
        (void (*)(void))nvtxMemRegionsRegister,
        (void (*)(void))nvtxMemRegionsResize,
        (void (*)(void))nvtxMemRegionsUnregister,
    };
    if (extension == NULL || extension->module != MODULE_MEMORY ||
        extension->compatible != COMPATIBLE_MEMORY || extension->segments_count == 0 ||
        !mp_device_marks_on())
        return 0;
    const struct extension_segment *segment = &extension->segments[0];
    for (size_t i = 1; i < sizeof functions / sizeof functions[0] && i < segment->slots; i++)
        segment->functions[i] = (intptr_t)functions[i];
    return 1;
}
