/*
 * hal_rows.h - the functions of libascend_hal.so. What the columns mean: wrap.h.
 *
 * Only these wrappers count bytes: HCCL, ATB and the runtime itself do not pass through ACL. halMemAlloc
 * of some drivers goes on to halMemAllocInner through the PLT, and other tools call that one: both have
 * rows, the scopes count once.
 */
#ifndef MP_HAL_ROWS_H
#define MP_HAL_ROWS_H

/* clang-format off */
#define MP_HAL_ALLOC_ROWS(ROW) \
    ROW(allocate, drvError_t, halMemAlloc, \
        (void **pp, unsigned long long size, unsigned long long flag), (pp, size, flag), \
        MP_HAL_BLOCK(mp_hal_memory_of_flag(flag), size), \
        .space = MP_SPACE_HAL_POINTER, .address = MP_OUT(pp)) \
    ROW(allocate, drvError_t, halMemAllocInner, \
        (void **pp, unsigned long long size, unsigned long long flag), (pp, size, flag), \
        MP_HAL_BLOCK(mp_hal_memory_of_flag(flag), size), \
        .space = MP_SPACE_HAL_POINTER, .address = MP_OUT(pp)) \
    ROW(free, drvError_t, halMemFree, (void *pp), (pp), \
        .space = MP_SPACE_HAL_POINTER, .address = MP_ADDRESS(pp)) \
    ROW(free, drvError_t, halMemFreeInner, (void *pp), (pp), \
        .space = MP_SPACE_HAL_POINTER, .address = MP_ADDRESS(pp)) \
    ROW(allocate, drvError_t, halHostRegister, \
        (void *src_ptr, unsigned long long size, unsigned int flag, unsigned int devid, \
         void **dst_ptr), \
        (src_ptr, size, flag, devid, dst_ptr), \
        MP_HAL_BLOCK(mp_hal_registered(flag), size), \
        .space = MP_SPACE_HAL_REGISTERED, .address = mp_hal_registration(src_ptr, devid)) \
    ROW(free, drvError_t, halHostUnregister, (void *src_ptr, unsigned int devid), \
        (src_ptr, devid), \
        .space = MP_SPACE_HAL_REGISTERED, .address = mp_hal_registration(src_ptr, devid)) \
    ROW(free, drvError_t, halHostUnregisterEx, \
        (void *src_ptr, unsigned int devid, unsigned int flag), (src_ptr, devid, flag), \
        .space = MP_SPACE_HAL_REGISTERED, .address = mp_hal_registration(src_ptr, devid))

#define MP_HAL_PHYSICAL_ROWS(ROW) \
    ROW(create, drvError_t, halMemCreate, \
        (drv_mem_handle_t **handle, size_t size, const struct drv_mem_prop *prop, uint64_t flag), \
        (handle, size, prop, flag), \
        MP_HAL_BLOCK(mp_hal_memory_of_prop(prop), size), \
        .space = MP_SPACE_HAL_HANDLE, .address = MP_OUT(handle)) \
    ROW(release, drvError_t, halMemRelease, (drv_mem_handle_t *handle), (handle), \
        .space = MP_SPACE_HAL_HANDLE, .address = MP_ADDRESS(handle)) \
    ROW(retain, drvError_t, halMemRetainAllocationHandle, \
        (drv_mem_handle_t **handle, void *ptr), (handle, ptr), \
        .space = MP_SPACE_HAL_HANDLE, .address = MP_OUT(handle), .container = MP_ADDRESS(ptr)) \
    ROW(import, drvError_t, halMemImportFromShareableHandle, \
        (uint64_t shareable_handle, uint32_t devid, drv_mem_handle_t **handle), \
        (shareable_handle, devid, handle), \
        .space = MP_SPACE_HAL_HANDLE, .address = MP_OUT(handle)) \
    ROW(import, drvError_t, halMemImportFromShareableHandleV2, \
        (int handle_type, void *share_handle, uint32_t devid, drv_mem_handle_t **handle), \
        (handle_type, share_handle, devid, handle), \
        .space = MP_SPACE_HAL_HANDLE, .address = MP_OUT(handle)) \
    ROW(map, drvError_t, halMemMap, \
        (void *ptr, size_t size, size_t offset, drv_mem_handle_t *handle, uint64_t flag), \
        (ptr, size, offset, handle, flag), \
        .space = MP_SPACE_HAL_HANDLE, .address = MP_ADDRESS(handle), \
        .container = MP_ADDRESS(ptr), .asked_bytes = size) \
    ROW(unmap, drvError_t, halMemUnmap, (void *ptr), (ptr), \
        .space = MP_SPACE_HAL_HANDLE, .address = MP_ADDRESS(ptr))

#define MP_HAL_OTHER_ROWS(ROW) \
    ROW(name, drvError_t, halMemAddressReserve, \
        (void **ptr, size_t size, size_t alignment, void *addr, uint64_t flag), \
        (ptr, size, alignment, addr, flag)) \
    ROW(name, drvError_t, halMemAddressFree, (void *ptr), (ptr)) \
    ROW(name, DVresult, halShmemOpenHandle, (const char *name, DVdeviceptr *vptr), (name, vptr)) \
    ROW(name, DVresult, halShmemOpenHandleByDevId, \
        (DVdevice dev_id, const char *name, DVdeviceptr *vptr), (dev_id, name, vptr)) \
    ROW(name, DVresult, halShmemOpenHandleV2, \
        (DVdevice dev_id, const char *name, DVdeviceptr *vptr, uint64_t flag), \
        (dev_id, name, vptr, flag)) \
    ROW(name, DVresult, halShmemCloseHandle, (DVdeviceptr vptr), (vptr)) \
    ROW(ended, drvError_t, halDeviceClose, (uint32_t devid, halDevCloseIn *in), (devid, in), \
        mp_hal_device_closed(devid, in)) \
    ROW(ended, drvError_t, drvDeviceClose, (uint32_t devId), (devId), \
        mp_hal_device_closed(devId, NULL))

#define MP_HAL_ROWS(ROW) MP_HAL_ALLOC_ROWS(ROW) MP_HAL_PHYSICAL_ROWS(ROW) MP_HAL_OTHER_ROWS(ROW)
/* clang-format on */

#endif
