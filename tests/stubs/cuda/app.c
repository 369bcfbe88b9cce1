/*
 * app.c - a program on CUDA: does to driver and runtime what the lines of its input say, and prints each result.
 *
 *   app linked         calls the driver through its own references (-DLINKED)
 *   app lookup FLAGS   opens the driver and asks cuGetProcAddress for each function (FLAGS: 0, 2 per thread)
 *
 * Lines, where R is a register (0..63; the result of an allocation lies there), sizes are in bytes:
 *   alloc R SIZE | pitch R WIDTH HEIGHT | managed R SIZE | free R | null
 *   async R SIZE STREAM | pooled R SIZE STREAM | freeasync R STREAM | capture STREAM | endcapture STREAM
 *   host R SIZE | hostalloc R SIZE | freehost R | register R SIZE | unregister R
 *   create R SIZE DEVICE | release R | retain R ADDRESS | import R | reserve R SIZE | map R SIZE HANDLE | unmap R SIZE
 *   array R WIDTH HEIGHT | array3d R WIDTH HEIGHT DEPTH FLAGS | freearray R
 *   context R DEVICE | use R | destroy R | primary R DEVICE | unprimary DEVICE | reset DEVICE
 *   malloc R SIZE | mallocasync R SIZE STREAM | mallochost R SIZE | cudafree R | cudafreeasync R STREAM | devicereset
 *   race R ROUNDS | fork | exit | die
 */
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Name to look up, exported symbol. */
#define FUNCTIONS(X)                                                                               \
    X(cuInit, cuInit)                                                                              \
    X(cuMemAlloc, cuMemAlloc_v2)                                                                   \
    X(cuMemAllocPitch, cuMemAllocPitch_v2)                                                         \
    X(cuMemAllocManaged, cuMemAllocManaged)                                                        \
    X(cuMemFree, cuMemFree_v2)                                                                     \
    X(cuMemAllocAsync, cuMemAllocAsync)                                                            \
    X(cuMemAllocFromPoolAsync, cuMemAllocFromPoolAsync)                                            \
    X(cuMemFreeAsync, cuMemFreeAsync)                                                              \
    X(cuMemAllocHost, cuMemAllocHost_v2)                                                           \
    X(cuMemHostAlloc, cuMemHostAlloc)                                                              \
    X(cuMemFreeHost, cuMemFreeHost)                                                                \
    X(cuMemHostRegister, cuMemHostRegister_v2)                                                     \
    X(cuMemHostUnregister, cuMemHostUnregister)                                                    \
    X(cuMemCreate, cuMemCreate)                                                                    \
    X(cuMemRelease, cuMemRelease)                                                                  \
    X(cuMemRetainAllocationHandle, cuMemRetainAllocationHandle)                                    \
    X(cuMemImportFromShareableHandle, cuMemImportFromShareableHandle)                              \
    X(cuMemAddressReserve, cuMemAddressReserve)                                                    \
    X(cuMemMap, cuMemMap)                                                                          \
    X(cuMemUnmap, cuMemUnmap)                                                                      \
    X(cuArrayCreate, cuArrayCreate_v2)                                                             \
    X(cuArray3DCreate, cuArray3DCreate_v2)                                                         \
    X(cuArrayDestroy, cuArrayDestroy)                                                              \
    X(cuCtxCreate, cuCtxCreate_v2)                                                                 \
    X(cuCtxDestroy, cuCtxDestroy_v2)                                                               \
    X(cuCtxSetCurrent, cuCtxSetCurrent)                                                            \
    X(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain)                                          \
    X(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2)                                     \
    X(cuDevicePrimaryCtxReset, cuDevicePrimaryCtxReset_v2)                                         \
    X(cuStreamCreate, cuStreamCreate)                                                              \
    X(cuStreamBeginCapture, cuStreamBeginCapture_v2)                                               \
    X(cuStreamEndCapture, cuStreamEndCapture)

#define FIELD(name, exported) __typeof__(&exported) name;
static struct {
    FUNCTIONS(FIELD)
} api;

static void bind_linked(void) {
#ifdef LINKED
#define BIND(name, exported) api.name = exported;
    FUNCTIONS(BIND)
#endif
}

static void bind_by_look_up(unsigned long flags) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    CUresult (*look_up)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *);
    *(void **)&look_up = dlsym(library, "cuGetProcAddress_v2");
    CUdriverProcAddressQueryResult status;
#define LOOK_UP(name, exported) look_up(#name, (void **)&api.name, 12000, flags, &status);
    FUNCTIONS(LOOK_UP)
}

static unsigned long long reg[64];
static CUstream streams[8];

static CUstream stream_of(unsigned long long n) {
    if (n > 2 && streams[n & 7] == NULL)
        api.cuStreamCreate(&streams[n & 7], 0);
    return n > 2 ? streams[n & 7] : (CUstream)n;
}

static CUresult create(unsigned long long *handle, size_t size, int device) {
    CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                .location = {CU_MEM_LOCATION_TYPE_DEVICE, device}};
    if (device < 0)
        prop.location.type = CU_MEM_LOCATION_TYPE_HOST;
    return api.cuMemCreate(handle, size, &prop, 0);
}

static CUresult array(unsigned long long *handle, size_t width, size_t height) {
    CUDA_ARRAY_DESCRIPTOR d = {width, height, CU_AD_FORMAT_FLOAT, 2};
    return api.cuArrayCreate((CUarray *)handle, &d);
}

static CUresult array3d(unsigned long long *handle, size_t width, size_t height, size_t depth,
                        unsigned flags) {
    CUDA_ARRAY3D_DESCRIPTOR d = {width, height, depth, CU_AD_FORMAT_FLOAT, 4, flags};
    return api.cuArray3DCreate((CUarray *)handle, &d);
}

static CUcontext race_context;
static unsigned long race_rounds;

/* The driver gives a freed address to whoever asks next: two threads meet on it all the time. */
static void *race(void *unused) {
    (void)unused;
    api.cuCtxSetCurrent(race_context);
    for (unsigned long i = 0; i < race_rounds; i++) {
        CUdeviceptr pointer;
        if (api.cuMemAlloc(&pointer, 64 + i % 7) != CUDA_SUCCESS)
            abort();
        api.cuMemFree(pointer);
    }
    return NULL;
}

static int race_two(unsigned long long context, unsigned long rounds) {
    pthread_t threads[2];
    race_context = (CUcontext)context;
    race_rounds = rounds;
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, race, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

static int in_child(void) {
    pid_t pid = fork();
    if (pid == 0) {
        CUdeviceptr pointer;
        api.cuMemAlloc(&pointer, 4096); /* what a driver says after fork is its own affair */
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    return status;
}

#define IS(name) (strcmp(word, name) == 0)

static int driver_line(const char *word, unsigned long long *a) {
    unsigned long long *r = &reg[a[0] & 63];
    if (IS("alloc"))
        return api.cuMemAlloc(r, a[1]);
    if (IS("pitch")) {
        size_t pitch;
        return api.cuMemAllocPitch(r, &pitch, a[1], a[2], 4);
    }
    if (IS("managed"))
        return api.cuMemAllocManaged(r, a[1], 1);
    if (IS("free"))
        return api.cuMemFree(*r);
    if (IS("null"))
        return api.cuMemFree(0);
    if (IS("async"))
        return api.cuMemAllocAsync(r, a[1], stream_of(a[2]));
    if (IS("pooled"))
        return api.cuMemAllocFromPoolAsync(r, a[1], NULL, stream_of(a[2]));
    if (IS("freeasync"))
        return api.cuMemFreeAsync(*r, stream_of(a[1]));
    if (IS("capture"))
        return api.cuStreamBeginCapture(stream_of(a[0]), CU_STREAM_CAPTURE_MODE_GLOBAL);
    if (IS("endcapture")) {
        CUgraph graph;
        return api.cuStreamEndCapture(stream_of(a[0]), &graph);
    }
    if (IS("host"))
        return api.cuMemAllocHost((void **)r, a[1]);
    if (IS("hostalloc"))
        return api.cuMemHostAlloc((void **)r, a[1], 0);
    if (IS("freehost"))
        return api.cuMemFreeHost((void *)*r);
    if (IS("register"))
        return api.cuMemHostRegister((void *)(*r = 0x5000000 + a[0] * 0x10000), a[1], 0);
    if (IS("unregister"))
        return api.cuMemHostUnregister((void *)*r);
    return -1;
}

static int object_line(const char *word, unsigned long long *a) {
    unsigned long long *r = &reg[a[0] & 63];
    if (IS("create"))
        return create(r, a[1], (int)a[2]);
    if (IS("release"))
        return api.cuMemRelease(*r);
    if (IS("retain"))
        return api.cuMemRetainAllocationHandle(r, (void *)reg[a[1] & 63]);
    if (IS("import"))
        return api.cuMemImportFromShareableHandle(r, (void *)4096,
                                                  CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    if (IS("reserve"))
        return api.cuMemAddressReserve(r, a[1], 0, 0, 0);
    if (IS("map"))
        return api.cuMemMap(*r, a[1], 0, reg[a[2] & 63], 0);
    if (IS("unmap"))
        return api.cuMemUnmap(*r, a[1]);
    if (IS("array"))
        return array(r, a[1], a[2]);
    if (IS("array3d"))
        return array3d(r, a[1], a[2], a[3], (unsigned)a[4]);
    if (IS("freearray"))
        return api.cuArrayDestroy((CUarray)*r);
    if (IS("context"))
        return api.cuCtxCreate((CUcontext *)r, 0, (int)a[1]);
    if (IS("use"))
        return api.cuCtxSetCurrent((CUcontext)*r);
    if (IS("destroy"))
        return api.cuCtxDestroy((CUcontext)*r);
    if (IS("primary"))
        return api.cuDevicePrimaryCtxRetain((CUcontext *)r, (int)a[1]);
    if (IS("unprimary"))
        return api.cuDevicePrimaryCtxRelease((int)a[0]);
    if (IS("reset"))
        return api.cuDevicePrimaryCtxReset((int)a[0]);
    return -1;
}

static int runtime_line(const char *word, unsigned long long *a) {
#ifdef RUNTIME
    void **r = (void **)&reg[a[0] & 63];
    if (IS("malloc"))
        return cudaMalloc(r, a[1]);
    if (IS("mallocasync"))
        return cudaMallocAsync(r, a[1], (cudaStream_t)a[2]);
    if (IS("mallochost"))
        return cudaMallocHost(r, a[1]);
    if (IS("cudafree"))
        return cudaFree(*r);
    if (IS("cudafreeasync"))
        return cudaFreeAsync(*r, (cudaStream_t)a[1]);
    if (IS("devicereset"))
        return cudaDeviceReset();
#endif
    (void)word, (void)a;
    return -1;
}

static int other_line(const char *word, unsigned long long *a) {
    if (IS("race"))
        return race_two(reg[a[0] & 63], a[1]);
    if (IS("fork"))
        return in_child();
    if (IS("exit"))
        exit(0);
    if (IS("die"))
        kill(getpid(), SIGKILL);
    return -1;
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "lookup") == 0)
        bind_by_look_up(strtoul(argv[2], NULL, 0));
    else
        bind_linked();
    if (api.cuInit != NULL && api.cuInit(0) != CUDA_SUCCESS)
        return 3;
    char line[256], word[32];
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned long long a[5] = {0};
        if (sscanf(line, "%31s %lli %lli %lli %lli %lli", word, (long long *)&a[0],
                   (long long *)&a[1], (long long *)&a[2], (long long *)&a[3],
                   (long long *)&a[4]) < 1)
            continue;
        int rc = driver_line(word, a);
        rc = rc == -1 ? object_line(word, a) : rc;
        rc = rc == -1 ? runtime_line(word, a) : rc;
        rc = rc == -1 ? other_line(word, a) : rc;
        printf("%d\n", rc);
        fflush(stdout);
    }
    return 0;
}
