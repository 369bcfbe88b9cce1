/*
 * arch.h - the engine's facts about the processor. One header each defines the same names:
 *
 * struct mp_regs                  general registers as ptrace gives them
 * struct mp_pad_data              what the pad needs to put them back by itself
 * MP_XSTATE_NOTE, _BYTES          the regset of vector registers, room for it
 * mp_regs_get_rest, _set_rest     what PTRACE_GETREGSET of NT_PRSTATUS leaves out
 * mp_regs_pc, _sp, _fp, _ra       for unwinding (ra: link register, 0 where there is none)
 * mp_regs_syscall(r)              system call that the stopped thread is in, -1: none
 * mp_regs_second(r)               its second argument
 * mp_regs_result(r)               what a system call returned
 * mp_regs_interrupted(r)          whether the stop ended it before it had done anything
 * mp_regs_at_entry(r)             the stop is before a system call, not behind it
 * mp_regs_region(r), _code(r)     the pad's registers: the region, the result
 * mp_regs_enter(r, pc, region)    go on at pc, as the pad or the payload expects it
 * mp_regs_hide_stop(r)            undo what our own stop did to the interrupted system call
 * mp_pad_fill(data, r, mask)      values with which the pad repeats what the kernel would do
 * mp_pad_can_return(pad, r)       whether the pad's last jump reaches where the thread was
 * mp_pad_link(copy, pad, r)       finish the copy of the pad that will lie at `pad`
 * mp_has_xsave()                  x86_64: xsave exists
 *
 * How interrupted system calls go on: the kernel leaves -ERESTART* as their result and repeats them when
 * the thread returns to its program, unless a signal handler must run first. With the old registers that
 * happens by itself. A few calls give -EINTR at once; where our stop alone is the reason, the engine
 * makes them look like the others (signal(7), "interruption of system calls by stop signals").
 */
#ifndef MP_INJECT_ARCH_H
#define MP_INJECT_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Results that the kernel keeps to itself and ptrace shows (linux/errno.h). */
#define MP_ERESTARTSYS 512
#define MP_ERESTARTNOINTR 513
#define MP_ERESTARTNOHAND 514
#define MP_ERESTART_RESTARTBLOCK 516

#if defined(__x86_64__)
#include "arch_x86_64.h"
#elif defined(__aarch64__)
#include "arch_aarch64.h"
#else
#error "only x86_64 and aarch64 are supported"
#endif

#endif
