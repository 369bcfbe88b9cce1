/*
 * hsa.c - wrappers of AMD's runtime, libhsa-runtime64.so.1.
 *
 * It links nothing to contexts: memory is live until its free or the end of the runtime.
 */
#include "drivers/wrap.h"
#include "hsa_pools.h"
#include "hsa_rows.h"

#define MP_ROW_BACKEND MP_BACKEND_HIP
#define MP_ROW_FAMILY MP_FAMILY_HIP
#define MP_ROW_OK(rc) ((rc) == MP_HSA_SUCCESS)
#define MP_ROW_TAIL(scope, row) (void)(scope)

static uint32_t mp_hsa_domain(hsa_status_t rc, uint64_t pool) {
    if (rc != MP_HSA_SUCCESS && rc != MP_HSA_OUT_OF_RESOURCES && rc != MP_HSA_INVALID_ALLOCATION)
        return MP_DOMAIN_IGNORED;
    int device = mp_hsa_device_of(pool);
    return mp_domain_intern("hip", device, device < 0 ? MP_MEMORY_PINNED : MP_MEMORY_DEVICE);
}

MP_HSA_ROWS(MP_ROW_WRAPPER)
MP_HSA_PHYSICAL_ROWS(MP_ROW_WRAPPER)

static struct mp_device_row *const rows[] = {
    MP_HSA_ROWS(MP_ROW_POINTER) MP_HSA_PHYSICAL_ROWS(MP_ROW_POINTER) & mp_hsa_row_agents,
    &mp_hsa_row_info, &mp_hsa_row_pools, &mp_hsa_row_regions, NULL};
static const char *const sonames[] = {"libhsa-runtime64.so", NULL};
const struct mp_device_library mp_library_hsa = {MP_BACKEND_HIP, sonames, rows};
