/*
 * unwind_libgcc.c - the same stack by _Unwind_Backtrace of the libgcc that the program has loaded.
 *
 * INIT finds the library among the loaded modules; we never link it: a program without it cannot use this
 * mode. Its first call may initialise and allocate, so INIT makes one. With a glibc older than 2.35, or
 * code registered by __register_frame, libgcc takes locks; the other modes do not.
 */
#include "unwind_libgcc.h"

#include <errno.h>
#include <stddef.h>

/* Itanium C++ ABI, level I: reason codes and signatures. */
#define REASON_CONTINUE 0
#define REASON_END_OF_STACK 5
#define REASON_STOP 4 /* any code but the first ends the walk */

struct unwind_context;
typedef int trace_function(struct unwind_context *context, void *argument);

static int (*backtrace_of)(trace_function *trace, void *argument);
static uintptr_t (*context_ip)(struct unwind_context *context);

struct trace {
    uintptr_t from; /* skip our own frames until this one; 0: found */
    uintptr_t *pcs;
    unsigned max;
    unsigned depth;
    bool truncated;
};

static int trace_frame(struct unwind_context *context, void *argument) {
    struct trace *trace = argument;
    uintptr_t pc = context_ip(context);
    if (trace->from != 0 && pc != trace->from)
        return REASON_CONTINUE;
    trace->from = 0;
    if (pc == 0)
        return REASON_CONTINUE;
    if (trace->depth == trace->max) {
        trace->truncated = true;
        return REASON_STOP;
    }
    trace->pcs[trace->depth++] = pc;
    return REASON_CONTINUE;
}

int mp_libgcc_init(void *(*find_symbol)(const char *name)) {
    if (find_symbol == NULL)
        return -ENOENT;
    void *backtrace = find_symbol("_Unwind_Backtrace");
    void *ip = find_symbol("_Unwind_GetIP");
    if (backtrace == NULL || ip == NULL)
        return -ENOENT;
    backtrace_of = (int (*)(trace_function *, void *))(uintptr_t)backtrace;
    context_ip = (uintptr_t (*)(struct unwind_context *))(uintptr_t)ip;
    uintptr_t pcs[4];
    struct trace trace = {.pcs = pcs, .max = 4};
    backtrace_of(trace_frame, &trace);
    return 0;
}

unsigned mp_libgcc_unwind(const struct mp_frame *from, uintptr_t *pcs, unsigned max,
                          struct mp_unwind_result *result) {
    struct trace trace = {.from = from->pc, .pcs = pcs, .max = max};
    int saved_errno = errno;
    int reason = backtrace_of(trace_frame, &trace);
    errno = saved_errno;
    if (trace.truncated)
        result->end = MP_LOST_TRUNCATED;
    else
        result->end = reason == REASON_END_OF_STACK ? MP_UNWIND_OUTERMOST : MP_LOST_UNWIND_BAD_RULE;
    if (trace.depth == 0) {
        pcs[trace.depth++] = from->pc;
        result->end = MP_LOST_UNWIND_BAD_RULE;
    }
    result->depth = trace.depth;
    return trace.depth;
}
