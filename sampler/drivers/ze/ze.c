/*
 * ze.c - wrappers of Level Zero, libze_loader.so.1.
 *
 * The number of a device is its place in the drivers' lists, one after another; a sub-device has the
 * number of the device it is a part of.
 */
#include "drivers/wrap.h"
#include "ze_abi.h"

#define MP_ROW_BACKEND MP_BACKEND_ZE
#define MP_ROW_FAMILY MP_FAMILY_ZE
#define MP_ROW_TAIL(scope, row) (void)(scope)

#define DRIVERS_MAX 8u
#define DEVICES_MAX 64u
#define PARTS_MAX 16u

/* clang-format off */
#define ASKED(ROW) \
    ROW(mp_ze_result, zeDriverGet, (uint32_t *n, void **all)) \
    ROW(mp_ze_result, zeDeviceGet, (void *driver, uint32_t *n, void **all)) \
    ROW(mp_ze_result, zeDeviceGetSubDevices, (void *device, uint32_t *n, void **all))
/* clang-format on */
ASKED(MP_ASKED_ROW)

static struct mp_numbered known[DEVICES_MAX];

static uint32_t list_of(mp_fn_zeDeviceGet *list, void *of, void **all, uint32_t max) {
    uint32_t n = max;
    return list != NULL && list(of, &n, all) == MP_ZE_SUCCESS && n <= max ? n : 0;
}

static void remember_all(void) {
    void *drivers[DRIVERS_MAX], *devices[DEVICES_MAX], *parts[PARTS_MAX];
    mp_fn_zeDriverGet *list = MP_REAL(zeDriverGet);
    uint32_t n = DRIVERS_MAX;
    int number = 0;
    if (list == NULL || list(&n, drivers) != MP_ZE_SUCCESS)
        return;
    for (uint32_t i = 0; i < n && i < DRIVERS_MAX; i++) {
        uint32_t here = list_of(MP_REAL(zeDeviceGet), drivers[i], devices, DEVICES_MAX);
        for (uint32_t k = 0; k < here; k++, number++) {
            mp_number_set(known, DEVICES_MAX, (uintptr_t)devices[k], number);
            uint32_t split = list_of(MP_REAL(zeDeviceGetSubDevices), devices[k], parts, PARTS_MAX);
            for (uint32_t p = 0; p < split; p++)
                mp_number_set(known, DEVICES_MAX, (uintptr_t)parts[p], number);
        }
    }
}

/* -1: unknown, or no device. */
static int number_of(const void *device) {
    int number = -1;
    if (device == NULL || mp_number_of(known, DEVICES_MAX, (uintptr_t)device, &number))
        return number;
    remember_all();
    mp_number_of(known, DEVICES_MAX, (uintptr_t)device, &number);
    return number;
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
    uint64_t height = 1, depth = 1;
    if (desc->shape == MP_ZE_IMAGE_2D || desc->shape == MP_ZE_IMAGE_2D_ARRAY ||
        desc->shape == MP_ZE_IMAGE_3D)
        height = desc->height;
    if (desc->shape == MP_ZE_IMAGE_3D)
        depth = desc->depth;
    if (desc->shape == MP_ZE_IMAGE_1D_ARRAY || desc->shape == MP_ZE_IMAGE_2D_ARRAY)
        depth = desc->layers;
    uint64_t pixel_bits = desc->layout < sizeof bits ? bits[desc->layout] : 8;
    uint64_t total = mp_product(desc->width, height, depth, pixel_bits);
    return total == UINT64_MAX ? total : total / 8;
}

/* Nobody can free remaining memory of a context after its end. */
static void mp_ze_context_ended(uint64_t context) {
    mp_device_drop_container(MP_SPACE_ZE_POINTER, context);
    mp_device_drop_container(MP_SPACE_ZE_IMAGE, context);
    mp_physical_drop(MP_SPACE_ZE_HANDLE, context);
}

/* clang-format off */
#define MP_ZE_ROWS(ROW) \
    ROW(allocate, mp_ze_result, zeMemAllocDevice, MP_ARG6(void *, context, \
        const struct mp_ze_desc *, desc, size_t, size, size_t, alignment, void *, device, \
        void **, pptr), .domain = mp_ze_domain(rc, desc, device, MP_MEMORY_DEVICE), \
        .asked_bytes = size, MP_FROM(ZE_POINTER, pptr), .container = MP_ADDRESS(context)) \
    ROW(allocate, mp_ze_result, zeMemAllocShared, MP_ARG7(void *, context, \
        const struct mp_ze_desc *, desc, const struct mp_ze_desc *, host_desc, size_t, size, \
        size_t, alignment, void *, device, void **, pptr), \
        .domain = mp_ze_domain(rc, desc, device, MP_MEMORY_MANAGED), .asked_bytes = size, \
        MP_FROM(ZE_POINTER, pptr), .container = MP_ADDRESS(context)) \
    ROW(allocate, mp_ze_result, zeMemAllocHost, MP_ARG5(void *, context, \
        const struct mp_ze_desc *, host_desc, size_t, size, size_t, alignment, void **, pptr), \
        .domain = mp_ze_domain(rc, host_desc, NULL, MP_MEMORY_PINNED), .asked_bytes = size, \
        MP_FROM(ZE_POINTER, pptr), .container = MP_ADDRESS(context)) \
    ROW(free, mp_ze_result, zeMemFree, MP_ARG2(void *, context, void *, ptr), \
        MP_OF(ZE_POINTER, ptr)) \
    ROW(free, mp_ze_result, zeMemFreeExt, MP_ARG3(void *, context, \
        const struct mp_ze_desc *, desc, void *, ptr), MP_OF(ZE_POINTER, ptr)) \
    ROW(create, mp_ze_result, zePhysicalMemCreate, MP_ARG4(void *, context, void *, device, \
        struct mp_ze_physical_desc *, desc, void **, physical), \
        .domain = mp_ze_domain(rc, (const struct mp_ze_desc *)desc, device, MP_MEMORY_DEVICE), \
        .asked_bytes = desc != NULL ? desc->bytes : 0, MP_FROM(ZE_HANDLE, physical), \
        .container = MP_ADDRESS(context)) \
    ROW(release, mp_ze_result, zePhysicalMemDestroy, MP_ARG2(void *, context, void *, physical), \
        MP_OF(ZE_HANDLE, physical)) \
    ROW(map, mp_ze_result, zeVirtualMemMap, MP_ARG6(void *, context, const void *, ptr, \
        size_t, size, void *, physical, size_t, offset, int32_t, access), \
        MP_OF(ZE_HANDLE, physical), .container = MP_ADDRESS(ptr), .asked_bytes = size) \
    ROW(unmap, mp_ze_result, zeVirtualMemUnmap, MP_ARG3(void *, context, const void *, ptr, \
        size_t, size), MP_OF(ZE_HANDLE, ptr), .asked_bytes = size) \
    ROW(allocate, mp_ze_result, zeImageCreate, MP_ARG4(void *, context, void *, device, \
        const struct mp_ze_image_desc *, desc, void **, image), \
        .domain = mp_ze_domain(rc, (const struct mp_ze_desc *)desc, device, MP_MEMORY_DEVICE), \
        .asked_bytes = mp_ze_image_bytes(desc), MP_FROM(ZE_IMAGE, image), \
        .container = MP_ADDRESS(context)) \
    ROW(free, mp_ze_result, zeImageDestroy, MP_ARG1(void *, image), MP_OF(ZE_IMAGE, image)) \
    ROW(then, mp_ze_result, zeContextDestroy, MP_ARG1(void *, context), \
        mp_ze_context_ended(MP_ADDRESS(context)))
/* clang-format on */

MP_ZE_ROWS(MP_ROW_WRAPPER)
MP_LIBRARY(ze, MP_BACKEND_ZE, ("libze_loader.so"),
           MP_ZE_ROWS(MP_ROW_POINTER) ASKED(MP_ASKED_POINTER));
