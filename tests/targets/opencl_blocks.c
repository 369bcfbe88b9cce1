/*
 * opencl_blocks.c - device memory by every way of OpenCL that runs on a CPU, with a ledger.
 *
 *   opencl_blocks kinds     one of each kind, then everything released
 *   opencl_blocks pending   a buffer that is released while a command still needs it
 *   opencl_blocks usm       pointers of the Intel extension, found by name
 *   opencl_blocks references, failures   with a driver that takes no callbacks, or refuses
 *   opencl_blocks threads   four threads allocate, free and free for each other
 *   opencl_blocks leave     ends without having freed anything
 *   opencl_blocks atexit    frees one of two buffers while it ends
 *
 * Without an argument after the mode the program is linked to its loader; with one, that loader is
 * opened too, and `kinds` makes one more buffer through it.
 */
#include "ledger.h"

#define CL_TARGET_OPENCL_VERSION 300
#define CL_USE_DEPRECATED_OPENCL_1_1_APIS
#include <CL/cl.h>
#include <CL/cl_ext.h>
#include <dlfcn.h>

#define CHECK(call) EXPECT((call) == CL_SUCCESS)
#define DEVICE "opencl-0"
#define PINNED "opencl-pinned"
#define MANAGED "opencl-0-managed"
#define HUGE_BYTES ((size_t)1 << 42)

static cl_platform_id platform;
static cl_device_id device;
static cl_context context;
static cl_command_queue queue;
static const cl_image_format rgba = {CL_RGBA, CL_UNSIGNED_INT8};
static cl_int error;

static size_t true_bytes(cl_mem memory) {
    size_t bytes;
    CHECK(clGetMemObjectInfo(memory, CL_MEM_SIZE, sizeof bytes, &bytes, NULL));
    return bytes;
}

static cl_mem made(const char *function, const char *domain, cl_mem memory, size_t asked) {
    CHECK(error);
    ledger_alloc(function, domain, asked, true_bytes(memory));
    return memory;
}

static cl_mem buffer(size_t bytes) {
    cl_int rc;
    cl_mem memory = clCreateBuffer(context, CL_MEM_READ_WRITE, bytes, NULL, &rc);
    CHECK(rc);
    ledger_alloc("buffer", DEVICE, bytes, bytes);
    return memory;
}

static void release(const char *function, const char *domain, cl_mem memory, size_t asked) {
    ledger_free(function, domain, asked);
    CHECK(clReleaseMemObject(memory));
}

/* A function of that name makes an object, as `call` does, and says so. */
#define MAKES(function, domain, parameters, asked, call)                                           \
    static cl_mem function parameters {                                                            \
        cl_mem memory = call;                                                                      \
        return made(#function, domain, memory, asked);                                             \
    }

MAKES(buffer_copied, DEVICE, (size_t bytes, void *host), bytes,
      clCreateBuffer(context, CL_MEM_COPY_HOST_PTR, bytes, host, &error))
MAKES(buffer_of_locked_memory, PINNED, (size_t bytes), bytes,
      clCreateBuffer(context, CL_MEM_ALLOC_HOST_PTR, bytes, NULL, &error))
MAKES(image, DEVICE, (cl_image_desc desc, size_t asked), asked,
      clCreateImage(context, CL_MEM_READ_WRITE, &rgba, &desc, NULL, &error))
MAKES(image_old_2d, DEVICE, (size_t width, size_t height), width * height * 4,
      clCreateImage2D(context, CL_MEM_READ_WRITE, &rgba, width, height, 0, NULL, &error))
MAKES(image_old_3d, DEVICE, (size_t side), side * side * side * 4,
      clCreateImage3D(context, CL_MEM_READ_WRITE, &rgba, side, side, side, 0, 0, NULL, &error))

static cl_mem buffer_with_properties(size_t bytes) {
    cl_mem memory = clCreateBufferWithProperties(context, NULL, CL_MEM_READ_ONLY, bytes, NULL,
                                                 NULL); /* no place for the error either */
    error = memory == NULL;
    return made("buffer_with_properties", DEVICE, memory, bytes);
}

/* Nothing is allocated: not counted. */
static cl_mem buffer_of_ours(size_t bytes, void *host) {
    cl_mem memory = clCreateBuffer(context, CL_MEM_USE_HOST_PTR, bytes, host, &error);
    CHECK(error);
    return memory;
}

static cl_mem sub_buffer(cl_mem of, size_t bytes) {
    cl_buffer_region region = {0, bytes};
    cl_mem memory =
        clCreateSubBuffer(of, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &region, &error);
    CHECK(error);
    return memory;
}

static cl_mem image_with_properties(size_t side) {
    cl_image_desc desc = {
        .image_type = CL_MEM_OBJECT_IMAGE2D, .image_width = side, .image_height = side};
    cl_mem memory =
        clCreateImageWithProperties(context, NULL, CL_MEM_READ_WRITE, &rgba, &desc, NULL, &error);
    return made("image_with_properties", DEVICE, memory, side * side * 4);
}

/* Another view of a buffer: not counted. */
static cl_mem image_of_buffer(cl_mem of, size_t width) {
    cl_image_desc desc = {
        .image_type = CL_MEM_OBJECT_IMAGE1D_BUFFER, .image_width = width, .buffer = of};
    return clCreateImage(context, CL_MEM_READ_WRITE, &rgba, &desc, NULL, &error);
}

static void *svm(size_t bytes) {
    void *p = clSVMAlloc(context, CL_MEM_READ_WRITE, bytes, 0);
    EXPECT(p != NULL);
    ledger_alloc("svm", MANAGED, bytes, 0);
    return p;
}

static void refused_buffer(void) {
    EXPECT(clCreateBuffer(context, CL_MEM_READ_WRITE, HUGE_BYTES, NULL, &error) == NULL);
    EXPECT(error != CL_SUCCESS);
    ledger_fail("refused_buffer", DEVICE, HUGE_BYTES);
}

static void refused_svm(void) {
    EXPECT(clSVMAlloc(context, CL_MEM_READ_WRITE, HUGE_BYTES, 0) == NULL);
    ledger_fail("refused_svm", MANAGED, HUGE_BYTES);
}

/* A mistake, not a shortage: not counted. */
static void refused_nonsense(void) {
    EXPECT(clCreateBuffer(context, CL_MEM_READ_WRITE, 0, NULL, &error) == NULL);
}

static void CL_CALLBACK free_in_callback(cl_command_queue of, cl_uint n, void *pointers[],
                                         void *user_data) {
    (void)of;
    (void)user_data;
    for (cl_uint i = 0; i < n; i++)
        clSVMFree(context, pointers[i]);
}

/* Returns one that could not be freed by a queue that does not exist. */
static void *free_svm_in_every_way(void) {
    void *many[40];
    size_t bytes = 0;
    clSVMFree(context, NULL);
    clSVMFree(context, svm(111));
    for (int i = 0; i < 40; i++) {
        many[i] = svm(1000 + (unsigned)i);
        bytes += 1000 + (unsigned)i;
    }
    ledger_free("svm", MANAGED, 111);
    CHECK(clEnqueueSVMFree(queue, 40, many, NULL, NULL, 0, NULL, NULL));
    void *one[1] = {svm(222)};
    CHECK(clEnqueueSVMFree(queue, 1, one, free_in_callback, NULL, 0, NULL, NULL));
    void *kept[1] = {svm(333)};
    EXPECT(clEnqueueSVMFree(NULL, 1, kept, NULL, NULL, 0, NULL, NULL) != CL_SUCCESS);
    CHECK(clFinish(queue));
    for (int i = 0; i < 40; i++)
        ledger_free("svm", MANAGED, 1000 + (unsigned)i);
    ledger_free("svm", MANAGED, 222);
    return kept[0];
}

static cl_mem through_loader(const char *path) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    EXPECT(handle != NULL);
    __typeof__(&clGetPlatformIDs) platforms =
        (__typeof__(&clGetPlatformIDs))dlsym(handle, "clGetPlatformIDs");
    __typeof__(&clCreateBuffer) create =
        (__typeof__(&clCreateBuffer))dlsym(handle, "clCreateBuffer");
    EXPECT(platforms != NULL && create != NULL);
    CHECK(platforms(0, NULL, &(cl_uint){0})); /* a loader takes layers in at the first question */
    cl_mem memory = create(context, CL_MEM_READ_WRITE, 54321, NULL, &error);
    return made("through_loader", DEVICE, memory, 54321);
}

static void kinds(const char *other_loader) {
    static char host[1 << 16];
    cl_mem a = buffer(100000), b = buffer_copied(sizeof host, host);
    cl_mem c = buffer_with_properties(3 << 16), d = buffer_of_locked_memory(77777);
    cl_mem e = buffer_of_ours(sizeof host, host), part = sub_buffer(a, 4096);
    cl_image_desc flat = {
        .image_type = CL_MEM_OBJECT_IMAGE2D, .image_width = 100, .image_height = 30};
    cl_image_desc row = {
        .image_type = CL_MEM_OBJECT_IMAGE1D_ARRAY, .image_width = 64, .image_array_size = 5};
    cl_image_desc stack = {.image_type = CL_MEM_OBJECT_IMAGE2D_ARRAY,
                           .image_width = 16,
                           .image_height = 8,
                           .image_array_size = 3};
    cl_mem f = image(flat, 100 * 30 * 4), g = image(row, 64 * 5 * 4),
           h = image(stack, 16 * 8 * 3 * 4);
    cl_mem i = image_with_properties(33), k = image_old_2d(21, 10), l = image_old_3d(9);
    cl_mem view = image_of_buffer(a, 64);
    cl_mem other = other_loader != NULL ? through_loader(other_loader) : NULL;
    refused_buffer();
    refused_svm();
    refused_nonsense();
    void *kept = free_svm_in_every_way();
    CHECK(clRetainMemObject(b));
    CHECK(clReleaseMemObject(b));
    EXPECT(clReleaseMemObject(NULL) != CL_SUCCESS);
    ledger_tell();

    release("buffer", DEVICE, a, 100000);
    if (view != NULL)
        CHECK(clReleaseMemObject(view));
    CHECK(clReleaseMemObject(part));
    release("buffer_copied", DEVICE, b, sizeof host);
    release("buffer_with_properties", DEVICE, c, 3 << 16);
    release("buffer_of_locked_memory", PINNED, d, 77777);
    CHECK(clReleaseMemObject(e));
    release("image", DEVICE, f, 100 * 30 * 4);
    release("image", DEVICE, g, 64 * 5 * 4);
    release("image_with_properties", DEVICE, i, 33 * 33 * 4);
    release("image_old_2d", DEVICE, k, 21 * 10 * 4);
    release("image_old_3d", DEVICE, l, 9 * 9 * 9 * 4);
    if (other != NULL)
        release("through_loader", DEVICE, other, 54321);
    clSVMFree(context, kept);
    ledger_free("svm", MANAGED, 333);
    ledger_tell();
    CHECK(clReleaseCommandQueue(queue));
    release("image", DEVICE, h, 16 * 8 * 3 * 4);
    CHECK(clReleaseContext(context));
    ledger_tell();
}

/* Only for a driver of which every reference is counted by retains and releases. */
static void references(void) {
    cl_mem memory = buffer(1 << 16);
    CHECK(clRetainMemObject(memory));
    CHECK(clRetainMemObject(memory));
    CHECK(clReleaseMemObject(memory));
    CHECK(clReleaseMemObject(memory));
    ledger_tell();
    release("buffer", DEVICE, memory, 1 << 16);
    ledger_tell();
}

/* The driver was told to refuse the second buffer and the first release. */
static void failures(void) {
    cl_mem memory = buffer(1 << 16);
    EXPECT(clCreateBuffer(context, CL_MEM_READ_WRITE, 1 << 17, NULL, &error) == NULL);
    EXPECT(error == CL_MEM_OBJECT_ALLOCATION_FAILURE);
    ledger_fail("failures", DEVICE, 1 << 17);
    EXPECT(clReleaseMemObject(memory) != CL_SUCCESS);
    ledger_tell();
    release("buffer", DEVICE, memory, 1 << 16);
    ledger_tell();
}

/* Released, yet in use by a command that waits for an event: freed when that has run. */
static void pending(void) {
    cl_event go = clCreateUserEvent(context, &error);
    CHECK(error);
    cl_mem memory = buffer(1 << 20);
    int pattern = 0;
    CHECK(clEnqueueFillBuffer(queue, memory, &pattern, sizeof pattern, 0, 1 << 20, 1, &go, NULL));
    CHECK(clFlush(queue));
    CHECK(clReleaseMemObject(memory));
    ledger_tell();
    CHECK(clSetUserEventStatus(go, CL_COMPLETE));
    CHECK(clFinish(queue));
    CHECK(clReleaseEvent(go));
    CHECK(clReleaseCommandQueue(queue));
    ledger_free("buffer", DEVICE, 1 << 20);
    ledger_tell();
}

/* --- pointers of the Intel extension ------------------------------------------------------- */

#define FIND(name) ((name##_fn)clGetExtensionFunctionAddressForPlatform(platform, #name))

#define USM(function, domain, call)                                                                \
    static void *function(size_t bytes) {                                                          \
        void *p = call;                                                                            \
        CHECK(error);                                                                              \
        ledger_alloc(#function, domain, bytes, 0);                                                 \
        return p;                                                                                  \
    }

USM(usm_host, PINNED, FIND(clHostMemAllocINTEL)(context, NULL, bytes, 0, &error))
USM(usm_device, DEVICE, FIND(clDeviceMemAllocINTEL)(context, device, NULL, bytes, 0, &error))
USM(usm_shared, MANAGED, FIND(clSharedMemAllocINTEL)(context, device, NULL, bytes, 0, &error))

static void usm(void) {
    void *a = usm_host(1000), *b = usm_device(2000), *c = usm_shared(3000), *d = usm_device(4000);
    EXPECT(clGetExtensionFunctionAddressForPlatform(platform, "clNoSuchThing") == NULL);
    int stray;
    EXPECT(FIND(clMemFreeINTEL)(context, &stray) != CL_SUCCESS);
    EXPECT(FIND(clDeviceMemAllocINTEL)(context, device, NULL, HUGE_BYTES, 0, &error) == NULL);
    ledger_fail("usm", DEVICE, HUGE_BYTES);
    CHECK(FIND(clMemFreeINTEL)(context, b));
    ledger_free("usm_device", DEVICE, 2000);
    ledger_tell();
    CHECK(FIND(clMemBlockingFreeINTEL)(context, a));
    ledger_free("usm_host", PINNED, 1000);
    CHECK(FIND(clMemFreeINTEL)(context, c));
    ledger_free("usm_shared", MANAGED, 3000);
    ledger_tell();
    EXPECT(d != NULL);
    CHECK(clReleaseCommandQueue(queue));
    CHECK(clReleaseContext(context));
    ledger_drop_all();
    ledger_tell();
}

/* --- threads, and the end of the process ----------------------------------------------------- */

static uint64_t make_shared(uint64_t bytes) {
    return (uintptr_t)buffer(bytes);
}

static void release_shared(uint64_t memory, uint64_t bytes) {
    release("buffer", DEVICE, (cl_mem)memory, bytes);
}

static cl_mem late;

static void release_late(void) {
    CHECK(clReleaseMemObject(late));
}

static void at_exit(void) {
    buffer(1 << 20);
    late = buffer(1 << 21);
    EXPECT(atexit(release_late) == 0);
    ledger_free("buffer", DEVICE, 1 << 21);
    ledger_tell();
}

static void threads(void) {
    static const struct ledger_use use = {make_shared, release_shared};
    ledger_share(&use);
}

static void leave(void) {
    buffer(1 << 20);
    svm(1 << 16);
    ledger_tell();
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    CHECK(clGetPlatformIDs(1, &platform, NULL));
    CHECK(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL));
    context = clCreateContext(NULL, 1, &device, NULL, NULL, &error);
    CHECK(error);
    queue = clCreateCommandQueueWithProperties(context, device, NULL, &error);
    CHECK(error);
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"pending", pending}, {"references", references}, {"failures", failures},
                 {"usm", usm},         {"atexit", at_exit},        {"threads", threads},
                 {"leave", leave}};
    if (strcmp(what, "kinds") == 0)
        kinds(argc > 2 ? argv[2] : NULL);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strcmp(what, parts[i].name) == 0)
            parts[i].run();
    return 0;
}
