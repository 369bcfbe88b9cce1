/*
 * unwind_code.h - what may be machine code, and whether a library replaced other code at an
 * address.
 *
 * Model: the program headers of a module tell its executable parts. Outside of modules (JIT code)
 * only the kernel knows, and a hook does not ask: such an address counts as code unless it lies in
 * the stack in use, in the heap of brk() or below all mappings, and a frame record alone leads
 * there only if the record after it is plausible too (unwind_fp.c).
 *
 * The rule cache keeps what was found about such addresses. A library that is opened later may lie over
 * them. The loader tells nobody, so the first rule of a module that was not there at the start, and lies
 * in the span of such addresses, makes the cache forget everything. Until then an address that was code
 * without a module, and is the same byte of a return address in the library, keeps its old rule.
 *
 * Threads: all functions HOOK, except where the text says INIT. The span only grows. A module is one word
 * of a table, which a compare-and-swap fills: of two threads that find it new one forgets the rules, after
 * which the other finds that they are of an older state of the cache.
 *
 * Limits: 256 modules; more of them in one neighbourhood than PROBES are taken for known.
 */
#ifndef MP_UNWIND_CODE_H
#define MP_UNWIND_CODE_H

#include "stack_range.h"
#include "unwind.h"

#include <stdbool.h>
#include <stdint.h>

/* INIT. Find where the heap of brk() begins. */
void mp_code_init(void);

/* HOOK. Is the byte at `at` executable? True where the module does not tell. */
bool mp_code_in_module(const struct mp_module *module, uintptr_t at);

/* HOOK. Does a call in the module's code return to `pc`? */
bool mp_code_is_after_call(const struct mp_module *module, uintptr_t pc);

/* HOOK. May `at`, an address outside of modules, be code? `stack` describes the stack in use. */
bool mp_code_outside(uintptr_t at, const struct mp_stack_range *stack);

/* HOOK. The cache is about to keep a rule for `at`, which is in no module. */
void mp_code_keep_outside(uintptr_t at);

/* HOOK. A rule of the module is asked for. True once for each module that lies over addresses for which
 * the cache may keep a rule: it must forget them. */
bool mp_code_is_overlaid(const struct mp_module *module);

/* HOOK. Modules may have been unloaded: forget all of them. */
void mp_code_forget_modules(void);

#endif
