/*
 * code_lifetime.c - see code_lifetime.h.
 */
#include "code_lifetime.h"
#include "unwind/modules.h"

#include <stddef.h>

#define BEGINNING ((uintptr_t)1) /* in `ours`: a thread is at it; in no slot */

struct mp_py_deaths mp_py_deaths;

typedef void dealloc_function(void *object);

static uintptr_t
    real[MP_PY_DEALLOCS]; /* set before the slot is redirected, and constant after that */

static inline __attribute__((always_inline)) void count(unsigned number, void *object) {
    mp_add_relaxed(mp_py_death_cell((uintptr_t)object), 1);
    mp_add_relaxed(&mp_py_deaths.all, 1);
    ((dealloc_function *)mp_load_relaxed(&real[number]))(object);
}

static void count_0(void *object) {
    count(0, object);
}

static void count_1(void *object) {
    count(1, object);
}

static void count_2(void *object) {
    count(2, object);
}

static void count_3(void *object) {
    count(3, object);
}

static dealloc_function *const functions[MP_PY_DEALLOCS] = {count_0, count_1, count_2, count_3};

/* Do the headers say that the loader leaves the word writable? */
static bool is_written(const Elf64_Phdr *phdr, unsigned count, uintptr_t at) {
    bool written = false;
    for (unsigned i = 0; i < count; i++) {
        bool inside = at >= phdr[i].p_vaddr && at - phdr[i].p_vaddr < phdr[i].p_memsz;
        if (phdr[i].p_type == PT_GNU_RELRO && inside)
            return false;
        if (phdr[i].p_type == PT_LOAD && (phdr[i].p_flags & PF_W) && inside)
            written = phdr[i].p_memsz - (at - phdr[i].p_vaddr) >= sizeof(uintptr_t);
    }
    return written;
}

/* The type may be the program's copy, in another module than the interpreter's. */
static bool is_writable(uintptr_t slot) {
    struct mp_module m;
    unsigned count = 0;
    if (slot % sizeof slot != 0 || !mp_module_find(slot, &m))
        return false;
    const Elf64_Phdr *phdr = mp_module_headers(&m, &count);
    return phdr != NULL && is_written(phdr, count, slot - m.bias);
}

static bool is_of_module(uintptr_t function, uintptr_t module_start) {
    struct mp_module m;
    return mp_module_find(function, &m) && m.start == module_start;
}

static bool take_slot(uintptr_t *slot, unsigned number, uintptr_t module_start) {
    uintptr_t now = mp_load_relaxed(slot), ours = (uintptr_t)functions[number];
    if (now == ours)
        return true;
    if (!is_of_module(now, module_start) || !is_writable((uintptr_t)slot))
        return false;
    mp_store_release(&real[number], now);
    return mp_cas_u64((uint64_t *)slot, now, ours);
}

void mp_py_deaths_begin(struct mp_py_dealloc *dealloc, unsigned number, uintptr_t module_start) {
    if (!mp_cas_u64((uint64_t *)&dealloc->ours, 0, BEGINNING))
        return;
    bool taken = take_slot(dealloc->slot, number, module_start);
    for (unsigned i = 0; taken && i < 1u << MP_PY_DEATH_BITS; i++)
        mp_add_relaxed(&mp_py_deaths.cell[i], 1);
    if (taken)
        mp_add_relaxed(&mp_py_deaths.all, 1);
    mp_store_release(&dealloc->ours, taken ? (uintptr_t)functions[number] : 0);
}

void mp_py_deaths_end(struct mp_py_dealloc *dealloc, unsigned number) {
    uintptr_t ours = (uintptr_t)functions[number];
    mp_cas_u64((uint64_t *)&dealloc->ours, ours, 0);
    if (mp_load_relaxed(dealloc->slot) == ours)
        mp_cas_u64((uint64_t *)dealloc->slot, ours, mp_load_relaxed(&real[number]));
}

void mp_py_deaths_lost(struct mp_py_dealloc *dealloc, uintptr_t ours) {
    if (ours != BEGINNING)
        mp_cas_u64((uint64_t *)&dealloc->ours, ours, 0);
}
