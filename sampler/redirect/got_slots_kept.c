/*
 * got_slots_kept.c - see got_slots_kept.h.
 */
#include "got_slots_kept.h"
#include "relro.h"

#include <sys/auxv.h>
#include <sys/mman.h>

struct kept_row {
    uintptr_t slot;
    uintptr_t old;
    uintptr_t hook;
    const ElfW(Dyn) * dynamic; /* of the module; with its identity, identifies it */
    uint64_t identity;
    bool done; /* of one pass over all modules */
};

#define INDEX_MAX (2 * MP_KEPT_MAX) /* power of two */

static struct {
    struct kept_row row[MP_KEPT_MAX];
    uint32_t index[INDEX_MAX]; /* row + 1 by hash of the slot, open addressing; 0: empty */
    uint32_t count;
    bool on;
    uint64_t removed; /* of the loader's list, at the last mp_kept_prune() */
} kept __attribute__((aligned(65536)));

void mp_kept_begin(void) {
    kept.on = true;
}

bool mp_kept_is_on(void) {
    return kept.on;
}

uint32_t mp_kept_count(void) {
    return kept.count;
}

/* The place of `slot` in the index, or its empty place. */
static uint32_t *place_of(uintptr_t slot) {
    uint32_t at = (uint32_t)((uint64_t)slot * 0x9e3779b97f4a7c15ULL >> 32);
    for (;; at++) {
        uint32_t *place = &kept.index[at & (INDEX_MAX - 1)];
        if (*place == 0 || kept.row[*place - 1].slot == slot)
            return place;
    }
}

static bool put(struct kept_row row) {
    uint32_t *place = place_of(row.slot);
    if (*place == 0) {
        if (kept.count == MP_KEPT_MAX)
            return false;
        *place = ++kept.count;
    }
    kept.row[*place - 1] = row;
    return true;
}

bool mp_kept_note(const struct mp_elf *elf, uint64_t identity, uintptr_t slot, uintptr_t old,
                  uintptr_t hook) {
    return put((struct kept_row){
        .slot = slot, .old = old, .hook = hook, .dynamic = elf->dynamic, .identity = identity});
}

bool mp_kept_adopt(const struct mp_elf *elf, uint64_t identity, uintptr_t slot, uintptr_t old,
                   uintptr_t hook) {
    uint32_t at = *place_of(slot);
    const struct kept_row *row = at != 0 ? &kept.row[at - 1] : NULL;
    if (row != NULL && row->dynamic == elf->dynamic && row->identity == identity)
        return true;
    return mp_kept_note(elf, identity, slot, old, hook);
}

/* Call `visit_row` for each row whose module still is the same one. */
struct pass {
    void (*visit_row)(struct kept_row *row, const struct mp_elf *elf, struct mp_relro *relro,
                      void *arg);
    void *arg;
};

static bool visit_module(const struct mp_elf *elf, void *arg) {
    const struct pass *pass = arg;
    struct mp_relro relro = {0};
    uint64_t identity = 0;
    bool known = false;
    for (uint32_t i = 0; i < kept.count; i++) {
        struct kept_row *row = &kept.row[i];
        if (row->dynamic != elf->dynamic)
            continue;
        if (!known) {
            identity = mp_elf_identity(elf);
            relro = mp_relro_of(elf, true);
            known = true;
        }
        if (row->identity == identity &&
            mp_elf_segment_rest(elf, row->slot, PF_R | PF_W) >= sizeof(uintptr_t))
            pass->visit_row(row, elf, &relro, pass->arg);
    }
    mp_relro_close(&relro);
    return false;
}

static void visit_rows(const struct pass *pass) {
    for (uint32_t i = 0; i < kept.count; i++)
        kept.row[i].done = false;
    mp_elf_visit(visit_module, (void *)pass);
}

static void mark(struct kept_row *row, const struct mp_elf *elf, struct mp_relro *relro,
                 void *arg) {
    (void)elf;
    (void)relro;
    (void)arg;
    row->done = true;
}

void mp_kept_prune(void) {
    uint64_t added, removed;
    mp_elf_counts(&added, &removed);
    if (removed == kept.removed)
        return;
    kept.removed = removed;
    visit_rows(&(struct pass){.visit_row = mark});
    uint32_t rows = kept.count, gone = 0;
    for (uint32_t i = 0; i < rows; i++)
        gone += !kept.row[i].done;
    if (gone == 0)
        return;
    for (uint32_t i = 0; i < INDEX_MAX; i++)
        kept.index[i] = 0;
    kept.count = 0;
    for (uint32_t i = 0; i < rows; i++)
        if (kept.row[i].done)
            put(kept.row[i]);
}

/* By compare-and-swap: the loader may bind the slot at the same time. */
static void restore(struct kept_row *row, const struct mp_elf *elf, struct mp_relro *relro,
                    void *arg) {
    struct mp_kept_counts *counts = arg;
    uintptr_t *slot = (uintptr_t *)row->slot, expected = row->hook;
    (void)elf;
    if (__atomic_load_n(slot, __ATOMIC_RELAXED) != row->hook)
        counts->foreign++;
    else if (!mp_relro_open(relro, row->slot))
        counts->failed++;
    else if (__atomic_compare_exchange_n(slot, &expected, row->old, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
        counts->restored++;
    else
        counts->foreign++;
}

/* Gives the pages back: a detached process keeps none of them. */
static void forget(void) {
    uintptr_t page = getauxval(AT_PAGESZ), start = (uintptr_t)&kept;
    uintptr_t end = (uintptr_t)&kept.count & -page;
    bool zeroed = end > start && madvise((void *)start, end - start, MADV_DONTNEED) == 0;
    for (uint32_t i = 0; i < INDEX_MAX; i++)
        if (!zeroed || (uintptr_t)&kept.index[i] >= end)
            kept.index[i] = 0;
    kept.count = 0;
    kept.on = false;
}

void mp_kept_restore(struct mp_kept_counts *counts) {
    *counts = (struct mp_kept_counts){0};
    visit_rows(&(struct pass){.visit_row = restore, .arg = counts});
    forget();
}
