/*
 * hsa.c - a stub of AMD's runtime, libhsa-runtime64.so.1: gives addresses, keeps the ledger.
 *
 * A processor and two GPUs of 64 MiB, two pools on the first. Debian's headers are of ROCm 5.2 and do not have the
 * functions for physical memory, which came with 6: those are declared here.
 */
#include "../ledger.h"
#include "hip_stub.h"

#include <pthread.h>

#define DEVICE_BYTES (64ULL << 20)
#define ROWS 4096
#define PUBLIC __attribute__((visibility("default")))

static const struct {
    uint64_t handle;
    int device; /* -1: the processor's */
    bool region;
} pools[] = {
    {0x10, -1, false}, {0x20, 0, false}, {0x21, 0, false}, {0x30, 1, false}, {0x40, -1, true}};

struct row {
    uint64_t address; /* 0: free row */
    size_t bytes;
    int device;
};

struct physical {
    unsigned long long id;
    size_t bytes;
    unsigned references; /* 0: free row */
    int device;
};

struct place {
    uint64_t start; /* of a mapping; value of a handle */
    size_t bytes;
    unsigned references;
    struct physical *physical; /* NULL: free row */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct row rows[ROWS];
static struct physical physicals[ROWS];
static struct place handles[ROWS], mappings[ROWS];
static size_t used[2];
static uint64_t next_address = 0x7e0000000000ULL, last_id;

static const char *domain_of(int device) {
    return device < 0 ? "hip-pinned" : device == 0 ? "hip-0" : "hip-1";
}

static bool has_room(int device, size_t bytes) {
    return device < 0 ? bytes < (1ULL << 40) : used[device] + bytes <= DEVICE_BYTES;
}

static void use(int device, long long bytes) {
    if (device >= 0)
        used[device] += (size_t)bytes;
}

PUBLIC hsa_status_t hsa_iterate_agents(hsa_status_t (*callback)(hsa_agent_t, void *), void *data) {
    for (uint64_t i = 1; i <= 3; i++)
        callback((hsa_agent_t){i}, data);
    return HSA_STATUS_SUCCESS;
}

PUBLIC hsa_status_t hsa_agent_get_info(hsa_agent_t agent, hsa_agent_info_t attribute, void *value) {
    if (attribute != HSA_AGENT_INFO_DEVICE)
        return HSA_STATUS_ERROR_INVALID_ARGUMENT;
    *(hsa_device_type_t *)value = agent.handle == 1 ? HSA_DEVICE_TYPE_CPU : HSA_DEVICE_TYPE_GPU;
    return HSA_STATUS_SUCCESS;
}

PUBLIC hsa_status_t hsa_amd_agent_iterate_memory_pools(
    hsa_agent_t agent, hsa_status_t (*callback)(hsa_amd_memory_pool_t, void *), void *data) {
    for (size_t i = 0; i < sizeof pools / sizeof pools[0]; i++)
        if (!pools[i].region && pools[i].device == (int)agent.handle - 2)
            callback((hsa_amd_memory_pool_t){pools[i].handle}, data);
    return HSA_STATUS_SUCCESS;
}

PUBLIC hsa_status_t hsa_agent_iterate_regions(hsa_agent_t agent,
                                              hsa_status_t (*callback)(hsa_region_t, void *),
                                              void *data) {
    for (size_t i = 0; i < sizeof pools / sizeof pools[0]; i++)
        if (pools[i].region && pools[i].device == (int)agent.handle - 2)
            callback((hsa_region_t){pools[i].handle}, data);
    return HSA_STATUS_SUCCESS;
}

static bool device_of(uint64_t pool, int *device) {
    for (size_t i = 0; i < sizeof pools / sizeof pools[0]; i++)
        if (pools[i].handle == pool) {
            *device = pools[i].device;
            return true;
        }
    return false;
}

static hsa_status_t give(uint64_t pool, const char *function, bool fails, size_t bytes,
                         void **out) {
    int device;
    if (!device_of(pool, &device))
        return HSA_STATUS_ERROR_INVALID_ARGUMENT;
    pthread_mutex_lock(&lock);
    bool refused = fails || !has_room(device, bytes);
    if (refused) {
        stub_note_fail(domain_of(device), function, bytes);
    } else {
        struct row *row = rows;
        while (row->address != 0)
            row++;
        *row = (struct row){next_address += 0x10000000ULL, bytes, device};
        use(device, (long long)bytes);
        stub_note("alloc", domain_of(device), row->address, bytes);
        *out = (void *)row->address;
    }
    pthread_mutex_unlock(&lock);
    return refused ? HSA_STATUS_ERROR_OUT_OF_RESOURCES : HSA_STATUS_SUCCESS;
}

PUBLIC hsa_status_t hsa_memory_allocate(hsa_region_t region, size_t size, void **ptr) {
    return give(region.handle, "hsa_memory_allocate", STUB_FAILS("hsa_memory_allocate"), size, ptr);
}

PUBLIC hsa_status_t hsa_amd_memory_pool_allocate(hsa_amd_memory_pool_t pool, size_t size,
                                                 uint32_t flags, void **ptr) {
    (void)flags;
    return give(pool.handle, "hsa_amd_memory_pool_allocate",
                STUB_FAILS("hsa_amd_memory_pool_allocate"), size, ptr);
}

PUBLIC hsa_status_t hsa_memory_free(void *ptr) {
    hsa_status_t rc = HSA_STATUS_ERROR_INVALID_ALLOCATION;
    if (ptr == NULL)
        return HSA_STATUS_SUCCESS;
    if (STUB_FAILS("hsa_memory_free"))
        return rc;
    pthread_mutex_lock(&lock);
    for (struct row *row = rows; row < rows + ROWS; row++)
        if (row->address == (uint64_t)ptr) {
            stub_note("free", domain_of(row->device), row->address, row->bytes);
            use(row->device, -(long long)row->bytes);
            row->address = 0;
            rc = HSA_STATUS_SUCCESS;
        }
    pthread_mutex_unlock(&lock);
    return rc;
}

/* As in the real one: the newer name ends in the older. */
PUBLIC hsa_status_t hsa_amd_memory_pool_free(void *ptr) {
    return hsa_memory_free(ptr);
}

/* --- physical memory ------------------------------------------------------------------------ */

static void unreference(struct physical *physical) {
    if (--physical->references != 0)
        return;
    stub_note("free", domain_of(physical->device), physical->id, physical->bytes);
    use(physical->device, -(long long)physical->bytes);
}

static struct place *place_at(struct place *places, uint64_t start) {
    for (struct place *place = places; place < places + ROWS; place++)
        if (place->physical != NULL && place->start == start)
            return place;
    return NULL;
}

static struct place *add_place(struct place *places, uint64_t start, size_t bytes,
                               struct physical *physical) {
    struct place *place = places;
    while (place->physical != NULL)
        place++;
    *place = (struct place){start, bytes, 1, physical};
    physical->references++;
    return place;
}

static uint64_t add_handle(struct physical *physical) {
    static uint64_t values = 0x100;
    return add_place(handles, ++values, 0, physical)->start;
}

PUBLIC hsa_status_t hsa_amd_vmem_handle_create(hsa_amd_memory_pool_t pool, size_t size,
                                               hsa_amd_memory_type_t type, uint64_t flags,
                                               hsa_amd_vmem_alloc_handle_t *handle) {
    (void)type, (void)flags;
    int device;
    if (!device_of(pool.handle, &device))
        return HSA_STATUS_ERROR_INVALID_ARGUMENT;
    pthread_mutex_lock(&lock);
    bool refused = !has_room(device, size);
    if (refused) {
        stub_note_fail(domain_of(device), "hsa_amd_vmem_handle_create", size);
    } else {
        struct physical *p = physicals;
        while (p->references != 0)
            p++;
        *p = (struct physical){++last_id, size, 0, device};
        use(device, (long long)size);
        stub_note("alloc", domain_of(device), p->id, size);
        handle->handle = add_handle(p);
    }
    pthread_mutex_unlock(&lock);
    return refused ? HSA_STATUS_ERROR_OUT_OF_RESOURCES : HSA_STATUS_SUCCESS;
}

PUBLIC hsa_status_t hsa_amd_vmem_handle_release(hsa_amd_vmem_alloc_handle_t handle) {
    pthread_mutex_lock(&lock);
    struct place *place = place_at(handles, handle.handle);
    if (place != NULL) {
        unreference(place->physical);
        if (--place->references == 0)
            place->physical = NULL;
    }
    pthread_mutex_unlock(&lock);
    return place != NULL ? HSA_STATUS_SUCCESS : HSA_STATUS_ERROR_INVALID_ARGUMENT;
}

PUBLIC hsa_status_t hsa_amd_vmem_retain_alloc_handle(hsa_amd_vmem_alloc_handle_t *handle,
                                                     void *address) {
    pthread_mutex_lock(&lock);
    struct place *mapping = place_at(mappings, (uint64_t)address);
    if (mapping != NULL)
        handle->handle = add_handle(mapping->physical);
    pthread_mutex_unlock(&lock);
    return mapping != NULL ? HSA_STATUS_SUCCESS : HSA_STATUS_ERROR_INVALID_ARGUMENT;
}

PUBLIC hsa_status_t hsa_amd_vmem_map(void *address, size_t size, size_t offset,
                                     hsa_amd_vmem_alloc_handle_t handle, uint64_t flags) {
    (void)offset, (void)flags;
    pthread_mutex_lock(&lock);
    struct place *place = place_at(handles, handle.handle);
    bool fine = place != NULL && place_at(mappings, (uint64_t)address) == NULL;
    if (fine)
        add_place(mappings, (uint64_t)address, size, place->physical);
    pthread_mutex_unlock(&lock);
    return fine ? HSA_STATUS_SUCCESS : HSA_STATUS_ERROR_INVALID_ARGUMENT;
}

PUBLIC hsa_status_t hsa_amd_vmem_unmap(void *address, size_t size) {
    (void)size;
    pthread_mutex_lock(&lock);
    struct place *mapping = place_at(mappings, (uint64_t)address);
    if (mapping != NULL) {
        unreference(mapping->physical);
        mapping->physical = NULL;
    }
    pthread_mutex_unlock(&lock);
    return mapping != NULL ? HSA_STATUS_SUCCESS : HSA_STATUS_ERROR_INVALID_ARGUMENT;
}
