/*
 * driver_physical.h - the part of driver.c that creates physical memory and maps it.
 */
#ifndef STUB_DRIVER_PHYSICAL_H
#define STUB_DRIVER_PHYSICAL_H

static void unreference(struct physical *physical) {
    if (--physical->references != 0 || physical->foreign)
        return;
    stub_note("free", physical->domain, physical->id, physical->bytes);
    if (physical->device >= 0)
        used[physical->device] -= physical->bytes;
}

static struct physical *new_physical(void) {
    for (struct physical *p = physicals; p < physicals + ROWS; p++)
        if (p->references == 0)
            return p;
    abort();
}

static struct handle *handle_of(unsigned long long value) {
    for (struct handle *h = handles; h < handles + ROWS; h++)
        if (h->value == value)
            return h;
    return NULL;
}

static unsigned long long new_handle(struct physical *physical) {
    struct handle *handle = handle_of(0);
    *handle = (struct handle){.value = 0x1000 + (unsigned long long)(handle - handles),
                              .physical = physical,
                              .references = 1};
    physical->references++;
    return handle->value;
}

ENTRY cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
                  const CUmemAllocationProp *prop, unsigned long long flags) {
    (void)flags;
    if (size % GRANULARITY != 0)
        return CUDA_ERROR_INVALID_VALUE;
    char domain[24];
    int device = prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE ? prop->location.id : -1;
    name_domain(domain, device, "");
    pthread_mutex_lock(&lock);
    CUresult rc = CUDA_SUCCESS;
    if (STUB_FAILS("cuMemCreate") || (device >= 0 && used[device] + size > DEVICE_BYTES))
        rc = refuse(domain, "cuMemCreate", size);
    if (rc == CUDA_SUCCESS) {
        struct physical *p = new_physical();
        *p = (struct physical){.id = ++last_id, .bytes = size, .device = device};
        strcpy(p->domain, domain);
        if (device >= 0)
            used[device] += size;
        stub_note("alloc", domain, p->id, size);
        *handle = new_handle(p);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

ENTRY cuMemRelease(CUmemGenericAllocationHandle value) {
    pthread_mutex_lock(&lock);
    struct handle *handle = value != 0 ? handle_of(value) : NULL;
    bool refused = handle == NULL || STUB_FAILS("cuMemRelease");
    if (!refused) {
        unreference(handle->physical);
        if (--handle->references == 0)
            handle->value = 0;
    }
    pthread_mutex_unlock(&lock);
    return refused ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

static struct mapping *mapping_at(CUdeviceptr address) {
    for (struct mapping *m = mappings; m < mappings + ROWS; m++)
        if (m->physical != NULL && address >= m->start && address < m->start + m->bytes)
            return m;
    return NULL;
}

ENTRY cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *value, void *address) {
    pthread_mutex_lock(&lock);
    struct mapping *mapping = mapping_at((CUdeviceptr)address);
    if (mapping != NULL) {
        struct handle *handle = handles;
        while (handle < handles + ROWS &&
               (handle->value == 0 || handle->physical != mapping->physical))
            handle++;
        if (handle < handles + ROWS) {
            handle->references++;
            mapping->physical->references++;
            *value = handle->value;
        } else {
            *value = new_handle(mapping->physical);
        }
    }
    pthread_mutex_unlock(&lock);
    return mapping != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

ENTRY cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *value, void *os,
                                     CUmemAllocationHandleType type) {
    (void)type;
    pthread_mutex_lock(&lock);
    struct physical *p = new_physical();
    *p = (struct physical){.bytes = (unsigned long long)os, .foreign = true};
    *value = new_handle(p);
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS;
}

ENTRY cuMemAddressReserve(CUdeviceptr *pointer, size_t size, size_t alignment, CUdeviceptr wanted,
                          unsigned long long flags) {
    (void)size, (void)alignment, (void)wanted, (void)flags;
    pthread_mutex_lock(&lock);
    *pointer = next_address += 0x10000000ULL;
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS;
}

ENTRY cuMemAddressFree(CUdeviceptr pointer, size_t size) {
    (void)pointer, (void)size;
    return CUDA_SUCCESS;
}

ENTRY cuMemMap(CUdeviceptr pointer, size_t size, size_t offset, CUmemGenericAllocationHandle value,
               unsigned long long flags) {
    (void)offset, (void)flags;
    pthread_mutex_lock(&lock);
    struct handle *handle = value != 0 ? handle_of(value) : NULL;
    struct mapping *m = mappings;
    while (m->physical != NULL)
        m++;
    bool fine = handle != NULL && mapping_at(pointer) == NULL;
    if (fine) {
        *m = (struct mapping){pointer, size, handle->physical};
        handle->physical->references++;
    }
    pthread_mutex_unlock(&lock);
    return fine ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

ENTRY cuMemUnmap(CUdeviceptr pointer, size_t size) {
    pthread_mutex_lock(&lock);
    bool found = false;
    for (struct mapping *m = mappings; m < mappings + ROWS; m++)
        if (m->physical != NULL && m->start >= pointer && m->start + m->bytes <= pointer + size) {
            unreference(m->physical);
            m->physical = NULL;
            found = true;
        }
    pthread_mutex_unlock(&lock);
    return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

#endif
