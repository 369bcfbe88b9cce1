/*
 * unwind_code.c - see unwind_code.h.
 */
#include "unwind_code.h"
#include "unwind_arch.h"

#include <elf.h>
#include <sys/auxv.h>

#define LOWEST_MAPPING ((uintptr_t)65536) /* as Linux and its distributions configure it */
#define PAGE_BITS 12
#define MODULES 256
#define PROBES 8
#define EPOCH_BITS 16

extern void *__curbrk __attribute__((weak)); /* glibc's: the end of the heap of brk() */

static uintptr_t heap_start;
static uintptr_t span_low = UINTPTR_MAX, span_high; /* [low, high) has all addresses kept outside */
static uint64_t modules[MODULES]; /* page of the start, epoch; 0: free */
static uint32_t epoch = 1; /* moves when modules may have been unloaded */

void mp_code_init(void) {
    struct mp_module program;
    heap_start = mp_module_find(getauxval(AT_ENTRY), &program) ? program.end : 0;
}

/* Are the `bytes` before `end` in one segment with these flags? */
static bool is_in_segment(const struct mp_module *module, uintptr_t end, size_t bytes,
                          uint32_t flags) {
    unsigned count;
    const Elf64_Phdr *phdr = mp_module_headers(module, &count);
    for (unsigned i = 0; phdr != NULL && i < count; i++) {
        uintptr_t at = end - bytes - (module->bias + phdr[i].p_vaddr);
        if (phdr[i].p_type == PT_LOAD && (phdr[i].p_flags & flags) == flags &&
            at < phdr[i].p_memsz && bytes <= phdr[i].p_memsz - at)
            return true;
    }
    return false;
}

bool mp_code_in_module(const struct mp_module *module, uintptr_t at) {
    unsigned count;
    return mp_module_headers(module, &count) == NULL || is_in_segment(module, at + 1, 1, PF_X);
}

bool mp_code_is_after_call(const struct mp_module *module, uintptr_t pc) {
    return is_in_segment(module, pc, MP_ARCH_CALL_BYTES, PF_X | PF_R) && mp_arch_is_after_call(pc);
}

static bool is_in_heap(uintptr_t at) {
    return &__curbrk != NULL && heap_start != 0 && at >= heap_start &&
           at < (uintptr_t)__atomic_load_n(&__curbrk, __ATOMIC_RELAXED);
}

bool mp_code_outside(uintptr_t at, const struct mp_stack_range *stack) {
    return at >= LOWEST_MAPPING && !(at >= stack->low && at < stack->high) && !is_in_heap(at);
}

void mp_code_keep_outside(uintptr_t at) {
    uintptr_t low = __atomic_load_n(&span_low, __ATOMIC_RELAXED);
    while (at < low && !__atomic_compare_exchange_n(&span_low, &low, at, false, __ATOMIC_SEQ_CST,
                                                    __ATOMIC_RELAXED)) {
    }
    uintptr_t high = __atomic_load_n(&span_high, __ATOMIC_RELAXED);
    while (at >= high && !__atomic_compare_exchange_n(&span_high, &high, at + 1, false,
                                                      __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
    }
}

/* True if the module was not in the table, which then has it. */
static bool is_new(const struct mp_module *module) {
    uint64_t now = __atomic_load_n(&epoch, __ATOMIC_RELAXED) & ((1u << EPOCH_BITS) - 1);
    uint64_t word = (uint64_t)(module->start >> PAGE_BITS) << EPOCH_BITS | now;
    unsigned first = (unsigned)((module->start >> PAGE_BITS) * 0x9e3779b97f4a7c15ULL >> 56);
    for (unsigned i = 0; i < PROBES; i++) {
        uint64_t *at = &modules[(first + i) % MODULES];
        uint64_t there = __atomic_load_n(at, __ATOMIC_RELAXED);
        bool is_free = there == 0 || (there & ((1u << EPOCH_BITS) - 1)) != now;
        if (is_free && __atomic_compare_exchange_n(at, &there, word, false, __ATOMIC_SEQ_CST,
                                                   __ATOMIC_RELAXED))
            return true;
        if (there == word)
            return false;
    }
    return false;
}

bool mp_code_is_overlaid(const struct mp_module *module) {
    return !module->permanent && module->start < __atomic_load_n(&span_high, __ATOMIC_SEQ_CST) &&
           module->end > __atomic_load_n(&span_low, __ATOMIC_SEQ_CST) && is_new(module);
}

void mp_code_forget_modules(void) {
    __atomic_fetch_add(&epoch, 1, __ATOMIC_SEQ_CST);
}
