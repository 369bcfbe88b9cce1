/*
 * hip.c - wrappers of HIP, libamdhip64.so: names for calls into HSA, and the blocks in use of its pools.
 */
#include "drivers/wrap.h"
#include "hip_abi.h"
#include "hip_rows.h"

#define MP_ROW_BACKEND MP_BACKEND_HIP
#define MP_ROW_OK(rc) ((rc) == MP_HIP_SUCCESS)
#define MP_ROW_TAIL(scope, row) ask_totals(scope, ok)

/* Called, not wrapped. */
static struct mp_device_row row_device = {.symbol = "hipGetDevice"};
static struct mp_device_row row_info = {.symbol = "hipMemGetInfo"};

static uint32_t mp_hip_pinned(hipError_t rc) {
    return rc == MP_HIP_SUCCESS || rc == MP_HIP_OUT_OF_MEMORY
               ? mp_domain_intern("hip", -1, MP_MEMORY_PINNED)
               : MP_DOMAIN_IGNORED;
}

static uint32_t mp_hip_in_pools(hipError_t rc) {
    return rc == MP_HIP_SUCCESS || rc == MP_HIP_OUT_OF_MEMORY
               ? mp_domain_intern("hip", -1, MP_MEMORY_POOL)
               : MP_DOMAIN_IGNORED;
}

static void ask_totals(const struct mp_device_scope *scope, bool ok) {
    hipError_t (*which)(int *) = (hipError_t (*)(int *))mp_row_real(&row_device);
    hipError_t (*ask)(size_t *, size_t *) =
        (hipError_t (*)(size_t *, size_t *))mp_row_real(&row_info);
    int device;
    size_t free_bytes = 0, total_bytes = 0;
    if (!ok || which == NULL || ask == NULL || mp_device_scope_nested(scope) ||
        which(&device) != MP_HIP_SUCCESS)
        return;
    uint32_t domain = mp_domain_intern("hip", device, MP_MEMORY_DEVICE);
    if (domain == MP_DOMAIN_NONE || !mp_device_actual_due(domain))
        return;
    if (ask(&free_bytes, &total_bytes) == MP_HIP_SUCCESS && free_bytes <= total_bytes)
        mp_device_actual(domain, total_bytes - free_bytes, total_bytes);
}

#define MP_ROW_FAMILY MP_FAMILY_HIP
MP_HIP_ROWS(MP_ROW_WRAPPER)
#undef MP_ROW_FAMILY

/* A family of their own: HSA's chunks are counted beside what is used of them. */
#define MP_ROW_FAMILY MP_FAMILY_POOL
#undef MP_ROW_TAIL
#define MP_ROW_TAIL(scope, row) (void)(scope)
MP_HIP_ASYNC_ROWS(MP_ROW_WRAPPER)

static struct mp_device_row *const rows[] = {
    MP_HIP_ROWS(MP_ROW_POINTER) MP_HIP_ASYNC_ROWS(MP_ROW_POINTER) & row_device, &row_info, NULL};
static const char *const sonames[] = {"libamdhip64.so", NULL};
const struct mp_device_library mp_library_hip = {MP_BACKEND_HIP, sonames, rows};
