/*
 * nvtx_app.c - a program that marks its steps by NVTX and announces a pool by its extension for
 * memory.
 *
 * Built against NVTX's own headers. The extension's header is in no package: what is needed of it
 * is written here from c/include/nvtx3/nvToolsExtMem.h and nvtxDetail/nvtxExtTypes.h,
 * nvtxExtInit.h of NVTX, development branch.
 */
#include <nvtx3/nvToolsExt.h>

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

static nvtxEventAttributes_t event_of(int type) {
    nvtxEventAttributes_t event = {0};
    event.version = NVTX_VERSION;
    event.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    event.messageType = type;
    return event;
}

static void do_marks(void) {
    nvtxMarkA("plain");
    nvtxMarkW(L"weit \u00e4\u4e2d\U0001f600");
    printf("%d ", nvtxRangePushA("outer"));
    printf("%d ", nvtxRangePushW(L"inner"));
    printf("%d ", nvtxRangePop());
    printf("%d ", nvtxRangePop());
    nvtxRangeId_t id = nvtxRangeStartA("start");
    nvtxRangeEnd(id);
    nvtxDomainHandle_t domain = nvtxDomainCreateA("com.example.app");
    nvtxEventAttributes_t event = event_of(NVTX_MESSAGE_TYPE_ASCII);
    event.message.ascii = "ascii";
    nvtxDomainMarkEx(domain, &event);
    event = event_of(NVTX_MESSAGE_TYPE_REGISTERED);
    event.message.registered = nvtxDomainRegisterStringA(domain, "registered");
    printf("%d ", nvtxDomainRangePushEx(domain, &event));
    printf("%d\n", nvtxDomainRangePop(domain));
    nvtxMarkEx(NULL);
    event = event_of(NVTX_MESSAGE_UNKNOWN);
    nvtxMarkEx(&event);
}

typedef struct {
    size_t segmentId, slotCount;
    intptr_t *functionSlots;
} nvtxExtModuleSegment_t;
typedef struct {
    uint16_t nvtxVer, structSize, moduleId, compatId;
    size_t segmentsCount;
    nvtxExtModuleSegment_t *segments;
    intptr_t (*getExportFunction)(uint32_t exportFunctionId);
    const void *extInfo;
} nvtxExtModuleInfo_t;
typedef struct {
    size_t size;
    void const *ptr;
} nvtxMemVirtualRangeDesc_t;
typedef struct {
    uint16_t extCompatID, structSize;
    uint32_t reserved0, usage, type;
    size_t typeSpecificDescSize;
    void const *typeSpecificDesc;
    uint32_t category, messageType;
    nvtxMessageValue_t message;
} nvtxMemHeapDesc_t;
typedef struct {
    uint16_t extCompatID, structSize;
    uint32_t regionType;
    void *heap;
    size_t regionCount, regionDescElementSize;
    void const *regionDescElements;
    void **regionHandleElementsOut;
} nvtxMemRegionsRegisterBatch_t;
typedef struct {
    uint16_t extCompatID, structSize;
    uint32_t regionType;
    size_t regionDescCount, regionDescElementSize;
    void const *regionDescElements;
} nvtxMemRegionsResizeBatch_t;
typedef struct {
    uint16_t extCompatID, structSize;
    uint32_t refType;
    size_t refCount, refElementSize;
    void const *refElements;
} nvtxMemRegionsUnregisterBatch_t;

#define COMPATIBLE 0x0102
static intptr_t slots[64];
static char memory[1 << 16];

static int load_extension(uint16_t module) {
    const char *path = getenv("NVTX_INJECTION64_PATH");
    void *library = path != NULL ? dlopen(path, RTLD_LAZY) : NULL;
    int (*init)(nvtxExtModuleInfo_t *) =
        library != NULL ? dlsym(library, "InitializeInjectionNvtxExtension") : NULL;
    nvtxExtModuleSegment_t segment = {1, 63, slots};
    nvtxExtModuleInfo_t info = {3, sizeof info, module, COMPATIBLE, 1, &segment, NULL, NULL};
    return init != NULL ? init(&info) : -1;
}

static void do_memory(void) {
    nvtxDomainHandle_t domain = nvtxDomainCreateA("RMM");
    nvtxMemVirtualRangeDesc_t whole = {sizeof memory, memory};
    nvtxMemHeapDesc_t desc = {COMPATIBLE, sizeof desc, 0, 1, 1, sizeof whole, &whole, 0, 0, {0}};
    void *heap =
        ((void *(*)(nvtxDomainHandle_t, nvtxMemHeapDesc_t const *))slots[1])(domain, &desc);
    struct { /* elements may be longer than we know */
        nvtxMemVirtualRangeDesc_t range;
        uint64_t more;
    } ranges[2] = {{{100, memory}, 0}, {{200, memory + 512}, 0}};
    nvtxMemRegionsRegisterBatch_t batch = {COMPATIBLE, sizeof batch,   1,      heap,
                                           2,          sizeof *ranges, ranges, NULL};
    ((void (*)(nvtxDomainHandle_t, nvtxMemRegionsRegisterBatch_t const *))slots[4])(domain, &batch);
    ranges[0].range.size = 150;
    nvtxMemRegionsResizeBatch_t resize = {COMPATIBLE, sizeof resize, 1, 1, sizeof *ranges, ranges};
    ((void (*)(nvtxDomainHandle_t, nvtxMemRegionsResizeBatch_t const *))slots[5])(domain, &resize);
    void const *reference = memory + 512;
    nvtxMemRegionsUnregisterBatch_t gone = {COMPATIBLE, sizeof gone,      1,
                                            1,          sizeof reference, &reference};
    ((void (*)(nvtxDomainHandle_t, nvtxMemRegionsUnregisterBatch_t const *))slots[6])(domain,
                                                                                      &gone);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "marks") == 0)
        do_marks();
    if (argc > 1 && strcmp(argv[1], "memory") == 0) {
        int other = load_extension(3), loaded = load_extension(1);
        printf("%d %d\n", other, loaded);
        if (loaded == 1)
            do_memory();
    }
    fflush(stdout);
    getchar();
    return 0;
}
