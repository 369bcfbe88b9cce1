/*
 * acl_rows.h - the functions of Ascend's runtime and of ACL above it: names only. What the
 * columns mean: wrap.h.
 *
 * All end in libascend_hal.so, whose wrappers count bytes; the outermost of them names the stack. A call
 * that tries huge pages, gets a refusal and takes small ones succeeds here: no loss.
 */
#ifndef MP_ACL_ROWS_H
#define MP_ACL_ROWS_H

/* clang-format off */
/* Early releases had rtMalloc without moduleId: the wrapper passes its word on from the register. */
#define MP_RUNTIME_ROWS(ROW) \
    ROW(name, rtError_t, rtMalloc, \
        (void **devPtr, uint64_t size, rtMemType_t type, const uint16_t moduleId), \
        (devPtr, size, type, moduleId)) \
    ROW(name, rtError_t, rtMallocCached, \
        (void **devPtr, uint64_t size, rtMemType_t type, const uint16_t moduleId), \
        (devPtr, size, type, moduleId)) \
    ROW(name, rtError_t, rtFree, (void *devPtr), (devPtr)) \
    ROW(name, rtError_t, rtFreeWithDevSync, (void *devPtr), (devPtr)) \
    ROW(name, rtError_t, rtDvppMalloc, (void **devPtr, uint64_t size, const uint16_t moduleId), \
        (devPtr, size, moduleId)) \
    ROW(name, rtError_t, rtDvppFree, (void *devPtr), (devPtr)) \
    ROW(name, rtError_t, rtMallocHost, (void **hostPtr, uint64_t size, const uint16_t moduleId), \
        (hostPtr, size, moduleId)) \
    ROW(name, rtError_t, rtFreeHost, (void *hostPtr), (hostPtr)) \
    ROW(name, rtError_t, rtMemAllocManaged, \
        (void **ptr, uint64_t size, uint32_t flag, const uint16_t moduleId), \
        (ptr, size, flag, moduleId)) \
    ROW(name, rtError_t, rtMemFreeManaged, (void *ptr), (ptr)) \
    ROW(name, rtError_t, rtMallocHostSharedMemory, (void *in, void *out), (in, out)) \
    ROW(name, rtError_t, rtFreeHostSharedMemory, (void *in), (in)) \
    ROW(name, rtError_t, rtIpcOpenMemory, (void **ptr, const char *name), (ptr, name)) \
    ROW(name, rtError_t, rtIpcCloseMemory, (const void *ptr), (ptr)) \
    ROW(name, rtError_t, rtMallocPhysical, \
        (rtDrvMemHandle *handle, size_t size, void *prop, uint64_t flags), \
        (handle, size, prop, flags)) \
    ROW(name, rtError_t, rtFreePhysical, (rtDrvMemHandle handle), (handle)) \
    ROW(name, rtError_t, rtReserveMemAddress, \
        (void **devPtr, size_t size, size_t alignment, void *devAddr, uint64_t flags), \
        (devPtr, size, alignment, devAddr, flags)) \
    ROW(name, rtError_t, rtReleaseMemAddress, (void *devPtr), (devPtr)) \
    ROW(name, rtError_t, rtMapMem, \
        (void *devPtr, size_t size, size_t offset, rtDrvMemHandle handle, uint64_t flags), \
        (devPtr, size, offset, handle, flags)) \
    ROW(name, rtError_t, rtUnmapMem, (void *devPtr), (devPtr))

#define MP_ACL_MALLOC_ROWS(ROW) \
    ROW(name, aclError, aclrtMalloc, \
        (void **devPtr, size_t size, aclrtMemMallocPolicy policy), (devPtr, size, policy)) \
    ROW(name, aclError, aclrtMallocAlign32, \
        (void **devPtr, size_t size, aclrtMemMallocPolicy policy), (devPtr, size, policy)) \
    ROW(name, aclError, aclrtMallocCached, \
        (void **devPtr, size_t size, aclrtMemMallocPolicy policy), (devPtr, size, policy)) \
    ROW(name, aclError, aclrtMallocWithCfg, \
        (void **devPtr, size_t size, aclrtMemMallocPolicy policy, void *cfg), \
        (devPtr, size, policy, cfg)) \
    ROW(name, aclError, aclrtMallocForTaskScheduler, \
        (void **devPtr, size_t size, aclrtMemMallocPolicy policy, void *cfg), \
        (devPtr, size, policy, cfg)) \
    ROW(name, aclError, aclrtFree, (void *devPtr), (devPtr)) \
    ROW(name, aclError, aclrtFreeWithDevSync, (void *devPtr), (devPtr)) \
    ROW(name, aclError, aclrtMallocHost, (void **hostPtr, size_t size), (hostPtr, size)) \
    ROW(name, aclError, aclrtMallocHostWithCfg, (void **ptr, uint64_t size, void *cfg), \
        (ptr, size, cfg)) \
    ROW(name, aclError, aclrtFreeHost, (void *hostPtr), (hostPtr)) \
    ROW(name, aclError, aclrtFreeHostWithDevSync, (void *hostPtr), (hostPtr)) \
    ROW(name, aclError, aclrtMemAllocManaged, (void **ptr, uint64_t size, uint32_t flag), \
        (ptr, size, flag)) \
    ROW(name, aclError, aclrtHostRegister, \
        (void *ptr, uint64_t size, aclrtHostRegisterType type, void **devPtr), \
        (ptr, size, type, devPtr)) \
    ROW(name, aclError, aclrtHostRegisterV2, (void *ptr, uint64_t size, uint32_t flag), \
        (ptr, size, flag)) \
    ROW(name, aclError, aclrtHostUnregister, (void *ptr), (ptr)) \
    ROW(name, aclError, aclrtAllocBuf, (aclrtMbuf *buf, size_t size), (buf, size)) \
    ROW(name, aclError, aclrtFreeBuf, (aclrtMbuf buf), (buf))

#define MP_ACL_PHYSICAL_ROWS(ROW) \
    ROW(name, aclError, aclrtReserveMemAddress, \
        (void **virPtr, size_t size, size_t alignment, void *expectPtr, uint64_t flags), \
        (virPtr, size, alignment, expectPtr, flags)) \
    ROW(name, aclError, aclrtReserveMemAddressNoUCMemory, \
        (void **virPtr, size_t size, size_t alignment, void *expectPtr, uint64_t flags), \
        (virPtr, size, alignment, expectPtr, flags)) \
    ROW(name, aclError, aclrtReleaseMemAddress, (void *virPtr), (virPtr)) \
    ROW(name, aclError, aclrtMallocPhysical, \
        (aclrtDrvMemHandle *handle, size_t size, const void *prop, uint64_t flags), \
        (handle, size, prop, flags)) \
    ROW(name, aclError, aclrtFreePhysical, (aclrtDrvMemHandle handle), (handle)) \
    ROW(name, aclError, aclrtMapMem, \
        (void *virPtr, size_t size, size_t offset, aclrtDrvMemHandle handle, uint64_t flags), \
        (virPtr, size, offset, handle, flags)) \
    ROW(name, aclError, aclrtUnmapMem, (void *virPtr), (virPtr)) \
    ROW(name, aclError, aclrtMemRetainAllocationHandle, \
        (void *virPtr, aclrtDrvMemHandle *handle), (virPtr, handle)) \
    ROW(name, aclError, aclrtMemImportFromShareableHandle, \
        (uint64_t shareableHandle, int32_t deviceId, aclrtDrvMemHandle *handle), \
        (shareableHandle, deviceId, handle)) \
    ROW(name, aclError, aclrtMemImportFromShareableHandleV2, \
        (void *shareableHandle, aclrtMemSharedHandleType shareType, uint64_t flags, \
         aclrtDrvMemHandle *handle), \
        (shareableHandle, shareType, flags, handle)) \
    ROW(name, aclError, aclrtIpcMemImportByKey, \
        (void **devPtr, const char *key, uint64_t flags), (devPtr, key, flags)) \
    ROW(name, aclError, aclrtIpcMemClose, (const char *key), (key))

#define MP_ACL_DEVICE_ROWS(ROW) \
    ROW(name, aclError, aclrtMemPoolCreate, (aclrtMemPool *memPool, const void *poolProps), \
        (memPool, poolProps)) \
    ROW(name, aclError, aclrtMemPoolDestroy, (const aclrtMemPool memPool), (memPool)) \
    ROW(name, aclError, aclrtMemPoolMallocAsync, \
        (void **ptr, size_t size, aclrtMemPool memPool, aclrtStream stream), \
        (ptr, size, memPool, stream)) \
    ROW(name, aclError, aclrtMemPoolFreeAsync, (void *ptr, aclrtStream stream), (ptr, stream)) \
    ROW(name, aclError, aclrtMemPoolTrimTo, (aclrtMemPool memPool, size_t minBytesToKeep), \
        (memPool, minBytesToKeep)) \
    ROW(name, aclError, aclrtResetDevice, (int32_t deviceId), (deviceId)) \
    ROW(name, aclError, aclrtResetDeviceForce, (int32_t deviceId), (deviceId)) \
    ROW(name, aclError, aclrtCreateContext, (aclrtContext *context, int32_t deviceId), \
        (context, deviceId)) \
    ROW(name, aclError, aclrtDestroyContext, (aclrtContext context), (context)) \
    ROW(name, aclError, aclrtCreateStream, (aclrtStream *stream), (stream)) \
    ROW(name, aclError, aclrtSetDevice, (int32_t deviceId), (deviceId))

#define MP_ACL_ROWS(ROW) \
    MP_ACL_MALLOC_ROWS(ROW) MP_ACL_PHYSICAL_ROWS(ROW) MP_ACL_DEVICE_ROWS(ROW)
/* clang-format on */

#endif
