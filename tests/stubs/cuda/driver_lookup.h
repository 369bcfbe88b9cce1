/*
 * driver_lookup.h - the part of driver.c that finds its functions by name.
 */
#ifndef STUB_DRIVER_LOOKUP_H
#define STUB_DRIVER_LOOKUP_H

struct entry {
    const char *name, *exported;
    int since;
    bool per_thread;
    void *function;
};

#define ENTRY_OF(name, exported, since, per_thread)                                                \
    {name, #exported, since, per_thread, (void *)exported}

PUBLIC cuGetProcAddress(const char *symbol, void **function, int version, cuuint64_t flags);
PUBLIC cuGetProcAddress_v2(const char *symbol, void **function, int version, cuuint64_t flags,
                           CUdriverProcAddressQueryResult *status);

/* The newest variant first. */
static const struct entry entries[] = {
    ENTRY_OF("cuInit", cuInit, 2000, false),
    ENTRY_OF("cuDriverGetVersion", cuDriverGetVersion, 2020, false),
    ENTRY_OF("cuDeviceGet", cuDeviceGet, 2000, false),
    ENTRY_OF("cuCtxCreate", cuCtxCreate_v2, 3020, false),
    ENTRY_OF("cuCtxDestroy", cuCtxDestroy_v2, 4000, false),
    ENTRY_OF("cuCtxSetCurrent", cuCtxSetCurrent, 4000, false),
    ENTRY_OF("cuCtxGetCurrent", cuCtxGetCurrent, 4000, false),
    ENTRY_OF("cuCtxGetDevice", cuCtxGetDevice, 2000, false),
    ENTRY_OF("cuDevicePrimaryCtxRetain", cuDevicePrimaryCtxRetain, 7000, false),
    ENTRY_OF("cuDevicePrimaryCtxRelease", cuDevicePrimaryCtxRelease_v2, 11000, false),
    ENTRY_OF("cuDevicePrimaryCtxReset", cuDevicePrimaryCtxReset_v2, 11000, false),
    ENTRY_OF("cuDevicePrimaryCtxGetState", cuDevicePrimaryCtxGetState, 7000, false),
    ENTRY_OF("cuMemAlloc", cuMemAlloc_v2, 3020, false),
    ENTRY_OF("cuMemAllocPitch", cuMemAllocPitch_v2, 3020, false),
    ENTRY_OF("cuMemAllocManaged", cuMemAllocManaged, 6000, false),
    ENTRY_OF("cuMemFree", cuMemFree_v2, 3020, false),
    ENTRY_OF("cuMemAllocHost", cuMemAllocHost_v2, 3020, false),
    ENTRY_OF("cuMemHostAlloc", cuMemHostAlloc, 2020, false),
    ENTRY_OF("cuMemFreeHost", cuMemFreeHost, 2000, false),
    ENTRY_OF("cuMemHostRegister", cuMemHostRegister_v2, 6050, false),
    ENTRY_OF("cuMemHostUnregister", cuMemHostUnregister, 4000, false),
    ENTRY_OF("cuArrayCreate", cuArrayCreate_v2, 3020, false),
    ENTRY_OF("cuArray3DCreate", cuArray3DCreate_v2, 3020, false),
    ENTRY_OF("cuArrayDestroy", cuArrayDestroy, 2000, false),
    ENTRY_OF("cuMemGetInfo", cuMemGetInfo_v2, 3020, false),
    ENTRY_OF("cuStreamCreate", cuStreamCreate, 2000, false),
    ENTRY_OF("cuStreamBeginCapture", cuStreamBeginCapture_v2, 10010, false),
    ENTRY_OF("cuStreamEndCapture", cuStreamEndCapture, 10000, false),
    ENTRY_OF("cuStreamIsCapturing", cuStreamIsCapturing, 10000, false),
#ifndef OLD_DRIVER
    ENTRY_OF("cuMemAllocAsync", cuMemAllocAsync_ptsz, 11020, true),
    ENTRY_OF("cuMemAllocAsync", cuMemAllocAsync, 11020, false),
    ENTRY_OF("cuMemAllocFromPoolAsync", cuMemAllocFromPoolAsync_ptsz, 11020, true),
    ENTRY_OF("cuMemAllocFromPoolAsync", cuMemAllocFromPoolAsync, 11020, false),
    ENTRY_OF("cuMemFreeAsync", cuMemFreeAsync_ptsz, 11020, true),
    ENTRY_OF("cuMemFreeAsync", cuMemFreeAsync, 11020, false),
    ENTRY_OF("cuGetProcAddress", cuGetProcAddress_v2, 12000, false),
#endif
    ENTRY_OF("cuGetProcAddress", cuGetProcAddress, 11030, false),
    ENTRY_OF("cuMemCreate", cuMemCreate, 10020, false),
    ENTRY_OF("cuMemRelease", cuMemRelease, 10020, false),
    ENTRY_OF("cuMemRetainAllocationHandle", cuMemRetainAllocationHandle, 11000, false),
    ENTRY_OF("cuMemImportFromShareableHandle", cuMemImportFromShareableHandle, 10020, false),
    ENTRY_OF("cuMemAddressReserve", cuMemAddressReserve, 10020, false),
    ENTRY_OF("cuMemAddressFree", cuMemAddressFree, 10020, false),
    ENTRY_OF("cuMemMap", cuMemMap, 10020, false),
    ENTRY_OF("cuMemUnmap", cuMemUnmap, 10020, false),
};

static CUresult find(const char *symbol, void **function, int version, cuuint64_t flags) {
    bool per_thread = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0;
    *function = NULL;
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
        if (strcmp(entries[i].name, symbol) == 0 && version >= entries[i].since &&
            (!entries[i].per_thread || per_thread)) {
            *function = entries[i].function;
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_NOT_FOUND;
}

PUBLIC cuGetProcAddress(const char *symbol, void **function, int version, cuuint64_t flags) {
    return find(symbol, function, version, flags);
}

#ifndef OLD_DRIVER
PUBLIC cuGetProcAddress_v2(const char *symbol, void **function, int version, cuuint64_t flags,
                           CUdriverProcAddressQueryResult *status) {
    CUresult rc = find(symbol, function, version, flags);
    if (status != NULL)
        *status =
            rc == CUDA_SUCCESS ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return CUDA_SUCCESS;
}
#endif

#endif
