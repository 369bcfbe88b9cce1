/*
 * ze_rows.h - the functions of libze_loader.so.1 (Level Zero). What the columns mean: wrap.h.
 */
#ifndef MP_ZE_ROWS_H
#define MP_ZE_ROWS_H

/* clang-format off */
#define MP_ZE_ROWS(ROW) \
    ROW(allocate, mp_ze_result, zeMemAllocDevice, \
        (void *context, const struct mp_ze_desc *desc, size_t size, size_t alignment, \
         void *device, void **pptr), \
        (context, desc, size, alignment, device, pptr), \
        .domain = mp_ze_domain(rc, desc, device, MP_MEMORY_DEVICE), .asked_bytes = size, \
        .space = MP_SPACE_ZE_POINTER, .address = MP_OUT(pptr), .container = MP_ADDRESS(context)) \
    ROW(allocate, mp_ze_result, zeMemAllocShared, \
        (void *context, const struct mp_ze_desc *desc, const struct mp_ze_desc *host_desc, \
         size_t size, size_t alignment, void *device, void **pptr), \
        (context, desc, host_desc, size, alignment, device, pptr), \
        .domain = mp_ze_domain(rc, desc, device, MP_MEMORY_MANAGED), .asked_bytes = size, \
        .space = MP_SPACE_ZE_POINTER, .address = MP_OUT(pptr), .container = MP_ADDRESS(context)) \
    ROW(allocate, mp_ze_result, zeMemAllocHost, \
        (void *context, const struct mp_ze_desc *host_desc, size_t size, size_t alignment, \
         void **pptr), \
        (context, host_desc, size, alignment, pptr), \
        .domain = mp_ze_domain(rc, host_desc, NULL, MP_MEMORY_PINNED), .asked_bytes = size, \
        .space = MP_SPACE_ZE_POINTER, .address = MP_OUT(pptr), .container = MP_ADDRESS(context)) \
    ROW(free, mp_ze_result, zeMemFree, (void *context, void *ptr), (context, ptr), \
        .space = MP_SPACE_ZE_POINTER, .address = MP_ADDRESS(ptr)) \
    ROW(free, mp_ze_result, zeMemFreeExt, \
        (void *context, const struct mp_ze_desc *desc, void *ptr), (context, desc, ptr), \
        .space = MP_SPACE_ZE_POINTER, .address = MP_ADDRESS(ptr)) \
    ROW(create, mp_ze_result, zePhysicalMemCreate, \
        (void *context, void *device, struct mp_ze_physical_desc *desc, void **physical), \
        (context, device, desc, physical), \
        .domain = mp_ze_domain(rc, (const struct mp_ze_desc *)desc, device, MP_MEMORY_DEVICE), \
        .asked_bytes = desc != NULL ? desc->bytes : 0, \
        .space = MP_SPACE_ZE_HANDLE, .address = MP_OUT(physical), \
        .container = MP_ADDRESS(context)) \
    ROW(release, mp_ze_result, zePhysicalMemDestroy, (void *context, void *physical), \
        (context, physical), \
        .space = MP_SPACE_ZE_HANDLE, .address = MP_ADDRESS(physical)) \
    ROW(map, mp_ze_result, zeVirtualMemMap, \
        (void *context, const void *ptr, size_t size, void *physical, size_t offset, \
         int32_t access), \
        (context, ptr, size, physical, offset, access), \
        .space = MP_SPACE_ZE_HANDLE, .address = MP_ADDRESS(physical), \
        .container = MP_ADDRESS(ptr), .asked_bytes = size) \
    ROW(unmap, mp_ze_result, zeVirtualMemUnmap, (void *context, const void *ptr, size_t size), \
        (context, ptr, size), \
        .space = MP_SPACE_ZE_HANDLE, .address = MP_ADDRESS(ptr), .asked_bytes = size) \
    ROW(allocate, mp_ze_result, zeImageCreate, \
        (void *context, void *device, const struct mp_ze_image_desc *desc, void **image), \
        (context, device, desc, image), \
        .domain = mp_ze_domain(rc, (const struct mp_ze_desc *)desc, device, MP_MEMORY_DEVICE), \
        .asked_bytes = mp_ze_image_bytes(desc), \
        .space = MP_SPACE_ZE_IMAGE, .address = MP_OUT(image), .container = MP_ADDRESS(context)) \
    ROW(free, mp_ze_result, zeImageDestroy, (void *image), (image), \
        .space = MP_SPACE_ZE_IMAGE, .address = MP_ADDRESS(image)) \
    ROW(ended, mp_ze_result, zeContextDestroy, (void *context), (context), \
        mp_ze_context_ended(MP_ADDRESS(context)))
/* clang-format on */

#endif
