/*
 * app.c - a program on CUDA's driver and, with -DRUNTIME, on its runtime (../app.h).
 *
 *   app lookup FLAGS   asks the driver's cuGetProcAddress for each function (FLAGS: 0; 2: of the thread's own stream)
 *
 * Lines: alloc R SIZE | pitch R WIDTH HEIGHT | managed R SIZE | free R | null |
 * async R SIZE STREAM | pooled R SIZE STREAM | freeasync R STREAM | capture STREAM | endcapture STREAM |
 * host R SIZE | hostalloc R SIZE | freehost R | register R SIZE | unregister R |
 * create R SIZE DEVICE | release R | retain R ADDRESS | import R | reserve R SIZE | map R SIZE HANDLE | unmap R SIZE |
 * array R WIDTH HEIGHT | array3d R WIDTH HEIGHT DEPTH FLAGS | freearray R |
 * context R DEVICE | use R | destroy R | primary R DEVICE | unprimary DEVICE | reset DEVICE |
 * malloc R SIZE | mallocasync R SIZE STREAM | mallochost R SIZE | cudafree R | cudafreeasync R STREAM | devicereset |
 * mallocmanaged R SIZE | mallocpitch R WIDTH HEIGHT | malloc3d R WIDTH HEIGHT DEPTH | halloc R SIZE | cudafreehost R |
 * hregister R SIZE | hunregister R | mallocarray R WIDTH HEIGHT FLAGS | cudafreearray R | mallocpool R SIZE STREAM |
 * ownasync R SIZE | ownfree R (of the thread's own stream) | record STREAM | endrecord STREAM
 */
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <cuda_runtime_api.h>

/* clang-format off */
#define FUNCTIONS(X) \
    X(cuInit) X(cuMemAlloc_v2) X(cuMemAllocPitch_v2) X(cuMemAllocManaged) X(cuMemFree_v2) X(cuMemAllocAsync) \
    X(cuMemAllocFromPoolAsync) X(cuMemFreeAsync) X(cuMemAllocHost_v2) X(cuMemHostAlloc) X(cuMemFreeHost) \
    X(cuMemHostRegister_v2) X(cuMemHostUnregister) X(cuMemCreate) X(cuMemRelease) \
    X(cuMemRetainAllocationHandle) X(cuMemImportFromShareableHandle) X(cuMemAddressReserve) X(cuMemMap) \
    X(cuMemUnmap) X(cuArrayCreate_v2) X(cuArray3DCreate_v2) X(cuArrayDestroy) X(cuCtxCreate_v2) \
    X(cuCtxDestroy_v2) X(cuCtxSetCurrent) X(cuDevicePrimaryCtxRetain) X(cuDevicePrimaryCtxRelease_v2) \
    X(cuDevicePrimaryCtxReset_v2) X(cuStreamCreate) X(cuStreamBeginCapture_v2) X(cuStreamEndCapture)
/* clang-format on */

#include "../app.h"

static void ask_driver(unsigned long flags) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    CUresult (*ask)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *);
    *(void **)&ask = dlsym(library, "cuGetProcAddress_v2");
    CUdriverProcAddressQueryResult status;
#define ASK(name)                                                                                  \
    {                                                                                              \
        char base[] = #name, *version = strstr(base, "_v2");                                       \
        if (version != NULL)                                                                       \
            *version = '\0';                                                                       \
        /* The version that the declaration here is of: later ones have other parameters. */       \
        int since = strcmp(base, "cuCtxCreate") == 0 ? 3020 : 12000;                               \
        ask(base, (void **)&api.name, since, flags, &status);                                      \
    }
    FUNCTIONS(ASK)
}

static CUstream stream_of(unsigned long long n) {
    static CUstream streams[8];
    if (n > 2 && streams[n & 7] == NULL)
        api.cuStreamCreate(&streams[n & 7], 0);
    return n > 2 ? streams[n & 7] : (CUstream)n;
}

/* In the context of register 0. */
static int once(void) {
    CUdeviceptr p;
    api.cuCtxSetCurrent(AT(0));
    return api.cuMemAlloc_v2(&p, 64) != CUDA_SUCCESS || api.cuMemFree_v2(p) != CUDA_SUCCESS;
}

static int driver_line(const char *word, unsigned long long *a) {
    size_t pitch;
    CUgraph graph;
    WORD(alloc, CALL(cuMemAlloc_v2, OUT(a[0]), a[1]))
    WORD(pitch, CALL(cuMemAllocPitch_v2, OUT(a[0]), &pitch, a[1], a[2], 4))
    WORD(managed, CALL(cuMemAllocManaged, OUT(a[0]), a[1], 1))
    WORD(free, CALL(cuMemFree_v2, R(a[0])))
    WORD(null, CALL(cuMemFree_v2, 0))
    WORD(async, CALL(cuMemAllocAsync, OUT(a[0]), a[1], stream_of(a[2])))
    WORD(pooled, CALL(cuMemAllocFromPoolAsync, OUT(a[0]), a[1], NULL, stream_of(a[2])))
    WORD(freeasync, CALL(cuMemFreeAsync, R(a[0]), stream_of(a[1])))
    WORD(capture, CALL(cuStreamBeginCapture_v2, stream_of(a[0]), CU_STREAM_CAPTURE_MODE_GLOBAL))
    WORD(endcapture, CALL(cuStreamEndCapture, stream_of(a[0]), &graph))
    WORD(host, CALL(cuMemAllocHost_v2, OUT(a[0]), a[1]))
    WORD(hostalloc, CALL(cuMemHostAlloc, OUT(a[0]), a[1], 0))
    WORD(freehost, CALL(cuMemFreeHost, AT(a[0])))
    WORD(register,
         CALL(cuMemHostRegister_v2, (void *)(R(a[0]) = 0x5000000 + a[0] * 0x10000), a[1], 0))
    WORD(unregister, CALL(cuMemHostUnregister, AT(a[0])))
    return NO_WORD;
}

static int object_line(const char *word, unsigned long long *a) {
    CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                .location = {CU_MEM_LOCATION_TYPE_DEVICE, (int)a[2]}};
    if (prop.location.id < 0)
        prop.location.type = CU_MEM_LOCATION_TYPE_HOST;
    CUDA_ARRAY_DESCRIPTOR flat = {a[1], a[2], CU_AD_FORMAT_FLOAT, 2};
    CUDA_ARRAY3D_DESCRIPTOR solid = {a[1], a[2], a[3], CU_AD_FORMAT_FLOAT, 4, (unsigned)a[4]};
    WORD(create, CALL(cuMemCreate, OUT(a[0]), a[1], &prop, 0))
    WORD(release, CALL(cuMemRelease, R(a[0])))
    WORD(retain, CALL(cuMemRetainAllocationHandle, OUT(a[0]), AT(a[1])))
    WORD(import, CALL(cuMemImportFromShareableHandle, OUT(a[0]), (void *)4096,
                      CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR))
    WORD(reserve, CALL(cuMemAddressReserve, OUT(a[0]), a[1], 0, 0, 0))
    WORD(map, CALL(cuMemMap, R(a[0]), a[1], 0, R(a[2]), 0))
    WORD(unmap, CALL(cuMemUnmap, R(a[0]), a[1]))
    WORD(array, CALL(cuArrayCreate_v2, OUT(a[0]), &flat))
    WORD(array3d, CALL(cuArray3DCreate_v2, OUT(a[0]), &solid))
    WORD(freearray, CALL(cuArrayDestroy, AT(a[0])))
    WORD(context, CALL(cuCtxCreate_v2, OUT(a[0]), 0, (int)a[1]))
    WORD(use, CALL(cuCtxSetCurrent, AT(a[0])))
    WORD(destroy, CALL(cuCtxDestroy_v2, AT(a[0])))
    WORD(primary, CALL(cuDevicePrimaryCtxRetain, OUT(a[0]), (int)a[1]))
    WORD(unprimary, CALL(cuDevicePrimaryCtxRelease_v2, (int)a[0]))
    WORD(reset, CALL(cuDevicePrimaryCtxReset_v2, (int)a[0]))
    return NO_WORD;
}

#ifdef RUNTIME
static cudaStream_t runtime_stream(unsigned long long n) {
    static cudaStream_t streams[8];
    if (n > 2 && streams[n & 7] == NULL)
        cudaStreamCreate(&streams[n & 7]);
    return n > 2 ? streams[n & 7] : (cudaStream_t)n;
}
#endif

static int runtime_line(const char *word, unsigned long long *a) {
#ifdef RUNTIME
    size_t pitch;
    cudaGraph_t graph;
    struct cudaPitchedPtr pitched;
    struct cudaExtent extent = {a[1], a[2], a[3]};
    struct cudaChannelFormatDesc floats = {32, 32, 0, 0, cudaChannelFormatKindFloat};
    WORD(malloc, cudaMalloc(OUT(a[0]), a[1]))
    WORD(mallocasync, cudaMallocAsync(OUT(a[0]), a[1], runtime_stream(a[2])))
    WORD(mallochost, cudaMallocHost(OUT(a[0]), a[1]))
    WORD(cudafree, cudaFree(AT(a[0])))
    WORD(cudafreeasync, cudaFreeAsync(AT(a[0]), runtime_stream(a[1])))
    WORD(mallocmanaged, cudaMallocManaged(OUT(a[0]), a[1], cudaMemAttachGlobal))
    WORD(mallocpitch, cudaMallocPitch(OUT(a[0]), &pitch, a[1], a[2]))
    WORD(malloc3d, (cudaMalloc3D(&pitched, extent) || (R(a[0]) = (uintptr_t)pitched.ptr) == 0))
    WORD(halloc, cudaHostAlloc(OUT(a[0]), a[1], cudaHostAllocDefault))
    WORD(cudafreehost, cudaFreeHost(AT(a[0])))
    WORD(hregister, cudaHostRegister((void *)(R(a[0]) = 0x6000000 + a[0] * 0x10000), a[1], 0))
    WORD(hunregister, cudaHostUnregister(AT(a[0])))
    WORD(mallocarray, cudaMallocArray(OUT(a[0]), &floats, a[1], a[2], (unsigned)a[3]))
    WORD(cudafreearray, cudaFreeArray(AT(a[0])))
    WORD(mallocpool, cudaMallocFromPoolAsync(OUT(a[0]), a[1], NULL, runtime_stream(a[2])))
    WORD(ownasync, cudaMallocAsync_ptsz(OUT(a[0]), a[1], NULL))
    WORD(ownfree, cudaFreeAsync_ptsz(AT(a[0]), NULL))
    WORD(record, cudaStreamBeginCapture(runtime_stream(a[0]), cudaStreamCaptureModeRelaxed))
    WORD(endrecord, cudaStreamEndCapture(runtime_stream(a[0]), &graph))
    WORD(devicereset, cudaDeviceReset())
#endif
        (void) word,
        (void)a;
    return NO_WORD;
}

static int obey(const char *word, unsigned long long *a) {
    int rc = driver_line(word, a);
    rc = rc == NO_WORD ? object_line(word, a) : rc;
    return rc == NO_WORD ? runtime_line(word, a) : rc;
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "lookup") == 0)
        ask_driver(strtoul(argv[2], NULL, 0));
    else if (argc > 1 && bind_functions(argc, argv) != 0)
        return 2;
    if (api.cuInit != NULL && api.cuInit(0) != CUDA_SUCCESS)
        return 3;
    return run_lines();
}
