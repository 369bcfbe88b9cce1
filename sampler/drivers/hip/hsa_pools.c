/*
 * hsa_pools.c - see hsa_pools.h.
 */
#include "hsa_pools.h"

#define POOLS_MAX 256u

struct mp_device_row mp_hsa_row_agents = {.symbol = "hsa_iterate_agents"};
struct mp_device_row mp_hsa_row_info = {.symbol = "hsa_agent_get_info"};
struct mp_device_row mp_hsa_row_pools = {.symbol = "hsa_amd_agent_iterate_memory_pools"};
struct mp_device_row mp_hsa_row_regions = {.symbol = "hsa_agent_iterate_regions"};

/* A row is claimed by its handle; its device + 2 follows, 0 until then. */
static struct {
    uint64_t handle;
    uint32_t device;
} pools[POOLS_MAX];

struct walk {
    int gpus;   /* seen so far */
    int device; /* of the agent whose pools are listed; -1: a processor */
};

typedef hsa_status_t on_pool(hsa_amd_memory_pool_t pool, void *walk);
typedef hsa_status_t on_region(hsa_region_t region, void *walk);

static void remember(uint64_t handle, int device) {
    for (unsigned i = 0; i < POOLS_MAX && handle != 0; i++) {
        uint64_t none = 0;
        if (!__atomic_compare_exchange_n(&pools[i].handle, &none, handle, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_ACQUIRE) &&
            none != handle)
            continue;
        mp_store_release(&pools[i].device, (uint32_t)(device + 2)); /* pairs with known() */
        return;
    }
}

static hsa_status_t note_pool(hsa_amd_memory_pool_t pool, void *walk) {
    remember(pool.handle, ((const struct walk *)walk)->device);
    return MP_HSA_SUCCESS;
}

static hsa_status_t note_region(hsa_region_t region, void *walk) {
    remember(region.handle, ((const struct walk *)walk)->device);
    return MP_HSA_SUCCESS;
}

static hsa_status_t note_agent(hsa_agent_t agent, void *arg) {
    hsa_status_t (*info)(hsa_agent_t, int, void *) =
        (hsa_status_t (*)(hsa_agent_t, int, void *))mp_row_real(&mp_hsa_row_info);
    hsa_status_t (*list_pools)(hsa_agent_t, on_pool *, void *) =
        (hsa_status_t (*)(hsa_agent_t, on_pool *, void *))mp_row_real(&mp_hsa_row_pools);
    hsa_status_t (*list_regions)(hsa_agent_t, on_region *, void *) =
        (hsa_status_t (*)(hsa_agent_t, on_region *, void *))mp_row_real(&mp_hsa_row_regions);
    struct walk *walk = arg;
    int type = -1;
    if (info == NULL || info(agent, MP_HSA_AGENT_INFO_DEVICE, &type) != MP_HSA_SUCCESS)
        return MP_HSA_SUCCESS;
    walk->device = type == MP_HSA_DEVICE_GPU ? walk->gpus++ : -1;
    if (list_pools != NULL)
        list_pools(agent, note_pool, walk);
    if (list_regions != NULL)
        list_regions(agent, note_region, walk);
    return MP_HSA_SUCCESS;
}

/* Device + 2; 0: not known. */
static uint32_t known(uint64_t handle) {
    for (unsigned i = 0; i < POOLS_MAX; i++) {
        uint64_t seen = mp_load_acquire(&pools[i].handle);
        if (seen == handle)
            return mp_load_acquire(&pools[i].device);
        if (seen == 0)
            break;
    }
    return 0;
}

int mp_hsa_device_of(uint64_t pool) {
    typedef hsa_status_t on_agent(hsa_agent_t, void *);
    hsa_status_t (*list_agents)(on_agent *, void *) =
        (hsa_status_t (*)(on_agent *, void *))mp_row_real(&mp_hsa_row_agents);
    uint32_t device = known(pool);
    if (device == 0 && list_agents != NULL) {
        struct walk walk = {0, -1};
        list_agents(note_agent, &walk);
        device = known(pool);
    }
    return device == 0 ? -1 : (int)device - 2;
}
