/*
 * device_scope.h - of several nested driver calls, the one that names a block and the one that counts it.
 *
 * Model: one API calls another one (aclrtMalloc -> rtMalloc -> halMemAlloc), and we wrap both. Each
 * wrapper holds a scope for the time of its call. Of the scopes of one family that are open in a thread,
 * the outermost one names the API and the caller, and the innermost one that sees the block counts it;
 * the ones around it then do not. The outermost wrapper that frees takes the free. A refusal further in
 * counts only if the outermost call fails too: a successful second try is no loss. Scopes of different
 * families (OpenCL on CUDA) are independent: these are two domains.
 *
 *   noinline int wrapper(...) {
 *       struct mp_device_scope scope;
 *       struct mp_frame caller;
 *       MP_CALLER(caller);
 *       mp_device_enter(&scope, MP_FAMILY_X, (uintptr_t)wrapper, &caller);
 *       int rc = real(...);
 *       if (rc == 0) mp_device_scope_alloc(&scope, &block); else mp_device_scope_refused(&scope, &block);
 *       mp_device_leave(&scope, rc == 0);
 *       return rc;
 *   }
 *
 * A scope is in its wrapper's frame. If longjmp or an exception leaves a scope, the next
 * mp_device_enter() detects and forgets it.
 *
 * Threads: HOOK; a scope belongs to its thread. errno preserved.
 */
#ifndef MP_DEVICE_SCOPE_H
#define MP_DEVICE_SCOPE_H

#include "device.h"

enum mp_device_family {
    MP_FAMILY_HAL = 1,
    MP_FAMILY_CUDA,
    MP_FAMILY_HIP,
    MP_FAMILY_OPENCL,
    MP_FAMILY_VULKAN,
    MP_FAMILY_ZE,
    MP_FAMILY_POOL,
    MP_FAMILY_LAUNCH,
};

struct mp_device_scope {
    uintptr_t mark;                 /* distinguishes a scope in force from reused memory */
    struct mp_device_scope *before; /* the thread's innermost scope before; perhaps gone */
    struct mp_device_scope *outer;  /* the next one out that is in force; NULL: none */
    struct mp_device_scope *top; /* outermost in force of this family; itself if none is around */
    enum mp_device_family family;
    bool counted; /* a scope further in counted a block: this one does not */
    bool refused; /* top only: `refusal` is filled */
    uint32_t taken_space; /* 0: this scope took nothing */
    uint64_t taken_address;
    uintptr_t api_pc;
    struct mp_frame caller;
    struct mp_device_block refusal; /* the largest one within this call */
};

/* Open the scope of a wrapper. `api_pc`: its first byte; `caller` from MP_CALLER. */
void mp_device_enter(struct mp_device_scope *scope, enum mp_device_family family, uintptr_t api_pc,
                     const struct mp_frame *caller);

/* Close it. `succeeded`: the result of the real function. False on the outermost one counts the refusal. */
void mp_device_leave(struct mp_device_scope *scope, bool succeeded);

/* mp_device_alloc() unless a scope further in counted, or the address is 0 (0 bytes were asked for); api_pc and caller
 * are filled in here. */
void mp_device_scope_alloc(struct mp_device_scope *scope, struct mp_device_block *block);

/* The driver refused a block: counts when the outermost call fails. */
void mp_device_scope_refused(struct mp_device_scope *scope, const struct mp_device_block *block);

/* mp_device_take() unless a scope around this one took the same block. */
void mp_device_scope_take(struct mp_device_scope *scope, uint32_t space, uint64_t address,
                          struct mp_device_taken *taken);

/* Whether a scope of this family is open around this one: the call comes from another wrapped API. */
static inline bool mp_device_scope_nested(const struct mp_device_scope *scope) {
    return scope->top != scope;
}

#endif
