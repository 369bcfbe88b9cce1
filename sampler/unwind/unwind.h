/*
 * unwind.h - the stack of the calling thread, as return addresses, from inside an allocator hook.
 *
 * Model: the caller of a hook is known exactly (MP_CALLER). From there each return address selects a rule
 * that tells where the frame of its function ends; rules come from the .eh_frame of the module, and a
 * lock-free cache keeps them by exact address (unwind_cache.h). Where there is no rule, frame records lead on
 * (unwind_fp.h); where there is none of these either the stack ends, and the result says why.
 *
 * Threads: mp_unwind() on any number of threads, also in signal handlers and inside the loader. No
 * lock, no allocation, no loader call but _dl_find_object (documented as async-signal-safe), no
 * system call as long as the thread runs on its own stack or that of the main thread.
 */
#ifndef MP_UNWIND_H
#define MP_UNWIND_H

#include "abi/segment.h"
#include "modules.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/* The caller of a hook: the registers after the return of the hook. */
struct mp_frame {
    uintptr_t pc; /* return address */
    uintptr_t sp; /* stack pointer after the return */
    uintptr_t fp; /* frame pointer register of the caller */
};

/*
 * Fill `frame` with the caller of the function that contains the macro. That function must be noinline,
 * must not be the target of a tail call of a wrapper that should be seen, and must not realign its stack.
 * __builtin_frame_address makes the compiler set up a frame pointer in it.
 */
#if defined(__x86_64__)
#define MP_CALLER(frame)                                                                           \
    do {                                                                                           \
        const uintptr_t *mp_record_ = (const uintptr_t *)__builtin_frame_address(0);               \
        (frame).fp = mp_record_[0];                                                                \
        (frame).pc = mp_record_[1];                                                                \
        (frame).sp = (uintptr_t)(mp_record_ + 2);                                                  \
    } while (0)
#elif defined(__aarch64__)
#define MP_CALLER(frame)                                                                           \
    do {                                                                                           \
        const uintptr_t *mp_record_ = (const uintptr_t *)__builtin_frame_address(0);               \
        (frame).fp = mp_record_[0];                                                                \
        (frame).pc = (uintptr_t)__builtin_return_address(0);                                       \
        (frame).sp = (uintptr_t)__builtin_dwarf_cfa();                                             \
    } while (0)
#else
#error "only x86_64 and aarch64 are supported"
#endif

/* mp_unwind_result.end: why the stack has no further frame. Other values are enum mp_lost. */
#define MP_UNWIND_OUTERMOST 0xff

struct mp_unwind_result {
    unsigned depth; /* frames written */
    uint8_t end;    /* MP_UNWIND_OUTERMOST, MP_LOST_UNWIND_* or MP_LOST_TRUNCATED */
};

/*
 * The places of the words that lead from frame to frame. A step's low half is the place of the return
 * address, in words from the stack pointer of the first frame; the high half is 0, or 1 + the place of
 * the frame pointer that was followed to it, which then points to the word before the return address.
 */
#define MP_TRACE_STEPS 128 /* a deeper stack has no complete trace */
#define MP_TRACE_REGISTER 0xffffu /* high half: the caller's frame pointer register */

struct mp_unwind_trace {
    bool complete; /* down to the outermost frame, and every step is one of the above */
    uint32_t steps; /* depth - 1 */
    uint32_t sequence; /* of the rule cache when the walk began */
    uint32_t step[MP_TRACE_STEPS];
};

enum mp_unwind_mode {
    MP_UNWIND_CFI = 0,    /* .eh_frame only: a stack ends at the first code without it */
    MP_UNWIND_FP =
        1,     /* as CFI, and follows frame pointers through code without it; the usual one */
    MP_UNWIND_LIBGCC = 2, /* _Unwind_Backtrace of the program's libgcc */
};

typedef void mp_make_context(ucontext_t *context, void (*function)(void), int arguments, ...);

struct mp_unwind_config {
    enum mp_unwind_mode mode;
    unsigned depth_limit; /* frames; 0: only the `max` of each call counts */

    /* Called (HOOK) before the first use of a rule of a module since its load, and perhaps again later.
     * May be NULL. */
    void (*note_module)(const struct mp_module *module);

    /* Look up a dynamic symbol in the loaded modules (INIT): _dl_find_object, without which a table of
     * our own answers for modules, and the functions of libgcc for MP_UNWIND_LIBGCC. */
    void *(*find_symbol)(const char *name);

    /* May a hook make a system call right now (HOOK)? Asked only on stacks that belong to no thread
     * (coroutines, sigaltstack), where a failing rt_sigprocmask probes each further page, and where a frame
     * pointer leads to another stack, of which process_vm_readv copies two words. NULL or false: such a
     * stack ends at the end of the page with MP_LOST_UNWIND_RANGE, or where it was switched. */
    bool (*may_probe)(void);

    /* What mp_modules_init() reads modules through; NULL: dl_iterate_phdr. */
    mp_modules_iterate *iterate;

    bool attached; /* INIT runs in a program that already runs */
    bool
        early; /* INIT runs before constructors of libraries: mp_unwind_libraries_ready() follows */
};

/*
 * INIT. Choose the mode and find the bounds of stacks; also calls mp_modules_init(). May be called again
 * to change the mode while no thread is in mp_unwind(). Returns 0; -ENOENT when libgcc's unwinder is not
 * loaded (MP_UNWIND_LIBGCC); -EINVAL for a mode that does not exist. On failure the old mode stays in
 * force.
 */
int mp_unwind_init(const struct mp_unwind_config *config);

/* INIT. After an early mp_unwind_init(): the C library is ready now. `make_context` is its makecontext(). */
void mp_unwind_libraries_ready(mp_make_context *make_context);

/*
 * HOOK. Write the return addresses of the stack whose innermost frame is `from` to pcs[0..max), innermost
 * first; pcs[0] is from->pc. Returns result->depth, at least 1 if max > 0. Reads only memory that is
 * surely mapped. errno is unchanged.
 */
unsigned mp_unwind(const struct mp_frame *from, uintptr_t *pcs, unsigned max,
                   struct mp_unwind_result *result);

/* HOOK. The same; also fills *trace, which may be NULL. */
unsigned mp_unwind_traced(const struct mp_frame *from, uintptr_t *pcs, unsigned max,
                          struct mp_unwind_result *result, struct mp_unwind_trace *trace);

/*
 * Around a call that may unload modules (dlclose): between the two, the unwinder keeps nothing about
 * modules that could be among the unloaded ones, and it forgets older data. Calls nest and may overlap
 * between threads. Outside of hooks: with a glibc older than 2.35 the end reads the list of modules under
 * the loader's lock.
 */
void mp_unwind_close_begin(void);
void mp_unwind_close_end(void);

/* HOOK. Forget all rules: a module was unloaded behind our back. */
void mp_unwind_flush(void);

/* HOOK. Bytes of stack that a sample needs at most, in the mode in force. */
size_t mp_unwind_stack_bytes(void);

/* HOOK. "cfi", "fp" or "libgcc": the mode in force. */
const char *mp_unwind_name(void);

#endif
