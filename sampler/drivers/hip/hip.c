/*
 * hip.c - wrappers of HIP, libamdhip64.so: names for calls into HSA, and the blocks in use of its pools.
 */
#include "drivers/wrap.h"
#include "hip_abi.h"
#include "hip_rows.h"

#define MP_ROW_BACKEND MP_BACKEND_HIP
#define MP_ROW_TAIL(scope, row) ask_totals(scope, ok)

/* clang-format off */
#define ASKED(ROW) \
    ROW(hipError_t, hipGetDevice, (int *)) \
    ROW(hipError_t, hipMemGetInfo, (size_t *, size_t *))
/* clang-format on */
ASKED(MP_ASKED_ROW)

static uint32_t mp_hip_domain(hipError_t rc, enum mp_memory_kind kind) {
    return rc == MP_HIP_SUCCESS || rc == MP_HIP_OUT_OF_MEMORY ? mp_domain_intern("hip", -1, kind)
                                                              : MP_DOMAIN_IGNORED;
}

static void ask_totals(const struct mp_device_scope *scope, bool ok) {
    mp_fn_hipGetDevice *which = MP_REAL(hipGetDevice);
    mp_fn_hipMemGetInfo *ask = MP_REAL(hipMemGetInfo);
    int device;
    if (ok && which != NULL && ask != NULL && !mp_device_scope_nested(scope) &&
        which(&device) == MP_HIP_SUCCESS)
        mp_device_ask_free("hip", device, ask);
}

#define MP_ROW_FAMILY MP_FAMILY_HIP
MP_HIP_ROWS(MP_ROW_WRAPPER)
#undef MP_ROW_FAMILY

/* A separate family: HSA's chunks are counted besides the used parts of them. */
#define MP_ROW_FAMILY MP_FAMILY_POOL
#undef MP_ROW_TAIL
#define MP_ROW_TAIL(scope, row) (void)(scope)
MP_HIP_ASYNC_ROWS(MP_ROW_WRAPPER)

MP_LIBRARY(hip, MP_BACKEND_HIP, ("libamdhip64.so"),
           MP_HIP_ROWS(MP_ROW_POINTER) MP_HIP_ASYNC_ROWS(MP_ROW_POINTER) ASKED(MP_ASKED_POINTER));
