/*
 * unwind_fp.h - one step by the frame record that the frame pointer register points to.
 *
 * Model: a frame record is two words, the caller's frame pointer and the return address. Code without call
 * frame information may keep any value in the register, so a step believes a record only if it lies above
 * the stack pointer in the stack in use, and leads to code. That is: behind a call in a module (anywhere in
 * its code if the frame pointer there is 0); an address for which the cache already has a rule; memory of no
 * module, if the caller's frame pointer is 0 or leads up the stack in its turn. Return address and frame
 * pointer 0, or frame pointer 0 in the record that led here, mark the outermost frame (the ABIs of both
 * processors).
 *
 * Other stacks: code of a module that switches stacks and keeps the frame pointer (Go's asmcgocall) has its
 * record on the stack it came from. The step copies the two words by a system call, which cannot fault, and
 * goes on there only if they pass the same checks; without permission for system calls such a stack ends.
 */
#ifndef MP_UNWIND_FP_H
#define MP_UNWIND_FP_H

#include "unwind_walk.h"

#define MP_FP_RECORD_BYTES (2 * sizeof(uintptr_t))

/* HOOK. Leave one frame, `in_module`: of a module's code, by its frame record. On false, either w->end is
 * MP_UNWIND_OUTERMOST, or there is no record to believe. */
bool mp_fp_step(struct mp_walk *w, bool in_module);

#endif
