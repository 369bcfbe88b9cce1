/*
 * app.c - a program on Level Zero: does to it what the lines of its input say, and prints each
 * result.
 *
 *   app linked       calls through its own references
 *   app opened       dlopen of libze_loader.so.1 and dlsym
 *
 * Lines, where R is a register (0..63) and D a device (0, 1; 2: a part of device 0; 3: none); sizes
 * are in bytes: device R SIZE D | shared R SIZE D | host R SIZE | import R SIZE | free R | freeext
 * R | create R SIZE D | destroy R | reserve R SIZE | unreserve R SIZE | map R SIZE CREATED | unmap
 * R SIZE | flat R WIDTH HEIGHT | solid R SIDE | line R SIZE | noimage R | context (all from now on
 * in a new one) | end (destroys the context) | die
 */
#include <level_zero/ze_api.h>

#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FUNCTIONS(X)                                                                               \
    X(zeInit)                                                                                      \
    X(zeDriverGet)                                                                                 \
    X(zeDeviceGet)                                                                                 \
    X(zeDeviceGetSubDevices)                                                                       \
    X(zeContextCreate)                                                                             \
    X(zeContextDestroy)                                                                            \
    X(zeMemAllocDevice)                                                                            \
    X(zeMemAllocShared)                                                                            \
    X(zeMemAllocHost)                                                                              \
    X(zeMemFree)                                                                                   \
    X(zeMemFreeExt)                                                                                \
    X(zePhysicalMemCreate)                                                                         \
    X(zePhysicalMemDestroy)                                                                        \
    X(zeVirtualMemReserve)                                                                         \
    X(zeVirtualMemFree)                                                                            \
    X(zeVirtualMemMap)                                                                             \
    X(zeVirtualMemUnmap)                                                                           \
    X(zeImageCreate)                                                                               \
    X(zeImageDestroy)

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
    void *library = dlopen("libze_loader.so.1", RTLD_NOW | RTLD_LOCAL);
#define LOOK_UP(name) *(void **)&api.name = dlsym(library, #name);
    FUNCTIONS(LOOK_UP)
}

static ze_driver_handle_t driver;
static ze_device_handle_t devices[4];
static ze_context_handle_t context;
static void *reg[64];

static int make_context(void) {
    ze_context_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_CONTEXT_DESC};
    return api.zeContextCreate(driver, &desc, &context);
}

static int start(void) {
    uint32_t one = 1, two = 2, part = 1;
    if (api.zeInit(0) != 0 || api.zeDriverGet(&one, &driver) != 0 ||
        api.zeDeviceGet(driver, &two, devices) != 0 ||
        api.zeDeviceGetSubDevices(devices[0], &part, &devices[2]) != 0)
        return 1;
    return make_context();
}

static int make_image(void **r, ze_image_type_t type, ze_image_format_layout_t layout,
                      uint64_t width, uint32_t height, uint32_t depth) {
    ze_image_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_IMAGE_DESC,
                            .type = type,
                            .width = width,
                            .height = height,
                            .depth = depth,
                            .format.layout = layout};
    return api.zeImageCreate(context, devices[0], &desc, (ze_image_handle_t *)r);
}

#define IS(name) (strcmp(word, name) == 0)

static int memory_line(const char *word, void **r, const unsigned long long *a) {
    ze_external_memory_import_fd_t from = {.stype = ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMPORT_FD};
    ze_device_mem_alloc_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_DEVICE_MEM_ALLOC_DESC};
    ze_host_mem_alloc_desc_t host = {.stype = ZE_STRUCTURE_TYPE_HOST_MEM_ALLOC_DESC};
    ze_memory_free_ext_desc_t how = {.stype = ZE_STRUCTURE_TYPE_MEMORY_FREE_EXT_DESC};
    if (IS("device"))
        return api.zeMemAllocDevice(context, &desc, a[1], 1, devices[a[2] & 3], r);
    if (IS("shared"))
        return api.zeMemAllocShared(context, &desc, &host, a[1], 1, devices[a[2] & 3], r);
    if (IS("host"))
        return api.zeMemAllocHost(context, &host, a[1], 1, r);
    if (IS("free"))
        return api.zeMemFree(context, *r);
    if (IS("freeext"))
        return api.zeMemFreeExt(context, &how, *r);
    desc.pNext = &from;
    return IS("import") ? (int)api.zeMemAllocDevice(context, &desc, a[1], 1, devices[0], r) : -1;
}

static int physical_line(const char *word, void **r, const unsigned long long *a) {
    ze_physical_mem_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_PHYSICAL_MEM_DESC, .size = a[1]};
    if (IS("create"))
        return api.zePhysicalMemCreate(context, devices[a[2] & 3], &desc,
                                       (ze_physical_mem_handle_t *)r);
    if (IS("destroy"))
        return api.zePhysicalMemDestroy(context, (ze_physical_mem_handle_t)*r);
    if (IS("reserve"))
        return api.zeVirtualMemReserve(context, NULL, a[1], r);
    if (IS("unreserve"))
        return api.zeVirtualMemFree(context, *r, a[1]);
    if (IS("map"))
        return api.zeVirtualMemMap(context, *r, a[1], (ze_physical_mem_handle_t)reg[a[2] & 63], 0,
                                   ZE_MEMORY_ACCESS_ATTRIBUTE_READWRITE);
    return IS("unmap") ? (int)api.zeVirtualMemUnmap(context, *r, a[1]) : -1;
}

static int other_line(const char *word, void **r, const unsigned long long *a) {
    if (IS("flat"))
        return make_image(r, ZE_IMAGE_TYPE_2D, ZE_IMAGE_FORMAT_LAYOUT_8_8_8_8, a[1], (uint32_t)a[2],
                          7);
    if (IS("solid"))
        return make_image(r, ZE_IMAGE_TYPE_3D, ZE_IMAGE_FORMAT_LAYOUT_16, a[1], (uint32_t)a[1],
                          (uint32_t)a[1]);
    if (IS("line"))
        return make_image(r, ZE_IMAGE_TYPE_BUFFER, ZE_IMAGE_FORMAT_LAYOUT_32, a[1], 3, 3);
    if (IS("noimage"))
        return api.zeImageDestroy((ze_image_handle_t)*r);
    if (IS("context"))
        return make_context();
    if (IS("end"))
        return api.zeContextDestroy(context);
    if (IS("die"))
        raise(SIGKILL);
    return -1;
}

int main(int argc, char **argv) {
    char text[128], word[32];
    if (argc > 1 && strcmp(argv[1], "linked") == 0)
        bind_linked();
    else
        bind_opened();
    if (api.zeInit == NULL || start() != 0)
        return 3;
    while (fgets(text, sizeof text, stdin) != NULL) {
        unsigned long long a[3] = {0};
        if (sscanf(text, "%31s %llu %llu %llu", word, &a[0], &a[1], &a[2]) < 1)
            return 4;
        void **r = &reg[a[0] & 63];
        int rc = memory_line(word, r, a);
        rc = rc != -1 ? rc : physical_line(word, r, a);
        rc = rc != -1 ? rc : other_line(word, r, a);
        printf("%d\n", rc);
        fflush(stdout);
    }
    return 0;
}
