/*
 * vulkan_layer.c - a Vulkan layer for tests, to stand between the sampler's layer and a real
 * driver. It gives the driver what it lacks:
 *
 *   VK_EXT_memory_budget: what was allocated here and 1 MiB of the driver's own is in use
 *   a second memory type, of host memory that is not the device's own
 *   handles of memory that are unique in their device only: 1, 2, 3 in each
 *
 * Programs under it may allocate and free, nothing else that takes memory.
 */
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#include <stdlib.h>
#include <string.h>

#define DEVICES 64
#define HANDLES 256
#define OWN_BYTES (1ULL << 20)

static PFN_vkGetInstanceProcAddr next_instance;
static PFN_vkEnumerateDeviceExtensionProperties next_extensions;
static PFN_vkGetPhysicalDeviceMemoryProperties2 next_properties;
static PFN_vkGetPhysicalDeviceMemoryProperties next_plain_properties;
static VkInstance instance;

static struct device {
    VkDevice handle;
    PFN_vkGetDeviceProcAddr next;
    VkDeviceMemory real[HANDLES];
    VkDeviceSize bytes[HANDLES];
} devices[DEVICES];

static struct device *find(VkDevice handle) {
    for (unsigned i = 0; i < DEVICES; i++)
        if (devices[i].handle == handle)
            return &devices[i];
    abort();
}

static const VkLayerInstanceCreateInfo *instance_link(const VkInstanceCreateInfo *info) {
    const VkLayerInstanceCreateInfo *at = info->pNext;
    while (at != NULL && (at->sType != VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO ||
                          at->function != VK_LAYER_LINK_INFO))
        at = at->pNext;
    return at;
}

static const VkLayerDeviceCreateInfo *device_link(const VkDeviceCreateInfo *info) {
    const VkLayerDeviceCreateInfo *at = info->pNext;
    while (at != NULL && (at->sType != VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO ||
                          at->function != VK_LAYER_LINK_INFO))
        at = at->pNext;
    return at;
}

static VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
                                           const VkAllocationCallbacks *allocator,
                                           VkInstance *made) {
    VkLayerInstanceCreateInfo *link = (VkLayerInstanceCreateInfo *)instance_link(info);
    next_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateInstance create = (PFN_vkCreateInstance)next_instance(NULL, "vkCreateInstance");
    VkResult rc = create(info, allocator, made);
    if (rc != VK_SUCCESS)
        return rc;
    instance = *made;
    next_extensions = (PFN_vkEnumerateDeviceExtensionProperties)next_instance(
        instance, "vkEnumerateDeviceExtensionProperties");
    next_plain_properties = (PFN_vkGetPhysicalDeviceMemoryProperties)next_instance(
        instance, "vkGetPhysicalDeviceMemoryProperties");
    next_properties = (PFN_vkGetPhysicalDeviceMemoryProperties2)next_instance(
        instance, "vkGetPhysicalDeviceMemoryProperties2");
    return rc;
}

static VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                         const VkAllocationCallbacks *allocator, VkDevice *made) {
    VkLayerDeviceCreateInfo *link = (VkLayerDeviceCreateInfo *)device_link(info);
    PFN_vkGetInstanceProcAddr find_create = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    PFN_vkGetDeviceProcAddr next = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateDevice create = (PFN_vkCreateDevice)find_create(instance, "vkCreateDevice");
    VkResult rc = create(physical, info, allocator, made);
    if (rc == VK_SUCCESS) {
        struct device *row = find(VK_NULL_HANDLE);
        *row = (struct device){.handle = *made, .next = next};
    }
    return rc;
}

static void VKAPI_CALL destroy_device(VkDevice device, const VkAllocationCallbacks *allocator) {
    struct device *row = find(device);
    PFN_vkFreeMemory release = (PFN_vkFreeMemory)row->next(device, "vkFreeMemory");
    PFN_vkDestroyDevice destroy = (PFN_vkDestroyDevice)row->next(device, "vkDestroyDevice");
    for (unsigned i = 0; i < HANDLES; i++)
        release(device, row->real[i], allocator);
    *row = (struct device){0};
    destroy(device, allocator);
}

static VkResult VKAPI_CALL allocate(VkDevice device, const VkMemoryAllocateInfo *info,
                                    const VkAllocationCallbacks *allocator, VkDeviceMemory *made) {
    struct device *row = find(device);
    PFN_vkAllocateMemory next = (PFN_vkAllocateMemory)row->next(device, "vkAllocateMemory");
    for (unsigned i = 0; i < HANDLES; i++) {
        if (row->real[i] != VK_NULL_HANDLE)
            continue;
        VkMemoryAllocateInfo real = *info;
        real.memoryTypeIndex = 0;
        VkResult rc = next(device, &real, allocator, &row->real[i]);
        row->bytes[i] = rc == VK_SUCCESS && info->memoryTypeIndex == 0 ? info->allocationSize : 0;
        *made = (VkDeviceMemory)(uintptr_t)(i + 1);
        return rc;
    }
    return VK_ERROR_OUT_OF_DEVICE_MEMORY;
}

static void VKAPI_CALL release(VkDevice device, VkDeviceMemory memory,
                               const VkAllocationCallbacks *allocator) {
    struct device *row = find(device);
    size_t i = (uintptr_t)memory - 1;
    if (memory == VK_NULL_HANDLE)
        return;
    ((PFN_vkFreeMemory)row->next(device, "vkFreeMemory"))(device, row->real[i], allocator);
    row->real[i] = VK_NULL_HANDLE;
    row->bytes[i] = 0;
}

static VkResult VKAPI_CALL extensions(VkPhysicalDevice physical, const char *layer, uint32_t *n,
                                      VkExtensionProperties *out) {
    uint32_t room = *n;
    VkResult rc = next_extensions(physical, layer, n, out);
    if (rc != VK_SUCCESS || layer != NULL)
        return rc;
    if (out != NULL && *n == room)
        return VK_INCOMPLETE;
    if (out != NULL)
        out[*n] = (VkExtensionProperties){VK_EXT_MEMORY_BUDGET_EXTENSION_NAME, 1};
    ++*n;
    return rc;
}

/* The driver has one heap, all of it the device's own. */
static void add_host_heap(VkPhysicalDeviceMemoryProperties *out) {
    out->memoryTypes[out->memoryTypeCount++] =
        (VkMemoryType){VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
                       out->memoryHeapCount};
    out->memoryHeaps[out->memoryHeapCount++] = (VkMemoryHeap){1ULL << 34, 0};
}

static void VKAPI_CALL plain_properties(VkPhysicalDevice physical,
                                        VkPhysicalDeviceMemoryProperties *out) {
    next_plain_properties(physical, out);
    add_host_heap(out);
}

static void VKAPI_CALL properties(VkPhysicalDevice physical,
                                  VkPhysicalDeviceMemoryProperties2 *out) {
    next_properties(physical, out);
    add_host_heap(&out->memoryProperties);
    VkPhysicalDeviceMemoryBudgetPropertiesEXT *budget = out->pNext;
    if (budget == NULL ||
        budget->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT)
        return;
    budget->heapUsage[0] = OWN_BYTES;
    budget->heapUsage[1] = 12345; /* not the device's: not to be added */
    for (unsigned i = 0; i < DEVICES; i++)
        for (unsigned k = 0; k < HANDLES; k++)
            budget->heapUsage[0] += devices[i].bytes[k];
    budget->heapBudget[0] = out->memoryProperties.memoryHeaps[0].size;
}

static PFN_vkVoidFunction own(const char *name) {
    static const struct {
        const char *name;
        PFN_vkVoidFunction function;
    } all[] = {
        {"vkCreateInstance", (PFN_vkVoidFunction)create_instance},
        {"vkCreateDevice", (PFN_vkVoidFunction)create_device},
        {"vkDestroyDevice", (PFN_vkVoidFunction)destroy_device},
        {"vkAllocateMemory", (PFN_vkVoidFunction)allocate},
        {"vkFreeMemory", (PFN_vkVoidFunction)release},
        {"vkEnumerateDeviceExtensionProperties", (PFN_vkVoidFunction)extensions},
        {"vkGetPhysicalDeviceMemoryProperties", (PFN_vkVoidFunction)plain_properties},
        {"vkGetPhysicalDeviceMemoryProperties2", (PFN_vkVoidFunction)properties},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i].name, name) == 0)
            return all[i].function;
    return NULL;
}

static PFN_vkVoidFunction VKAPI_CALL device_function(VkDevice device, const char *name) {
    PFN_vkVoidFunction found = own(name);
    return found != NULL ? found : find(device)->next(device, name);
}

static PFN_vkVoidFunction VKAPI_CALL instance_function(VkInstance of, const char *name) {
    PFN_vkVoidFunction found = own(name);
    if (strcmp(name, "vkGetDeviceProcAddr") == 0)
        return (PFN_vkVoidFunction)device_function;
    return found != NULL || of == NULL ? found : next_instance(of, name);
}

VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *negotiate) {
    negotiate->loaderLayerInterfaceVersion = 2;
    negotiate->pfnGetInstanceProcAddr = instance_function;
    negotiate->pfnGetDeviceProcAddr = device_function;
    negotiate->pfnGetPhysicalDeviceProcAddr = NULL;
    return VK_SUCCESS;
}
