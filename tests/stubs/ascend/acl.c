/*
 * acl.c - a stub of ACL, libascendcl.so, on top of libruntime.so. Sizes grow on the way down as
 * they do there: 32 bytes of padding, multiples of 32.
 */
#include "ascend.h"

#include <string.h>

/* A function that is the runtime's. */
#define BELOW(name, parameters, call)                                                              \
    aclError name parameters {                                                                     \
        return call;                                                                               \
    }

static uint64_t padded(size_t size, size_t padding) {
    return (size + 32 + padding - 1) / 32 * 32;
}

BELOW(aclrtMalloc, (void **devPtr, size_t size, aclrtMemMallocPolicy policy),
      rtMalloc(devPtr, padded(size, 32), RT_MEMORY_HBM, APP_MODULE_ID))
BELOW(aclrtMallocAlign32, (void **devPtr, size_t size, aclrtMemMallocPolicy policy),
      rtMalloc(devPtr, padded(size, 0), RT_MEMORY_HBM, APP_MODULE_ID))
BELOW(aclrtFree, (void *devPtr), rtFree(devPtr))
BELOW(aclrtMallocHost, (void **hostPtr, size_t size), rtMallocHost(hostPtr, size, APP_MODULE_ID))
BELOW(aclrtFreeHost, (void *hostPtr), rtFreeHost(hostPtr))
BELOW(aclrtMemAllocManaged, (void **ptr, uint64_t size, uint32_t flag),
      rtMemAllocManaged(ptr, size, flag, APP_MODULE_ID))
BELOW(aclrtReserveMemAddress,
      (void **virPtr, size_t size, size_t alignment, void *expectPtr, uint64_t flags),
      rtReserveMemAddress(virPtr, size, alignment, expectPtr, flags))
BELOW(aclrtReleaseMemAddress, (void *virPtr), rtReleaseMemAddress(virPtr))

aclError aclrtMallocPhysical(aclrtDrvMemHandle *handle, size_t size,
                             const aclrtPhysicalMemProp *prop, uint64_t flags) {
    rtDrvMemProp_t runtime_prop = {.side = MEM_DEV_SIDE,
                                   .devid = prop->location.id,
                                   .module_id = APP_MODULE_ID,
                                   .pg_type = MEM_HUGE_PAGE_TYPE};
    return rtMallocPhysical(handle, size, &runtime_prop, flags);
}

BELOW(aclrtFreePhysical, (aclrtDrvMemHandle handle), rtFreePhysical(handle))
BELOW(aclrtMapMem,
      (void *virPtr, size_t size, size_t offset, aclrtDrvMemHandle handle, uint64_t flags),
      rtMapMem(virPtr, size, offset, handle, flags))
BELOW(aclrtUnmapMem, (void *virPtr), rtUnmapMem(virPtr))
BELOW(aclrtSetDevice, (int32_t deviceId), rtSetDevice(deviceId))
BELOW(aclrtResetDevice, (int32_t deviceId), rtDeviceReset(deviceId))
BELOW(aclrtBinaryGetFunction,
      (const aclrtBinHandle binHandle, const char *kernelName, aclrtFuncHandle *funcHandle),
      rtsFuncGetByName((void *)binHandle, kernelName, funcHandle))

/* An entry is the address of a name, which no other call is told. */
aclError aclrtBinaryGetFunctionByEntry(aclrtBinHandle binHandle, uint64_t funcEntry,
                                       aclrtFuncHandle *funcHandle) {
    *funcHandle = stub_function((const char *)(uintptr_t)funcEntry);
    return 0;
}

aclError aclrtGetFunctionName(aclrtFuncHandle funcHandle, uint32_t maxLen, char *name) {
    const char *found = stub_function_name(funcHandle);
    if (found == NULL || maxLen == 0)
        return ACL_ERROR_RT_PARAM_INVALID;
    strncpy(name, found, maxLen - 1);
    name[maxLen - 1] = '\0';
    return 0;
}

BELOW(aclrtLaunchKernel,
      (aclrtFuncHandle funcHandle, uint32_t numBlocks, const void *argsData, size_t argsSize,
       aclrtStream stream),
      rtLaunchKernelByFuncHandleV2(funcHandle, numBlocks, NULL, stream, NULL))
BELOW(aclrtLaunchKernelV2,
      (aclrtFuncHandle funcHandle, uint32_t numBlocks, const void *argsData, size_t argsSize,
       aclrtLaunchKernelCfg *cfg, aclrtStream stream),
      rtLaunchKernelByFuncHandleV3(funcHandle, numBlocks, NULL, stream, NULL))
BELOW(aclrtLaunchKernelWithConfig,
      (aclrtFuncHandle funcHandle, uint32_t numBlocks, aclrtStream stream,
       aclrtLaunchKernelCfg *cfg, aclrtArgsHandle argsHandle, void *reserve),
      rtLaunchKernelByFuncHandleV2(funcHandle, numBlocks, argsHandle, stream, NULL))
BELOW(aclrtLaunchKernelWithHostArgs,
      (aclrtFuncHandle funcHandle, uint32_t numBlocks, aclrtStream stream,
       aclrtLaunchKernelCfg *cfg, void *hostArgs, size_t argsSize,
       aclrtPlaceHolderInfo *placeHolderArray, size_t placeHolderNum),
      rtLaunchKernelByFuncHandleV3(funcHandle, numBlocks, NULL, stream, NULL))
BELOW(aclrtStreamGetId, (aclrtStream stream, int32_t *streamId), rtGetStreamId(stream, streamId))
BELOW(aclrtGetThreadLastTaskId, (uint32_t *taskId), rtsGetThreadLastTaskId(taskId))
BELOW(aclrtGetDevice, (int32_t *deviceId), rtGetDevice(deviceId))
