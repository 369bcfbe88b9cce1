/*
 * ze.c - wrappers of Level Zero, libze_loader.so.1.
 *
 * The number of a device is its place in the drivers' lists, one after another; a sub-device has the
 * number of the device it is a part of.
 */
#include "drivers/wrap.h"
#include "ze_abi.h"
#include "ze_rows.h"

#define MP_ROW_BACKEND MP_BACKEND_ZE
#define MP_ROW_FAMILY MP_FAMILY_ZE
#define MP_ROW_OK(rc) ((rc) == MP_ZE_SUCCESS)
#define MP_ROW_TAIL(scope, row) (void)(scope)

#define DRIVERS_MAX 8u
#define DEVICES_MAX 64u
#define PARTS_MAX 16u

/* Looked up, never wrapped. */
static struct mp_device_row row_drivers = {.symbol = "zeDriverGet"};
static struct mp_device_row row_devices = {.symbol = "zeDeviceGet"};
static struct mp_device_row row_parts = {.symbol = "zeDeviceGetSubDevices"};

typedef mp_ze_result list_fn(uint32_t *n, void **all);
typedef mp_ze_result list_of_fn(void *of, uint32_t *n, void **all);

/* Devices that are known. Its handle claims a row; its number + 1 follows, 0 until then. */
static struct {
    uint64_t handle;
    uint32_t number;
} known[DEVICES_MAX];

static void remember(const void *device, uint32_t number) {
    for (unsigned i = 0; i < DEVICES_MAX; i++) {
        if (mp_load_relaxed(&known[i].handle) == (uintptr_t)device)
            return;
        if (mp_cas_u64(&known[i].handle, 0, (uintptr_t)device)) {
            mp_store_release(&known[i].number, number + 1); /* pairs with recall() */
            return;
        }
    }
}

static int recall(const void *device) {
    for (unsigned i = 0; i < DEVICES_MAX; i++)
        if (mp_load_relaxed(&known[i].handle) == (uintptr_t)device)
            return (int)mp_load_acquire(&known[i].number) - 1;
    return -1;
}

static uint32_t list_of(const struct mp_device_row *row, void *of, void **all, uint32_t max) {
    list_of_fn *list = (list_of_fn *)mp_row_real(row);
    uint32_t n = max;
    return list != NULL && list(of, &n, all) == MP_ZE_SUCCESS && n <= max ? n : 0;
}

static void remember_all(void) {
    void *drivers[DRIVERS_MAX], *devices[DEVICES_MAX], *parts[PARTS_MAX];
    list_fn *list = (list_fn *)mp_row_real(&row_drivers);
    uint32_t n = DRIVERS_MAX, number = 0;
    if (list == NULL || list(&n, drivers) != MP_ZE_SUCCESS)
        return;
    for (uint32_t i = 0; i < n && i < DRIVERS_MAX; i++) {
        uint32_t here = list_of(&row_devices, drivers[i], devices, DEVICES_MAX);
        for (uint32_t k = 0; k < here; k++, number++) {
            remember(devices[k], number);
            uint32_t split = list_of(&row_parts, devices[k], parts, PARTS_MAX);
            for (uint32_t p = 0; p < split; p++)
                remember(parts[p], number);
        }
    }
}

static int number_of(const void *device) {
    int number = device != NULL ? recall(device) : -1;
    if (number >= 0 || device == NULL)
        return number;
    remember_all();
    return recall(device);
}

static bool is_import(const struct mp_ze_desc *desc) {
    for (const struct mp_ze_desc *at = desc; at != NULL; at = at->next)
        if (at->type == MP_ZE_IMPORT_FD || at->type == MP_ZE_IMPORT_WIN32)
            return true;
    return false;
}

/* None for memory of others, and for errors of the caller. */
static uint32_t mp_ze_domain(mp_ze_result rc, const struct mp_ze_desc *desc, const void *device,
                             enum mp_memory_kind kind) {
    if ((rc != MP_ZE_SUCCESS && rc != MP_ZE_OUT_OF_HOST_MEMORY &&
         rc != MP_ZE_OUT_OF_DEVICE_MEMORY && rc != MP_ZE_UNSUPPORTED_SIZE) ||
        is_import(desc))
        return MP_DOMAIN_IGNORED;
    return mp_domain_intern("ze", number_of(device), kind);
}

/* Without padding, which the driver does not report; UINT64_MAX when it passes 64 bits. */
static uint64_t mp_ze_image_bytes(const struct mp_ze_image_desc *desc) {
    static const uint8_t bits[] = {8,  16, 32, 16, 32, 32, 64, 64, 128, 32, 32, 16, 16, 16, 8,
                                   12, 16, 16, 16, 16, 32, 24, 32, 24,  16, 24, 32, 32, 8,  16,
                                   16, 8,  8,  64, 32, 12, 12, 8,  16,  16, 24, 24, 24};
    if (desc == NULL)
        return 0;
    if (desc->shape == MP_ZE_IMAGE_BUFFER)
        return desc->width;
    uint64_t height = 1, depth = 1, total;
    if (desc->shape == MP_ZE_IMAGE_2D || desc->shape == MP_ZE_IMAGE_2D_ARRAY ||
        desc->shape == MP_ZE_IMAGE_3D)
        height = desc->height;
    if (desc->shape == MP_ZE_IMAGE_3D)
        depth = desc->depth;
    if (desc->shape == MP_ZE_IMAGE_1D_ARRAY || desc->shape == MP_ZE_IMAGE_2D_ARRAY)
        depth = desc->layers;
    uint64_t pixel_bits = desc->layout < sizeof bits ? bits[desc->layout] : 8;
    if (__builtin_mul_overflow(desc->width, height, &total) ||
        __builtin_mul_overflow(total, depth, &total) ||
        __builtin_mul_overflow(total, pixel_bits, &total))
        return UINT64_MAX;
    return total / 8;
}

/* Nobody can free remaining memory of a context after its end. */
static void mp_ze_context_ended(uint64_t context) {
    mp_device_drop_container(MP_SPACE_ZE_POINTER, context);
    mp_device_drop_container(MP_SPACE_ZE_IMAGE, context);
    mp_physical_drop(MP_SPACE_ZE_HANDLE, context);
}

MP_ZE_ROWS(MP_ROW_WRAPPER)

static struct mp_device_row *const rows[] = {MP_ZE_ROWS(MP_ROW_POINTER) & row_drivers, &row_devices,
                                             &row_parts, NULL};
static const char *const sonames[] = {"libze_loader.so", NULL};
const struct mp_device_library mp_library_ze = {MP_BACKEND_ZE, sonames, rows};
