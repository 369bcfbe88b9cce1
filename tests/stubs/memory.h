/*
 * memory.h - the memory of a stub driver: what it gave and to whom, with a ledger and failures on demand (ledger.h).
 *
 * Model: a block is what the driver gave at an address, or physical memory, which lives as long as a handle or a
 * mapping refers to it. A freed address or handle is the next one given. Each device has STUB_DEVICE_BYTES. Every
 * function takes the lock; the result says whether the driver does what it is asked for.
 */
#ifndef STUB_MEMORY_H
#define STUB_MEMORY_H

#include "ledger.h"

#include <pthread.h>
#include <stdint.h>

#define STUB_DEVICES 2
#define STUB_DEVICE_BYTES (64ULL << 20)
#define STUB_HOST_BYTES (1ULL << 40)
#define STUB_ROWS 4096
#define STUB_SPACING 0x10000000ULL
#define STUB_FIRST_HANDLE 0x1000u
#define STUB_PHYSICAL (-1) /* kind of block; the driver's own kinds are positive */

struct stub_block {
    int kind;            /* 0: free row */
    int device;          /* -1: the host */
    uint64_t key;        /* its address; of physical memory, a number */
    uint64_t bytes;      /* that the program asked for */
    uint64_t container;  /* the context or device that ends it; 0: none */
    unsigned references; /* of physical memory */
    bool was_given;      /* the address is the driver's */
    char domain[24];     /* "": not in the ledger */
};

/* A handle, or a mapping, of physical memory. */
struct stub_reference {
    uint64_t at; /* value or address; 0: free row */
    uint64_t bytes;
    unsigned count;
    struct stub_block *block;
};

static pthread_mutex_t stub_lock = PTHREAD_MUTEX_INITIALIZER;
static struct stub_block stub_blocks[STUB_ROWS];
static struct stub_reference stub_handles[STUB_ROWS], stub_mappings[STUB_ROWS];
static uint64_t stub_used[STUB_DEVICES], stub_last_id, stub_spare[STUB_ROWS];
static unsigned stub_spares;
static uint64_t stub_next_address = 0x7f0000000000ULL;

/* Names a domain: FAMILY-DEVICE and a suffix, or FAMILY-pinned. */
static inline void stub_place(struct stub_block *block, const char *family, int device,
                              const char *suffix) {
    block->device = device;
    if (device < 0)
        snprintf(block->domain, sizeof block->domain, "%s-pinned", family);
    else
        snprintf(block->domain, sizeof block->domain, "%s-%d%s", family, device, suffix);
}

static inline bool stub_has_room(const struct stub_block *block, uint64_t taken) {
    return block->device < 0 ? taken < STUB_HOST_BYTES
                             : stub_used[block->device] + taken <= STUB_DEVICE_BYTES;
}

/* Under the lock. NULL: refused. */
static inline struct stub_block *stub_add(const struct stub_block *wanted, const char *function,
                                          bool fails, uint64_t taken) {
    struct stub_block *row = stub_blocks;
    while (row < stub_blocks + STUB_ROWS && row->kind != 0)
        row++;
    if (fails || row == stub_blocks + STUB_ROWS || !stub_has_room(wanted, taken)) {
        stub_note_fail(wanted->domain, function, wanted->bytes);
        return NULL;
    }
    *row = *wanted;
    if (row->device >= 0)
        stub_used[row->device] += row->bytes;
    if (row->kind == STUB_PHYSICAL)
        row->key = ++stub_last_id;
    else if ((row->was_given = row->key == 0))
        row->key =
            stub_spares != 0 ? stub_spare[--stub_spares] : (stub_next_address += STUB_SPACING);
    if (row->domain[0] != '\0')
        stub_note("alloc", row->domain, row->key, row->bytes);
    return row;
}

static inline void stub_drop(struct stub_block *block) {
    if (block->kind == STUB_PHYSICAL && --block->references != 0)
        return;
    if (block->domain[0] != '\0')
        stub_note("free", block->domain, block->key, block->bytes);
    if (block->device >= 0)
        stub_used[block->device] -= block->bytes;
    if (block->was_given && stub_spares < STUB_ROWS)
        stub_spare[stub_spares++] = block->key;
    block->kind = 0;
}

static inline struct stub_block *stub_find(int kind, uint64_t key) {
    for (struct stub_block *block = stub_blocks; block < stub_blocks + STUB_ROWS; block++)
        if (block->kind == kind && block->key == key)
            return block;
    return NULL;
}

/* `key`: where the address goes, or the program's own address where wanted.key is set. `taken`: what the device gives
 * up for it. */
static inline bool stub_give(const struct stub_block *wanted, const char *function, bool fails,
                             uint64_t taken, void *key) {
    pthread_mutex_lock(&stub_lock);
    struct stub_block *block = stub_add(wanted, function, fails, taken);
    if (block != NULL && wanted->key == 0)
        *(uint64_t *)key = block->key;
    pthread_mutex_unlock(&stub_lock);
    return block != NULL;
}

static inline bool stub_take(int kind, uint64_t key, bool fails) {
    pthread_mutex_lock(&stub_lock);
    struct stub_block *block = fails || key == 0 ? NULL : stub_find(kind, key);
    if (block != NULL)
        stub_drop(block);
    pthread_mutex_unlock(&stub_lock);
    return block != NULL;
}

/* --- physical memory ------------------------------------------------------------------------ */

static inline struct stub_reference *stub_at(struct stub_reference *table, uint64_t at) {
    for (struct stub_reference *row = table; row < table + STUB_ROWS; row++)
        if (row->at == at)
            return row;
    return NULL;
}

static inline uint64_t stub_new_handle(struct stub_block *block) {
    struct stub_reference *row = stub_at(stub_handles, 0);
    uint64_t value = STUB_FIRST_HANDLE + 16 * (uint64_t)(row - stub_handles);
    *row = (struct stub_reference){.at = value, .count = 1, .block = block};
    block->references++;
    return value;
}

static inline void stub_unrefer(struct stub_reference *row) {
    if (--row->count != 0)
        return;
    row->at = 0;
    stub_drop(row->block);
}

static inline bool stub_create(const struct stub_block *wanted, const char *function, bool fails,
                               void *handle) {
    pthread_mutex_lock(&stub_lock);
    struct stub_block *block = stub_add(wanted, function, fails, wanted->bytes);
    if (block != NULL)
        *(uint64_t *)handle = stub_new_handle(block);
    pthread_mutex_unlock(&stub_lock);
    return block != NULL;
}

/* Another process's memory. */
static inline bool stub_import(void *handle) {
    struct stub_block foreign = {.kind = STUB_PHYSICAL, .device = -1};
    return stub_create(&foreign, "import", false, handle);
}

static inline bool stub_release(uint64_t handle, bool fails) {
    pthread_mutex_lock(&stub_lock);
    struct stub_reference *row = fails || handle == 0 ? NULL : stub_at(stub_handles, handle);
    if (row != NULL)
        stub_unrefer(row);
    pthread_mutex_unlock(&stub_lock);
    return row != NULL;
}

/* The same handle again where there is one, or with STUB_RETAIN=new always another one. */
static inline bool stub_retain(uint64_t address, void *handle) {
    const char *mode = getenv("STUB_RETAIN");
    bool again = mode == NULL || strcmp(mode, "new") != 0;
    pthread_mutex_lock(&stub_lock);
    struct stub_reference *mapping = address != 0 ? stub_at(stub_mappings, address) : NULL;
    struct stub_reference *row = NULL;
    for (unsigned i = 0; mapping != NULL && again && row == NULL && i < STUB_ROWS; i++)
        if (stub_handles[i].at != 0 && stub_handles[i].block == mapping->block)
            row = &stub_handles[i];
    if (row != NULL)
        row->count++;
    if (mapping != NULL)
        *(uint64_t *)handle = row != NULL ? row->at : stub_new_handle(mapping->block);
    pthread_mutex_unlock(&stub_lock);
    return mapping != NULL;
}

static inline uint64_t stub_reserve(void) {
    return __atomic_add_fetch(&stub_next_address, STUB_SPACING, __ATOMIC_RELAXED);
}

static inline bool stub_map(uint64_t address, uint64_t bytes, uint64_t handle) {
    pthread_mutex_lock(&stub_lock);
    struct stub_reference *row = handle != 0 ? stub_at(stub_handles, handle) : NULL;
    bool fine = row != NULL && address != 0 && stub_at(stub_mappings, address) == NULL;
    if (fine) {
        *stub_at(stub_mappings, 0) = (struct stub_reference){address, bytes, 1, row->block};
        row->block->references++;
    }
    pthread_mutex_unlock(&stub_lock);
    return fine;
}

/* All mappings in the range. */
static inline bool stub_unmap(uint64_t address, uint64_t bytes, bool fails) {
    bool found = false;
    pthread_mutex_lock(&stub_lock);
    for (struct stub_reference *m = stub_mappings; !fails && m < stub_mappings + STUB_ROWS; m++)
        if (m->at != 0 && m->at >= address && m->at + m->bytes <= address + bytes) {
            stub_unrefer(m);
            found = true;
        }
    pthread_mutex_unlock(&stub_lock);
    return found;
}

/* A context or a device ends, and all that is left in it. */
static inline void stub_end(uint64_t container) {
    struct stub_reference *const tables[] = {stub_mappings, stub_handles};
    pthread_mutex_lock(&stub_lock);
    for (unsigned t = 0; t < 2; t++)
        for (struct stub_reference *row = tables[t]; row < tables[t] + STUB_ROWS; row++)
            if (row->at != 0 && row->block->container == container) {
                row->count = 1;
                stub_unrefer(row);
            }
    for (struct stub_block *block = stub_blocks; block < stub_blocks + STUB_ROWS; block++)
        if (block->kind > 0 && block->container == container)
            stub_drop(block);
    pthread_mutex_unlock(&stub_lock);
}

#endif
