/*
 * heap_reports.c - see heap_reports.h.
 */
#include "heap_reports.h"
#include "core/record.h"
#include "device/heaps.h"
#include "redirect/elf_lookup.h"
#include "redirect/redirect_later.h"

#define MEM_PROFILER_DISABLE
#include <mem_profiler.h>

#include <string.h>

#define NOTE_CALLS 1u
#define CALLED __attribute__((noinline)) static
#define SLOW __attribute__((noinline)) static

_Static_assert(sizeof(struct mp_heap_words) == sizeof((struct mem_profiler_heap *)0)->of_sampler,
               "the sampler's words fit");

/* False: no heap of a version that we know. `name` is the copy in *out. */
static bool read_heap(struct mem_profiler_heap *heap, struct mp_heap *out,
                      char name[MEM_PROFILER_NAME_BYTES]) {
    if (heap == NULL || heap->bytes < sizeof *heap)
        return false;
    unsigned kind = heap->flags & (MEM_PROFILER_EXACT | MEM_PROFILER_OWN_PAGES);
    memcpy(name, heap->name, MEM_PROFILER_NAME_BYTES);
    name[MEM_PROFILER_NAME_BYTES - 1] = '\0';
    *out = (struct mp_heap){.words = (struct mp_heap_words *)(void *)heap->of_sampler,
                            .name = name[0] != '\0' ? name : "unnamed",
                            .kind = (enum mp_memory_kind)(MP_MEMORY_HEAP + kind),
                            .is_arena = (heap->flags & MEM_PROFILER_ARENA) != 0};
    return true;
}

static inline bool is_due(const struct mem_profiler_heap *heap, size_t bytes) {
    if (mp_unlikely(heap != NULL && (heap->flags & MEM_PROFILER_EXACT) != 0))
        return mp_gate() != MP_GATE_OFF;
    return mp_sample_due(bytes);
}

static void record(struct mem_profiler_heap *reported, struct mp_heap_block *block) {
    struct mp_heap heap;
    char name[MEM_PROFILER_NAME_BYTES];
    if (block->address != 0 && read_heap(reported, &heap, name))
        mp_heap_alloc(&heap, block);
}

/* Frame 0 of its blocks is what the program calls. */
MP_REALIGN SLOW void report(struct mem_profiler_heap *heap, const void *pool, const void *address,
                            size_t bytes) __asm__("mem_profiler_report_allocation");

MP_REALIGN SLOW void report(struct mem_profiler_heap *heap, const void *pool, const void *address,
                            size_t bytes) {
    struct mp_heap_block block = {
        .address = (uintptr_t)address, .bytes = bytes, .pool = (uintptr_t)pool};
    MP_CALLER(block.caller);
    block.api_pc = (uintptr_t)report;
    record(heap, &block);
}

SLOW void end(struct mem_profiler_heap *reported, const void *address) {
    struct mp_heap heap;
    char name[MEM_PROFILER_NAME_BYTES];
    if (read_heap(reported, &heap, name))
        mp_heap_free(&heap, (uintptr_t)address);
}

/* Every free counts where every block does. */
static inline bool may_be_known(const struct mem_profiler_heap *heap, const void *block) {
    return mp_free_hit(block) || (heap != NULL && (heap->flags & MEM_PROFILER_EXACT) != 0);
}

CALLED void allocated(struct mem_profiler_heap *heap, const void *block, size_t bytes) {
    if (is_due(heap, bytes))
        report(heap, NULL, block, bytes);
}

CALLED void allocated_in(struct mem_profiler_heap *heap, const void *pool, const void *block,
                         size_t bytes) {
    if (is_due(heap, bytes))
        report(heap, pool, block, bytes);
}

CALLED void freed(struct mem_profiler_heap *heap, const void *block) {
    if (may_be_known(heap, block))
        end(heap, block);
}

CALLED void resized(struct mem_profiler_heap *heap, const void *before, const void *after,
                    size_t bytes) {
    if (before != NULL)
        freed(heap, before);
    if (is_due(heap, bytes))
        report(heap, NULL, after, bytes);
}

CALLED void emptied(struct mem_profiler_heap *reported) {
    struct mp_heap heap;
    char name[MEM_PROFILER_NAME_BYTES];
    if (read_heap(reported, &heap, name))
        mp_heap_reset(&heap);
}

CALLED void emptied_pool(struct mem_profiler_heap *reported, const void *pool) {
    struct mp_heap heap;
    char name[MEM_PROFILER_NAME_BYTES];
    if (read_heap(reported, &heap, name))
        mp_heap_end_pool(&heap, (uintptr_t)pool);
}

static const struct mem_profiler_calls calls = {.bytes = sizeof calls,
                                                .version = MEM_PROFILER_VERSION,
                                                .allocated = allocated,
                                                .freed = freed,
                                                .resized = resized,
                                                .emptied = emptied,
                                                .allocated_in = allocated_in,
                                                .emptied_pool = emptied_pool};

/* For programs that cannot have a note: Python's. */
const struct mem_profiler_calls *mem_profiler_heap_calls(void);
__attribute__((visibility("default"))) const struct mem_profiler_calls *
mem_profiler_heap_calls(void) {
    return &calls;
}

/* Is the word writable, now that the loader is done? */
static bool is_writable(const struct mp_elf *elf, uintptr_t address) {
    if (address % sizeof(void *) != 0 ||
        mp_elf_segment_rest(elf, address, PF_R | PF_W) < sizeof(void *))
        return false;
    for (unsigned i = 0; i < elf->phdrs; i++)
        if (elf->phdr[i].p_type == PT_GNU_RELRO &&
            address - (elf->base + elf->phdr[i].p_vaddr) < elf->phdr[i].p_memsz)
            return false;
    return true;
}

static bool put(const struct mp_elf *elf, void *arg) {
    size_t bytes = 0;
    int64_t distance;
    const char *note = mp_elf_note(elf, "mem_profiler", NOTE_CALLS, &bytes);
    if (note == NULL || bytes < sizeof distance || mp_elf_is_self(elf))
        return false;
    memcpy(&distance, note, sizeof distance);
    uintptr_t place = (uintptr_t)note + (uintptr_t)distance;
    if (!is_writable(elf, place))
        return false;
    const struct mem_profiler_calls **pointer = (const struct mem_profiler_calls **)place;
    const struct mem_profiler_calls *there = mp_load_relaxed(pointer);
    if (there == NULL || there == &calls)
        mp_store_release(pointer, (const struct mem_profiler_calls *)arg);
    return false;
}

void mp_heaps_find(void) {
    mp_elf_visit(put, (void *)(uintptr_t)&calls);
}

void mp_heaps_follow(void) {
    static struct mp_slot_counts loader;
    mp_redirect_look(mp_heaps_find, &loader);
}

void mp_heaps_withdraw(void) {
    mp_elf_visit(put, NULL);
}
