/*
 * mstx_app.c - a program that marks its steps by mstx, and announces pools as torch_npu does and
 * as mstx's manual says. Waits for a line at its end.
 *
 *   mstx_app marks         points and ranges, in and outside of a domain
 *   mstx_app pool          torch_npu's caching pool, if LD_PRELOAD passes its test; prints whether
 *   mstx_app heap          a heap with regions, referred to by pointer and by handle
 *   mstx_app steps         four steps with blocks of torch_npu's pool: one of each step lives to the
 *                          end of the next, that of the second step for ever
 */
#include "mstx.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define BLOCKS 5

static char memory[1 << 16];

static void do_marks(void) {
    mstxMarkA("step start", NULL);
    mstxRangeId outer = mstxRangeStartA("forward", NULL);
    mstxDomainHandle_t domain = mstxDomainCreateA("my.domain");
    mstxDomainMarkA(domain, "inside", NULL);
    mstxRangeId inner = mstxDomainRangeStartA(domain, "attention", NULL);
    mstxRangeEnd(outer);
    mstxDomainRangeEnd(domain, inner);
    mstxMarkA(NULL, NULL);
}

/* torch_npu: an entry of LD_PRELOAD whose real path has this suffix. */
static int gate_is_open(void) {
    static const char suffix[] = "libascend_kernel_hook.so";
    char *preload = strdup(getenv("LD_PRELOAD") != NULL ? getenv("LD_PRELOAD") : "");
    int open = 0;
    for (char *entry = strtok(preload, ":"); entry != NULL; entry = strtok(NULL, ":")) {
        char real[PATH_MAX];
        if (realpath(entry, real) != NULL && strlen(real) >= sizeof suffix &&
            strcmp(real + strlen(real) - strlen(suffix), suffix) == 0)
            open = 1;
    }
    free(preload);
    return open;
}

/* What it does not set holds rubbish there. */
static void announce(mstxDomainHandle_t domain, uint32_t device, const void *block, uint64_t size,
                     uint64_t reserved) {
    mstxMemVirtualRangeDesc_t total = {device, block, reserved}, range = {device, block, size};
    mstxMemHeapDesc_t heap;
    memset(&heap, 0xa5, sizeof heap);
    heap.typeSpecificDesc = &total;
    mstxMemHeapRegister(domain, &heap);
    mstxMemRegionsRegisterBatch_t batch;
    memset(&batch, 0xa5, sizeof batch);
    batch.regionCount = 1;
    batch.regionDescArray = &range;
    mstxMemRegionsRegister(domain, &batch);
}

static void withdraw(mstxDomainHandle_t domain, uint32_t device, const void *block,
                     uint64_t reserved) {
    mstxMemVirtualRangeDesc_t total = {device, block, reserved};
    mstxMemHeapDesc_t heap;
    memset(&heap, 0xa5, sizeof heap);
    heap.typeSpecificDesc = &total;
    mstxMemHeapRegister(domain, &heap);
    mstxMemRegionRef_t ref = {.refType = MSTX_MEM_REGION_REF_TYPE_POINTER, .pointer = block};
    mstxMemRegionsUnregisterBatch_t batch = {1, &ref};
    mstxMemRegionsUnregister(domain, &batch);
}

/* Five blocks of two devices; two are given back; the pool shrinks. ATB has a block of the pool's
 * as its own. */
static void do_pool(void) {
    mstxDomainHandle_t pool = mstxDomainCreateA("ptaCaching"), atb = mstxDomainCreateA("atb");
    for (int i = 0; i < BLOCKS; i++)
        announce(pool, (uint32_t)i % 2, memory + 512 * i, 512 * (i + 1), 2097152 * (i / 2 + 1));
    announce(atb, 0, memory, 512, 4096);
    withdraw(pool, 0, memory + 512 * 2, 2097152 * 3);
    withdraw(pool, 1, memory + 512 * 3, 2097152);
}

static void do_heap(void) {
    mstxDomainHandle_t domain = mstxDomainCreateA("arena");
    mstxMemVirtualRangeDesc_t whole = {0, memory, sizeof memory};
    mstxMemHeapDesc_t desc = {.typeSpecificDesc = &whole};
    mstxMemHeapHandle_t heap = mstxMemHeapRegister(domain, &desc);
    mstxMemVirtualRangeDesc_t ranges[3] = {
        {0, memory, 100}, {0, memory + 1000, 200}, {0, memory + 2000, 300}};
    mstxMemRegionHandle_t handles[3] = {NULL};
    mstxMemRegionsRegisterBatch_t batch = {
        .heap = heap, .regionCount = 3, .regionDescArray = ranges, .regionHandleArrayOut = handles};
    mstxMemRegionsRegister(domain, &batch);
    mstxMemRegionRef_t refs[1] = {
        {.refType = MSTX_MEM_REGION_REF_TYPE_HANDLE, .handle = handles[1]}};
    mstxMemRegionsUnregisterBatch_t gone = {1, refs};
    mstxMemRegionsUnregister(domain, &gone);
    printf("heap\n");
    fflush(stdout);
    getchar();
    mstxMemHeapUnregister(domain, heap);
}

static void do_steps(void) {
    mstxDomainHandle_t pool = mstxDomainCreateA("ptaCaching");
    for (int step = 1; step <= 4; step++) {
        mstxRangeId range = mstxRangeStartA("step start", NULL);
        mstxMarkA("MarkA", NULL);
        announce(pool, 0, memory + 4096 * step, 1024, 1 << 21);
        announce(pool, 0, memory + 4096 * step + 2048, 512, 1 << 21);
        withdraw(pool, 0, memory + 4096 * step + 2048, 1 << 21);
        if (step > 1 && step != 3)
            withdraw(pool, 0, memory + 4096 * (step - 1), 1 << 21);
        mstxRangeEnd(range);
    }
    withdraw(pool, 0, memory + 4096 * 4, 1 << 21);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "marks") == 0)
        do_marks();
    if (strcmp(what, "pool") == 0 && gate_is_open())
        do_pool();
    if (strcmp(what, "steps") == 0 && gate_is_open())
        do_steps();
    if (strcmp(what, "heap") == 0)
        do_heap();
    printf("done %d\n", gate_is_open());
    fflush(stdout);
    getchar();
    return 0;
}
