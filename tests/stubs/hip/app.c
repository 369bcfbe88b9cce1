/*
 * app.c - a program on HIP and HSA: does to them what the lines of its input say, and prints each result.
 *
 *   app linked       calls through its own references
 *   app opened       dlopen of libamdhip64.so.6 and dlsym
 *
 * Lines, where R is a register (0..63), sizes are in bytes: device N | malloc R SIZE | free R | host R SIZE |
 * freehost R | register R SIZE | unregister R | async R SIZE | freeasync R | pool R SIZE POOL | region R SIZE | poolfree R |
 * create R SIZE POOL | release R | retain R ADDRESS | map ADDRESS SIZE R | unmap ADDRESS SIZE | die
 */
#include "hip_stub.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FUNCTIONS(X)                                                                               \
    X(hipSetDevice)                                                                                \
    X(hipMalloc)                                                                                   \
    X(hipFree)                                                                                     \
    X(hipHostMalloc) X(hipHostFree) X(hipHostRegister) X(hipHostUnregister) X(hipMallocAsync)      \
        X(hipFreeAsync) X(hsa_amd_memory_pool_allocate) X(hsa_memory_allocate)                     \
            X(hsa_amd_memory_pool_free) X(hsa_amd_vmem_handle_create)                              \
                X(hsa_amd_vmem_handle_release) X(hsa_amd_vmem_retain_alloc_handle)                 \
                    X(hsa_amd_vmem_map) X(hsa_amd_vmem_unmap)

#define FIELD(name) __typeof__(&name) name;
static struct {
    FUNCTIONS(FIELD)
} api;

static void bind_linked(void) {
#ifdef LINKED
#define BIND(name) api.name = name;
    FUNCTIONS(BIND)
#endif
}

static void bind_opened(void) {
    void *library = dlopen("libamdhip64.so.6", RTLD_NOW | RTLD_LOCAL);
#define LOOK_UP(name) *(void **)&api.name = dlsym(library, #name);
    FUNCTIONS(LOOK_UP)
}

static uint64_t reg[64];

#define IS(name) (strcmp(word, name) == 0)

static int hip_line(const char *word, const unsigned long long *a) {
    void **r = (void **)&reg[a[0] & 63];
    if (IS("device"))
        return api.hipSetDevice((int)a[0]);
    if (IS("malloc"))
        return api.hipMalloc(r, a[1]);
    if (IS("free"))
        return api.hipFree(*r);
    if (IS("host"))
        return api.hipHostMalloc(r, a[1], 0);
    if (IS("freehost"))
        return api.hipHostFree(*r);
    if (IS("register"))
        return api.hipHostRegister(*r = (void *)(0x5000000 + a[0] * 0x10000), a[1], 0);
    if (IS("unregister"))
        return api.hipHostUnregister(*r);
    if (IS("async"))
        return api.hipMallocAsync(r, a[1], NULL);
    if (IS("freeasync"))
        return api.hipFreeAsync(*r, NULL);
    return -1;
}

static int hsa_line(const char *word, const unsigned long long *a) {
    void **r = (void **)&reg[a[0] & 63];
    hsa_amd_vmem_alloc_handle_t handle = {reg[a[0] & 63]};
    if (IS("pool"))
        return (int)api.hsa_amd_memory_pool_allocate((hsa_amd_memory_pool_t){a[2]}, a[1], 0, r);
    if (IS("region"))
        return (int)api.hsa_memory_allocate((hsa_region_t){0x40}, a[1], r);
    if (IS("poolfree"))
        return (int)api.hsa_amd_memory_pool_free(*r);
    if (IS("create")) {
        int rc =
            (int)api.hsa_amd_vmem_handle_create((hsa_amd_memory_pool_t){a[2]}, a[1], 0, 0, &handle);
        reg[a[0] & 63] = handle.handle;
        return rc;
    }
    if (IS("release"))
        return (int)api.hsa_amd_vmem_handle_release(handle);
    if (IS("retain")) {
        int rc = (int)api.hsa_amd_vmem_retain_alloc_handle(&handle, (void *)a[1]);
        reg[a[0] & 63] = handle.handle;
        return rc;
    }
    if (IS("map"))
        return (int)api.hsa_amd_vmem_map((void *)a[0], a[1], 0,
                                         (hsa_amd_vmem_alloc_handle_t){reg[a[2] & 63]}, 0);
    if (IS("unmap"))
        return (int)api.hsa_amd_vmem_unmap((void *)a[0], a[1]);
    if (IS("die"))
        kill(getpid(), SIGKILL);
    return -1;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "opened") == 0)
        bind_opened();
    else
        bind_linked();
    char line[256], word[32];
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned long long a[3] = {0};
        if (sscanf(line, "%31s %lli %lli %lli", word, (long long *)&a[0], (long long *)&a[1],
                   (long long *)&a[2]) < 1)
            continue;
        int rc = hip_line(word, a);
        printf("%d\n", rc == -1 ? hsa_line(word, a) : rc);
        fflush(stdout);
    }
    return 0;
}
