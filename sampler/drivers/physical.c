/*
 * physical.c - see physical.h.
 *
 * Tables: open addressing over a window that every look-up reads whole, so that removal is a store of 0
 * and nothing ever moves. A compare-and-swap of its key claims a row, and the store of its number
 * publishes it (release; pairs with the acquire loads of both before a read of the row). Counts of
 * references use acquire and release, so that the thread that drops the last one clears a row that nobody
 * uses any more.
 *
 * Limits: two tables of 3 MiB, whose pages come with the first rows. A driver maps memory in pieces of
 * 2 MiB or more: 65536 of them are 128 GiB.
 */
#include "physical.h"
#include "abi/atomics.h"

#define ROWS 65536u /* power of two; a row is used for each handle, or each mapping */
#define WINDOW 64u  /* rows a key may lie in, and a look-up reads at most */
#define NOBODYS UINT64_MAX /* the number of memory that is not ours: it never names a block */

struct row {
    uint64_t key;       /* mix of space and handle, or of space and address; 0: free */
    uint64_t number;    /* of the memory; 0: being written */
    uint64_t value;     /* the handle, or the address */
    uint64_t container; /* handles */
    uint64_t bytes;     /* mappings */
    uint32_t count;     /* handles: references */
    uint32_t space;
};

static struct row handles[ROWS];
static struct row mappings[ROWS];
static uint64_t last_number;
static uint32_t used; /* anything was ever written */

static uint64_t key_of(uint32_t space, uint64_t value) {
    uint64_t x = value ^ (uint64_t)space << 57;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
    return (x ^ x >> 31) | 1;
}

static struct row *row_at(struct row *table, uint64_t key, unsigned i) {
    return &table[((key >> 40 ^ key >> 8) + i) & (ROWS - 1)];
}

/* The row of a value; NULL: none. */
static struct row *find(struct row *table, uint32_t space, uint64_t value) {
    uint64_t key = key_of(space, value);
    for (unsigned i = 0; i < WINDOW; i++) {
        struct row *row = row_at(table, key, i);
        if (mp_load_acquire(&row->key) == key && mp_load_acquire(&row->number) != 0 &&
            row->value == value && row->space == space)
            return row;
    }
    return NULL;
}

static void add(struct row *table, const struct row *content) {
    uint64_t key = key_of(content->space, content->value);
    mp_store_relaxed(&used, 1u);
    for (unsigned i = 0; i < WINDOW; i++) {
        struct row *row = row_at(table, key, i);
        if (mp_load_relaxed(&row->key) != 0 || !mp_cas_u64(&row->key, 0, key))
            continue;
        row->value = content->value;
        row->space = content->space;
        row->container = content->container;
        row->bytes = content->bytes;
        mp_store_relaxed(&row->count, content->count);
        mp_store_release(&row->number, content->number);
        return;
    }
}

static void clear(struct row *row) {
    mp_store_release(&row->number, 0ULL);
    mp_store_release(&row->key, 0ULL);
}

static void drop_owner(uint32_t space, uint64_t number) {
    struct mp_device_taken taken;
    mp_device_take(space, number, &taken);
}

void mp_physical_create(struct mp_device_scope *scope, struct mp_device_block *block) {
    struct row row = {.number = mp_add_relaxed(&last_number, 1) + 1,
                      .value = block->address,
                      .space = block->space,
                      .container = block->container,
                      .count = 1};
    struct row *old = find(handles, block->space, block->address);
    if (old != NULL)
        clear(old); /* its release was not seen */
    add(handles, &row);
    block->address = row.number;
    mp_device_scope_alloc(scope, block);
}

/* Drop one reference of a handle; the last one removes it. */
static void unref(struct row *row) {
    if (__atomic_sub_fetch(&row->count, 1, __ATOMIC_ACQ_REL) == 0)
        clear(row);
}

void mp_physical_release(uint32_t space, uint64_t handle, struct mp_physical_released *released) {
    struct row *row = find(handles, space, handle);
    *released = (struct mp_physical_released){.space = space, .handle = handle};
    if (row == NULL)
        return;
    released->number = row->number;
    released->container = row->container;
    unref(row);
    mp_device_take(space, released->number, &released->taken);
}

/* One more reference: of a handle that is there, or by a new handle for memory of that number. */
static void ref(uint32_t space, uint64_t handle, uint64_t number, uint64_t container) {
    struct row *row = find(handles, space, handle);
    if (row != NULL && row->number == number) {
        mp_add_relaxed(&row->count, 1u);
        return;
    }
    if (row != NULL)
        clear(row);
    add(handles,
        &(struct row){
            .number = number, .value = handle, .space = space, .container = container, .count = 1});
}

void mp_physical_put_back(const struct mp_physical_released *released) {
    if (released->number == 0)
        return;
    ref(released->space, released->handle, released->number, released->container);
    mp_device_put_back(&released->taken);
}

/* The mapping that holds an address. Most ask by its beginning. */
static struct row *mapping_around(uint32_t space, uint64_t address) {
    struct row *row = find(mappings, space, address);
    for (unsigned i = 0; row == NULL && i < ROWS; i++)
        if (mp_load_acquire(&mappings[i].number) != 0 && mappings[i].space == space &&
            address - mappings[i].value < mappings[i].bytes)
            row = &mappings[i];
    return row;
}

void mp_physical_retain(uint32_t space, uint64_t handle, uint64_t mapped) {
    struct row *mapping = mapping_around(space, mapped);
    if (mapping == NULL || mapping->number == NOBODYS)
        return;
    ref(space, handle, mapping->number, mapping->container);
    mp_device_retain(space, mapping->number);
}

void mp_physical_import(uint32_t space, uint64_t handle) {
    struct row *row = find(handles, space, handle);
    if (row == NULL)
        return;
    mp_add_relaxed(&row->count, 1u);
    mp_device_retain(space, row->number);
}

static void unmap(struct row *mapping) {
    uint32_t space = mapping->space;
    uint64_t number = mapping->number;
    clear(mapping);
    drop_owner(space, number);
}

void mp_physical_map(uint32_t space, uint64_t handle, uint64_t address, uint64_t bytes) {
    struct row *row = find(handles, space, handle), *old = find(mappings, space, address);
    if (old != NULL)
        unmap(old); /* its end was not seen */
    if (row != NULL)
        mp_device_retain(space, row->number);
    add(mappings, &(struct row){.number = row != NULL ? row->number : NOBODYS,
                                .value = address,
                                .space = space,
                                .container = row != NULL ? row->container : 0,
                                .bytes = bytes});
}

void mp_physical_unmap(uint32_t space, uint64_t address, uint64_t bytes) {
    uint64_t end = address + bytes;
    do {
        struct row *mapping = find(mappings, space, address);
        if (mapping == NULL)
            return;
        address += mapping->bytes;
        unmap(mapping);
    } while (address < end);
}

void mp_physical_drop(uint32_t space, uint64_t container) {
    struct row *const tables[] = {handles, mappings};
    if (mp_load_relaxed(&used) == 0)
        return;
    for (unsigned t = 0; t < 2; t++)
        for (unsigned i = 0; i < ROWS; i++) {
            struct row *row = &tables[t][i];
            if (mp_load_acquire(&row->number) != 0 && row->space == space &&
                row->container == container)
                clear(row);
        }
    mp_device_drop_container(space, container);
}
