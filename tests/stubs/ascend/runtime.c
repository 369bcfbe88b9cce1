/*
 * runtime.c - a stub of Ascend's runtime, libruntime.so, on top of libascend_hal.so.
 *
 * As CANN's: what a driver may lack is declared weak and tested by its address; huge pages are
 * tried first and normal ones when they are refused; the last user of a device closes it.
 */
#include "ascend.h"

#include <stdatomic.h>
#include <stdbool.h>

#pragma weak halMemCreate
#pragma weak halMemRelease
#pragma weak halMemAddressReserve
#pragma weak halMemAddressFree
#pragma weak halMemMap
#pragma weak halMemUnmap
#pragma weak halDeviceClose
#pragma weak drvDeviceClose

static atomic_int users[2];
static _Thread_local int current;

static rtError_t status(drvError_t rc) {
    if (rc == DRV_ERROR_NONE)
        return RT_ERROR_NONE;
    if (rc == DRV_ERROR_OUT_OF_MEMORY)
        return ACL_ERROR_RT_MEMORY_ALLOCATION;
    return rc == DRV_ERROR_NOT_SUPPORT ? ACL_ERROR_RT_FEATURE_NOT_SUPPORT
                                       : ACL_ERROR_RT_PARAM_INVALID;
}

static uint64_t flag_of(uint64_t type, uint16_t module) {
    return type | (uint64_t)current | (uint64_t)module << MEM_MODULE_ID_BIT;
}

rtError_t rtMalloc(void **devPtr, uint64_t size, rtMemType_t type, const uint16_t moduleId) {
    uint64_t flag = flag_of(MEM_DEV | MEM_TYPE_HBM, moduleId);
    drvError_t rc = DRV_ERROR_OUT_OF_MEMORY;
    if (size > 1 << 20)
        rc = halMemAlloc(devPtr, size, flag | MEM_PAGE_HUGE);
    if (rc != DRV_ERROR_NONE)
        rc = halMemAlloc(devPtr, size, flag);
    return status(rc);
}

rtError_t rtFree(void *devPtr) {
    return status(halMemFree(devPtr));
}

rtError_t rtMallocHost(void **hostPtr, uint64_t size, const uint16_t moduleId) {
    return status(halMemAlloc(hostPtr, size, flag_of(MEM_HOST, moduleId)));
}

rtError_t rtFreeHost(void *hostPtr) {
    return status(halMemFree(hostPtr));
}

rtError_t rtMemAllocManaged(void **ptr, uint64_t size, uint32_t flag, const uint16_t moduleId) {
    return status(halMemAlloc(ptr, size, flag_of(MEM_SVM, moduleId)));
}

rtError_t rtMallocPhysical(rtDrvMemHandle *handle, size_t size, rtDrvMemProp_t *prop,
                           uint64_t flags) {
    if (&halMemCreate == NULL)
        return ACL_ERROR_RT_FEATURE_NOT_SUPPORT;
    struct drv_mem_prop driver_prop = {.side = prop->side,
                                       .devid = prop->devid,
                                       .module_id = prop->module_id,
                                       .pg_type = prop->pg_type,
                                       .mem_type = prop->mem_type};
    return status(halMemCreate((drv_mem_handle_t **)handle, size, &driver_prop, flags));
}

/* A function that is one of the driver's, where the driver has it. */
#define OF_DRIVER(name, parameters, function, ...)                                                 \
    rtError_t name parameters {                                                                    \
        return &function == NULL ? ACL_ERROR_RT_FEATURE_NOT_SUPPORT                                \
                                 : status(function(__VA_ARGS__));                                  \
    }

OF_DRIVER(rtFreePhysical, (rtDrvMemHandle handle), halMemRelease, handle)
OF_DRIVER(rtReserveMemAddress, (void **p, size_t size, size_t align, void *at, uint64_t flags),
          halMemAddressReserve, p, size, align, at, flags)
OF_DRIVER(rtReleaseMemAddress, (void *p), halMemAddressFree, p)
OF_DRIVER(rtMapMem, (void *p, size_t size, size_t offset, rtDrvMemHandle handle, uint64_t flags),
          halMemMap, p, size, offset, handle, flags)
OF_DRIVER(rtUnmapMem, (void *p), halMemUnmap, p)

rtError_t rtSetDevice(int32_t device) {
    if (device < 0 || device > 1)
        return ACL_ERROR_RT_PARAM_INVALID;
    current = device;
    atomic_fetch_add(&users[device], 1);
    return RT_ERROR_NONE;
}

rtError_t rtDeviceReset(int32_t device) {
    if (device < 0 || device > 1)
        return ACL_ERROR_RT_PARAM_INVALID;
    if (atomic_fetch_sub(&users[device], 1) > 1)
        return RT_ERROR_NONE;
    atomic_store(&users[device], 0);
    if (&halDeviceClose != NULL) {
        halDevCloseIn in = {0};
        return status(halDeviceClose((uint32_t)device, &in));
    }
    return &drvDeviceClose != NULL ? status(drvDeviceClose((uint32_t)device))
                                   : ACL_ERROR_RT_FEATURE_NOT_SUPPORT;
}

#include "runtime_launch.h"
