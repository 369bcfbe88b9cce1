/*
 * acl.c - wrappers of Ascend's runtime and of ACL: they name the blocks that libascend_hal.so counts.
 */
#include "acl_rows.h"
#include "hal.h"
#include "hal_abi.h"

#define MP_ROW_BACKEND MP_BACKEND_HAL
#define MP_ROW_FAMILY MP_FAMILY_HAL
#define MP_ROW_OK(rc) ((rc) == 0)
#define MP_ROW_TAIL(scope, row) mp_hal_ask_totals(scope)

MP_RUNTIME_ROWS(MP_ROW_WRAPPER)
MP_ACL_ROWS(MP_ROW_WRAPPER)

static struct mp_device_row *const runtime_rows[] = {MP_RUNTIME_ROWS(MP_ROW_POINTER) NULL};
static const char *const runtime_sonames[] = {"libruntime.so", NULL};
const struct mp_device_library mp_library_runtime = {MP_BACKEND_HAL, runtime_sonames, runtime_rows};

static struct mp_device_row *const acl_rows[] = {MP_ACL_ROWS(MP_ROW_POINTER) NULL};
static const char *const acl_sonames[] = {"libascendcl.so", "libacl_rt.so", NULL};
const struct mp_device_library mp_library_acl = {MP_BACKEND_HAL, acl_sonames, acl_rows};
