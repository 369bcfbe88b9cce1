/*
 * hsa.c - wrappers of AMD's runtime, libhsa-runtime64.so.1.
 *
 * It links nothing to contexts: memory is live until its free or the end of the runtime. It numbers nothing either:
 * agents come in the runtime's own order, and the GPUs among them are the devices 0, 1, ... as HIP counts them. We
 * list the pools and regions of all agents once, and again at the first unknown one.
 */
#include "drivers/wrap.h"
#include "hip_abi.h"
#include "hip_rows.h"

#define MP_ROW_BACKEND MP_BACKEND_HIP
#define MP_ROW_FAMILY MP_FAMILY_HIP
#define MP_ROW_TAIL(scope, row) (void)(scope)

#define POOLS_MAX 256u

typedef hsa_status_t on_agent(hsa_agent_t agent, void *walk);
typedef hsa_status_t on_pool(hsa_amd_memory_pool_t pool, void *walk);
typedef hsa_status_t on_region(hsa_region_t region, void *walk);

/* clang-format off */
#define ASKED(ROW) \
    ROW(hsa_status_t, hsa_iterate_agents, (on_agent *, void *)) \
    ROW(hsa_status_t, hsa_agent_get_info, (hsa_agent_t, int, void *)) \
    ROW(hsa_status_t, hsa_amd_agent_iterate_memory_pools, (hsa_agent_t, on_pool *, void *)) \
    ROW(hsa_status_t, hsa_agent_iterate_regions, (hsa_agent_t, on_region *, void *))
/* clang-format on */
ASKED(MP_ASKED_ROW)

/* Of pools and regions, the device; -1: a processor's. */
static struct mp_numbered pools[POOLS_MAX];

struct walk {
    int gpus;   /* seen so far */
    int device; /* of the agent whose pools are listed; -1: a processor */
};

static hsa_status_t note_pool(hsa_amd_memory_pool_t pool, void *walk) {
    mp_number_set(pools, POOLS_MAX, pool.handle, ((const struct walk *)walk)->device);
    return MP_HSA_SUCCESS;
}

static hsa_status_t note_region(hsa_region_t region, void *walk) {
    mp_number_set(pools, POOLS_MAX, region.handle, ((const struct walk *)walk)->device);
    return MP_HSA_SUCCESS;
}

static hsa_status_t note_agent(hsa_agent_t agent, void *arg) {
    mp_fn_hsa_agent_get_info *info = MP_REAL(hsa_agent_get_info);
    mp_fn_hsa_amd_agent_iterate_memory_pools *list_pools =
        MP_REAL(hsa_amd_agent_iterate_memory_pools);
    mp_fn_hsa_agent_iterate_regions *list_regions = MP_REAL(hsa_agent_iterate_regions);
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

/* Ordinal of the GPU that a pool or region belongs to; -1: host memory, or not known. */
static int device_of(uint64_t pool) {
    mp_fn_hsa_iterate_agents *list_agents = MP_REAL(hsa_iterate_agents);
    int device = -1;
    if (!mp_number_of(pools, POOLS_MAX, pool, &device) && list_agents != NULL) {
        struct walk walk = {0, -1};
        list_agents(note_agent, &walk);
        mp_number_of(pools, POOLS_MAX, pool, &device);
    }
    return device;
}

static uint32_t mp_hsa_domain(hsa_status_t rc, uint64_t pool) {
    if (rc != MP_HSA_SUCCESS && rc != MP_HSA_OUT_OF_RESOURCES && rc != MP_HSA_INVALID_ALLOCATION)
        return MP_DOMAIN_IGNORED;
    int device = device_of(pool);
    return mp_domain_intern("hip", device, device < 0 ? MP_MEMORY_PINNED : MP_MEMORY_DEVICE);
}

MP_HSA_ROWS(MP_ROW_WRAPPER)
MP_HSA_PHYSICAL_ROWS(MP_ROW_WRAPPER)
MP_LIBRARY(hsa, MP_BACKEND_HIP, ("libhsa-runtime64.so"),
           MP_HSA_ROWS(MP_ROW_POINTER) MP_HSA_PHYSICAL_ROWS(MP_ROW_POINTER)
               ASKED(MP_ASKED_POINTER));
