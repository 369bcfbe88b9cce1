/*
 * cudart.c - wrappers of a shared CUDA runtime: the names of what is called in the driver.
 */
#include "cuda_abi.h"
#include "cudart_rows.h"
#include "drivers/wrap.h"

#define MP_ROW_BACKEND MP_BACKEND_CUDA
#define MP_ROW_FAMILY MP_FAMILY_CUDA
#define MP_ROW_OK(rc) ((rc) == 0)
#define MP_ROW_TAIL(scope, row) (void)(scope)

MP_CUDART_ROWS(MP_ROW_WRAPPER)

static struct mp_device_row *const rows[] = {MP_CUDART_ROWS(MP_ROW_POINTER) NULL};
static const char *const sonames[] = {"libcudart.so", "libcudart-", NULL};
const struct mp_device_library mp_library_cudart = {MP_BACKEND_CUDA, sonames, rows};
