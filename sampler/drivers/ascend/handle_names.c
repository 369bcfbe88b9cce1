/*
 * handle_names.c - see launch.h.
 */
#include "abi/atomics.h"
#include "device/launches.h"
#include "launch.h"

#include <stddef.h>

#define ROWS 16384u /* 256 KiB; pages that nobody writes cost nothing */
#define PROBES 32u
#define KIND_SHIFT 60

static struct row {
    uint64_t key;  /* 0: free */
    uint64_t text; /* epoch of the segment << 32 | id */
} handle_names[ROWS];

static uint64_t key_of(enum mp_handle_kind kind, const void *handle) {
    return (uint64_t)(uintptr_t)handle ^ (uint64_t)kind << KIND_SHIFT;
}

/* The row of the key; NULL: none, and no free one where `adds`. */
static struct row *row_of(uint64_t key, bool adds) {
    uint32_t first = (uint32_t)(key * 0x9e3779b97f4a7c15ULL >> 40);
    for (uint32_t i = 0; i < PROBES; i++) {
        struct row *row = &handle_names[(first + i) % ROWS];
        uint64_t found = mp_load_relaxed(&row->key);
        if (found == 0 && adds && mp_cas_u64(&row->key, 0, key))
            return row;
        found = mp_load_relaxed(&row->key);
        if (found == key)
            return row;
        if (found == 0)
            return NULL;
    }
    return NULL;
}

void mp_handle_name(enum mp_handle_kind kind, const void *handle, uint32_t id) {
    struct row *row = row_of(key_of(kind, handle), id != 0);
    if (row != NULL)
        mp_store_relaxed(&row->text, (uint64_t)mp_launch_epoch() << 32 | id);
}

uint32_t mp_handle_text(enum mp_handle_kind kind, const void *handle) {
    const struct row *row = row_of(key_of(kind, handle), false);
    uint64_t text = row != NULL ? mp_load_relaxed(&row->text) : 0;
    return text >> 32 == mp_launch_epoch() ? (uint32_t)text : 0;
}
