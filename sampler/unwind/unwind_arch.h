/*
 * unwind_arch.h - the unwinder's facts about the processor; one header each defines the same names:
 *
 * MP_ARCH_DWARF_FP, _SP, _RA     DWARF numbers of frame pointer, stack pointer, return address
 * MP_ARCH_RECORD_ENDS_FRAME      does a frame end where its record (saved frame pointer, return address) ends?
 * MP_ARCH_RED_ZONE               bytes below the stack pointer that an interrupted function may use
 * MP_ARCH_PC_LIMIT               one past the highest code address
 * mp_arch_thread_pointer()       address of the thread control block
 * MP_ARCH_DESCRIPTOR_FROM, _TO   where glibc's thread descriptor lies, relative to that pointer
 * mp_arch_return_address(word)   a saved return address without authentication bits
 * mp_arch_is_after_call(pc)      is `pc` what a call, in MP_ARCH_CALL_BYTES readable bytes, returns to?
 * mp_arch_rt_sigreturn           code of the signal return trampoline
 * MP_ARCH_CONTEXT_*              offsets from the stack pointer at the trampoline to saved registers
 * mp_arch_made_context_return()  where a coroutine of makecontext() returns to
 * mp_arch_probe(address)         system call that reads 8 bytes: 0, or -errno as the kernel returns it
 * mp_rule_*()                    how a rule word packs the places of RA and FP (unwind_rule.h)
 */
#ifndef MP_UNWIND_ARCH_H
#define MP_UNWIND_ARCH_H

#if defined(__x86_64__)
#include "unwind_x86_64.h"
#elif defined(__aarch64__)
#include "unwind_aarch64.h"
#else
#error "only x86_64 and aarch64 are supported"
#endif

#endif
