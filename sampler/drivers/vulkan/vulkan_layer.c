/*
 * vulkan_layer.c - the Vulkan layer: its place in the chain, memory, and the use that the driver reports.
 *
 * Model: the Vulkan loader finds the layer by its manifest, negotiates (companion/layers.c), and then
 * sends vkCreateInstance and vkCreateDevice through us. For each such instance and device, a row holds
 * the functions of the layer below; its key is the dispatch key, the first word of every handle. Programs
 * that fetch pointers with vkGetDeviceProcAddr get ours.
 *
 * A block is a VkDeviceMemory; its device ends it if the program did not. Imported memory belongs to
 * others and does not count.
 *
 * Threads: look-ups of rows take no lock. The creation and destruction of instances and devices may
 * allocate pages.
 */
#include "abi/atomics.h"
#include "core/local.h"
#include "device/device.h"
#include "drivers/backend.h"
#include "vulkan_abi.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define EXPORT __attribute__((visibility("default")))
#define ROWS 32 /* of one block */
#define PHYSICAL_MAX 64
#define EXTENSIONS_MAX 1024
#define ROW_CLAIMED 1

struct instance {
    uint64_t key; /* dispatch key; 0: free, 1: being filled */
    void *handle;
    mp_vk_get_proc_addr next;
    mp_vkDestroyInstance_fn destroy_instance;
    mp_vkEnumeratePhysicalDevices_fn enumerate_physical_devices;
    mp_vkEnumerateDeviceExtensionProperties_fn enumerate_extensions;
    mp_vkGetPhysicalDeviceMemoryProperties_fn memory_properties;
    mp_vkGetPhysicalDeviceMemoryProperties2_fn memory_properties_2; /* NULL: may not be called */
};

struct device {
    uint64_t key;
    void *handle;
    mp_vk_get_proc_addr next;
    mp_vkDestroyDevice_fn destroy_device;
    mp_vkAllocateMemory_fn allocate_memory;
    mp_vkFreeMemory_fn free_memory;
    void *physical;
    mp_vkGetPhysicalDeviceMemoryProperties2_fn budget; /* NULL: the driver does not report usage */
    uint64_t container; /* never 0, never used again */
    int number; /* of the physical device in the instance's list; -1: not found */
    uint32_t device_local_types; /* bit mask of memory types */
    uint32_t device_local_heaps;
};

static uint64_t key_of(const void *handle) {
    return (uint64_t)*(const uintptr_t *)handle;
}

union row {
    uint64_t key;
    struct instance instance;
    struct device device;
};

/* Rows come in blocks; nobody frees a block, so that readers can read a row at any time. A release store
 * writes a row's key once the row is filled, a compare-and-swap writes `next`; both pair with
 * row_of(). */
struct block {
    union row row[ROWS];
    struct block *next;
};

static struct block first;
static uint64_t containers;

static void *more_pages(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* The row of a handle; NULL: it was not made through us. Instances and devices never share a
 * key. */
static union row *row_of(void *handle) {
    uint64_t key = key_of(handle);
    for (struct block *b = &first; b != NULL; b = mp_load_acquire(&b->next))
        for (unsigned i = 0; i < ROWS; i++)
            if (mp_load_acquire(&b->row[i].key) == key)
                return &b->row[i];
    return NULL;
}

static struct instance *instance_of(void *handle) {
    union row *row = row_of(handle);
    return row == NULL ? NULL : &row->instance;
}

static struct device *device_of(void *handle) {
    union row *row = row_of(handle);
    return row == NULL ? NULL : &row->device;
}

/* A row to fill, made visible by storing its key, and free again by storing 0; NULL: no memory. */
static union row *claim(void) {
    for (struct block *b = &first;; b = mp_load_acquire(&b->next)) {
        for (unsigned i = 0; i < ROWS; i++)
            if (mp_load_relaxed(&b->row[i].key) == 0 && mp_cas_u64(&b->row[i].key, 0, ROW_CLAIMED))
                return &b->row[i];
        if (mp_load_acquire(&b->next) != NULL)
            continue;
        struct block *fresh = more_pages(sizeof *fresh);
        struct block *none = NULL;
        if (fresh == NULL)
            return NULL;
        if (!__atomic_compare_exchange_n(&b->next, &none, fresh, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            munmap(fresh, sizeof *fresh);
    }
}

static void give_back(uint64_t *key) {
    mp_store_release(key, 0);
}

/* The loader's structure in a chain that holds the link to the layer below; NULL: no loader
 * calls us. */
static struct mp_vk_layer_create_info *link_in(const void *chain, uint32_t type) {
    for (const struct mp_vk_link *at = chain; at != NULL; at = at->next) {
        struct mp_vk_layer_create_info *info = (struct mp_vk_layer_create_info *)(uintptr_t)at;
        if (at->type == type && info->function == MP_VK_LAYER_LINK_INFO && info->chain != NULL)
            return info;
    }
    return NULL;
}

/* vkGetPhysicalDeviceMemoryProperties2 may be called in instances of 1.1, or with the extension. */
static bool may_ask_properties_2(const struct mp_vk_instance_create_info *info) {
    if (info->application != NULL && info->application->api_version >= MP_VK_API_VERSION_1_1)
        return true;
    for (uint32_t i = 0; i < info->extension_count; i++)
        if (strcmp(info->extensions[i], "VK_KHR_get_physical_device_properties2") == 0)
            return true;
    return false;
}

static int32_t vkCreateInstance(const struct mp_vk_instance_create_info *info,
                                const void *allocator, void **instance) {
    struct mp_vk_layer_create_info *link = link_in(info->next, MP_VK_LOADER_INSTANCE_CREATE_INFO);
    if (link == NULL)
        return MP_VK_ERROR_INITIALIZATION_FAILED;
    struct mp_vk_instance_link *below = link->chain;
    mp_vk_get_proc_addr next = below->instance_proc_addr;
    mp_vkCreateInstance_fn create = (mp_vkCreateInstance_fn)next(NULL, "vkCreateInstance");
    union row *claimed = create != NULL ? claim() : NULL;
    if (claimed == NULL)
        return MP_VK_ERROR_INITIALIZATION_FAILED;
    link->chain = below->next;
    int32_t rc = create(info, allocator, instance);
    if (rc != MP_VK_SUCCESS) {
        give_back(&claimed->key);
        return rc;
    }
    struct instance *row = &claimed->instance;
#define FIND(field, name) row->field = (mp_##name##_fn)next(*instance, #name)
    row->handle = *instance;
    row->next = next;
    FIND(destroy_instance, vkDestroyInstance);
    FIND(enumerate_physical_devices, vkEnumeratePhysicalDevices);
    FIND(enumerate_extensions, vkEnumerateDeviceExtensionProperties);
    FIND(memory_properties, vkGetPhysicalDeviceMemoryProperties);
    row->memory_properties_2 = NULL;
    if (may_ask_properties_2(info)) {
        FIND(memory_properties_2, vkGetPhysicalDeviceMemoryProperties2);
        if (row->memory_properties_2 == NULL)
            row->memory_properties_2 = (mp_vkGetPhysicalDeviceMemoryProperties2_fn)next(
                *instance, "vkGetPhysicalDeviceMemoryProperties2KHR");
    }
#undef FIND
    mp_store_release(&row->key, key_of(*instance));
    return rc;
}

static void vkDestroyInstance(void *instance, const void *allocator) {
    struct instance *row = instance == NULL ? NULL : instance_of(instance);
    if (row == NULL)
        return;
    mp_vkDestroyInstance_fn destroy = row->destroy_instance;
    give_back(&row->key);
    destroy(instance, allocator);
}

/* --- devices -------------------------------------------------------------------------------- */

static int number_of(const struct instance *instance, void *physical) {
    void *all[PHYSICAL_MAX];
    uint32_t n = PHYSICAL_MAX;
    int32_t rc = instance->enumerate_physical_devices(instance->handle, &n, all);
    for (uint32_t i = 0; (rc == MP_VK_SUCCESS || rc == MP_VK_INCOMPLETE) && i < n; i++)
        if (all[i] == physical)
            return (int)i;
    return -1;
}

static bool has_budget(const struct instance *instance, void *physical) {
    uint32_t n = EXTENSIONS_MAX;
    size_t bytes = EXTENSIONS_MAX * sizeof(struct mp_vk_extension);
    struct mp_vk_extension *all = more_pages(bytes);
    if (all == NULL)
        return false;
    bool found = false;
    int32_t rc = instance->enumerate_extensions(physical, NULL, &n, all);
    for (uint32_t i = 0; (rc == MP_VK_SUCCESS || rc == MP_VK_INCOMPLETE) && i < n; i++)
        found |= strcmp(all[i].name, "VK_EXT_memory_budget") == 0;
    munmap(all, bytes);
    return found;
}

/* Properties of a device's memory that its blocks need. */
static void describe(struct device *row, const struct instance *instance, void *physical) {
    struct mp_vk_memory_properties memory = {0};
    instance->memory_properties(physical, &memory);
    row->physical = physical;
    row->number = number_of(instance, physical);
    row->device_local_types = row->device_local_heaps = 0;
    for (uint32_t i = 0; i < memory.type_count && i < MP_VK_MEMORY_TYPES; i++)
        if (memory.types[i].flags & MP_VK_TYPE_DEVICE_LOCAL)
            row->device_local_types |= 1u << i;
    for (uint32_t i = 0; i < memory.heap_count && i < MP_VK_MEMORY_HEAPS; i++)
        if (memory.heaps[i].flags & MP_VK_HEAP_DEVICE_LOCAL)
            row->device_local_heaps |= 1u << i;
    row->budget = instance->memory_properties_2 != NULL && has_budget(instance, physical)
                      ? instance->memory_properties_2
                      : NULL;
}

static int32_t vkCreateDevice(void *physical, const struct mp_vk_link *info, const void *allocator,
                              void **device) {
    struct mp_vk_layer_create_info *link = link_in(info->next, MP_VK_LOADER_DEVICE_CREATE_INFO);
    const struct instance *instance = instance_of(physical);
    if (link == NULL || instance == NULL)
        return MP_VK_ERROR_INITIALIZATION_FAILED;
    struct mp_vk_device_link *below = link->chain;
    mp_vk_get_proc_addr next = below->device_proc_addr;
    mp_vkCreateDevice_fn create =
        (mp_vkCreateDevice_fn)below->instance_proc_addr(instance->handle, "vkCreateDevice");
    union row *claimed = create != NULL ? claim() : NULL;
    if (claimed == NULL)
        return MP_VK_ERROR_INITIALIZATION_FAILED;
    link->chain = below->next;
    int32_t rc = create(physical, info, allocator, device);
    if (rc != MP_VK_SUCCESS) {
        give_back(&claimed->key);
        return rc;
    }
    struct device *row = &claimed->device;
    row->handle = *device;
    row->next = next;
    row->destroy_device = (mp_vkDestroyDevice_fn)next(*device, "vkDestroyDevice");
    row->allocate_memory = (mp_vkAllocateMemory_fn)next(*device, "vkAllocateMemory");
    row->free_memory = (mp_vkFreeMemory_fn)next(*device, "vkFreeMemory");
    row->container = mp_add_relaxed(&containers, 1) + 1;
    describe(row, instance, physical);
    mp_store_release(&row->key, key_of(*device));
    return rc;
}

static void vkDestroyDevice(void *device, const void *allocator) {
    struct device *row = device == NULL ? NULL : device_of(device);
    if (row == NULL)
        return;
    mp_vkDestroyDevice_fn destroy = row->destroy_device;
    mp_device_drop_container(MP_SPACE_VULKAN_MEMORY, row->container);
    give_back(&row->key);
    destroy(device, allocator);
}

/* --- VkDeviceMemory, into the segment ---------------------------------------------------------- */

/*
 * A handle is unique in its device only. Handles of the first device stay as they are; a one-to-one
 * mapping moves those of others to values of their own.
 */
static uint64_t address_of(const struct device *row, uint64_t memory) {
    if (row->container == 1)
        return memory;
    return memory ^ (row->container * 0x9e3779b97f4a7c15ULL & ~(uint64_t)0xf);
}

static bool is_import(const void *chain) {
    for (const struct mp_vk_link *at = chain; at != NULL; at = at->next) {
        const struct mp_vk_import_info *info = (const struct mp_vk_import_info *)at;
        if ((at->type == MP_VK_IMPORT_MEMORY_FD_INFO_KHR ||
             at->type == MP_VK_IMPORT_MEMORY_HOST_POINTER_INFO_EXT) &&
            info->handle_type != 0)
            return true;
        if (at->type == MP_VK_IMPORT_ANDROID_HARDWARE_BUFFER_INFO)
            return true;
    }
    return false;
}

/* Memory of a heap that is not the device's is host memory that the driver has locked. */
static uint32_t domain_of(const struct device *row, bool device_local) {
    return device_local ? mp_domain_intern("vulkan", row->number, MP_MEMORY_DEVICE)
                        : mp_domain_intern("vulkan", -1, MP_MEMORY_PINNED);
}

/* Store the driver's numbers, for the device's own heaps together. */
static void tell_actual(const struct device *row, uint32_t domain) {
    if (row->budget == NULL || !mp_device_actual_due(domain))
        return;
    struct mp_vk_memory_budget budget = {.type =
                                             MP_VK_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    struct mp_vk_memory_properties_2 memory = {.type = MP_VK_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                               .next = &budget};
    row->budget(row->physical, &memory);
    uint64_t used = 0, total = 0;
    for (uint32_t i = 0; i < memory.properties.heap_count && i < MP_VK_MEMORY_HEAPS; i++) {
        if (!(row->device_local_heaps >> i & 1))
            continue;
        used += budget.usage_bytes[i];
        total += memory.properties.heaps[i].bytes;
    }
    mp_device_actual(domain, used, total);
}

/* noinline, and first of its stacks: see MP_CALLER. */
static __attribute__((noinline)) int32_t
vkAllocateMemory(void *device, const struct mp_vk_memory_allocate_info *info, const void *allocator,
                 uint64_t *memory) {
    struct mp_frame caller;
    MP_CALLER(caller);
    const struct device *row = device_of(device);
    if (row == NULL)
        return MP_VK_ERROR_INITIALIZATION_FAILED; /* a handle that no loader gave out */
    int32_t rc = row->allocate_memory(row->handle, info, allocator, memory);
    mp_device_backend_call(MP_BACKEND_VULKAN);
    bool shortage = rc == MP_VK_ERROR_OUT_OF_DEVICE_MEMORY || rc == MP_VK_ERROR_OUT_OF_HOST_MEMORY;
    if ((rc != MP_VK_SUCCESS && !shortage) || mp_gate() == MP_GATE_OFF || is_import(info->next))
        return rc;
    int saved_errno = errno;
    bool device_local = info->memory_type < MP_VK_MEMORY_TYPES &&
                        (row->device_local_types >> info->memory_type & 1);
    struct mp_device_block block = {.domain = domain_of(row, device_local),
                                    .space = MP_SPACE_VULKAN_MEMORY,
                                    .container = row->container,
                                    .asked_bytes = info->bytes,
                                    .api_pc = (uintptr_t)vkAllocateMemory,
                                    .caller = caller};
    if (shortage) {
        mp_device_fail(&block);
    } else {
        block.address = address_of(row, *memory);
        mp_device_alloc(&block);
    }
    if (device_local)
        tell_actual(row, block.domain);
    errno = saved_errno;
    return rc;
}

static void vkFreeMemory(void *device, uint64_t memory, const void *allocator) {
    struct mp_device_taken taken;
    const struct device *row = device_of(device);
    if (row == NULL)
        return;
    if (memory != 0)
        mp_device_take(MP_SPACE_VULKAN_MEMORY, address_of(row, memory), &taken);
    row->free_memory(row->handle, memory, allocator);
}

/* --- look-up -------------------------------------------------------------------------------- */

static mp_vk_function vkGetInstanceProcAddr(void *instance, const char *name);
static mp_vk_function vkGetDeviceProcAddr(void *device, const char *name);

static const struct {
    const char *name;
    mp_vk_function ours;
    bool of_device; /* belongs to a device too, not to an instance alone */
} functions[] = {
    {"vkGetInstanceProcAddr", (mp_vk_function)vkGetInstanceProcAddr, false},
    {"vkCreateInstance", (mp_vk_function)vkCreateInstance, false},
    {"vkDestroyInstance", (mp_vk_function)vkDestroyInstance, false},
    {"vkCreateDevice", (mp_vk_function)vkCreateDevice, false},
    {"vkGetDeviceProcAddr", (mp_vk_function)vkGetDeviceProcAddr, true},
    {"vkDestroyDevice", (mp_vk_function)vkDestroyDevice, true},
    {"vkAllocateMemory", (mp_vk_function)vkAllocateMemory, true},
    {"vkFreeMemory", (mp_vk_function)vkFreeMemory, true},
};

static mp_vk_function ours(const char *name, bool of_device) {
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if ((functions[i].of_device || !of_device) && strcmp(functions[i].name, name) == 0)
            return functions[i].ours;
    return NULL;
}

static mp_vk_function vkGetInstanceProcAddr(void *instance, const char *name) {
    mp_vk_function found = ours(name, false);
    const struct instance *row = instance == NULL ? NULL : instance_of(instance);
    if (found != NULL || row == NULL)
        return found;
    return row->next(instance, name);
}

static mp_vk_function vkGetDeviceProcAddr(void *device, const char *name) {
    mp_vk_function found = ours(name, true);
    const struct device *row = device == NULL ? NULL : device_of(device);
    if (found != NULL || row == NULL)
        return found;
    return row->next(device, name);
}

EXPORT int32_t mem_profiler_vulkan_layer(struct mp_vk_negotiate *negotiate);

/* Called from companion/layers.c. A refusal makes the loader go on without us. */
EXPORT int32_t mem_profiler_vulkan_layer(struct mp_vk_negotiate *negotiate) {
    if (negotiate == NULL || negotiate->type != MP_VK_NEGOTIATE_INTERFACE ||
        negotiate->version < MP_VK_LAYER_INTERFACE_VERSION || !mp_backend_on(MP_BACKEND_VULKAN))
        return MP_VK_ERROR_INITIALIZATION_FAILED;
    negotiate->version = MP_VK_LAYER_INTERFACE_VERSION;
    negotiate->instance_proc_addr = vkGetInstanceProcAddr;
    negotiate->device_proc_addr = vkGetDeviceProcAddr;
    negotiate->physical_device_proc_addr = NULL;
    mp_device_backend_seen(MP_BACKEND_VULKAN, false, true);
    return MP_VK_SUCCESS;
}
