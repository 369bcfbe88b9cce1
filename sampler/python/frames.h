/*
 * frames.h - read the frames of the calling thread's interpreter, and recognise those that were there before.
 *
 * Model: a thread inside malloc cannot leave its own Python frames, and the interpreter keeps their chain whole at
 * every call into C. The walk follows it from the innermost frame outwards. A memo has the rows of the thread's
 * last stack, outermost first. Where the walk comes to a frame of the memo, it goes on along the memo: the same
 * code, instruction, flag and caller in every frame out to the last one are the same outer stack again, if each
 * code object is still the one that was at its address (identity.h). The addresses of these loads come from the
 * memo, each after a comparison that the processor predicts, so that they do not wait for one another. This is
 * exact, not a guess: a frame of the memo is read only when a frame that is alive leads to it.
 *
 * As long as no code object at all has ended since all rows of the memo were right, none is asked for its identity.
 * When some have, the walk asks those of its frames, and drops the other rows.
 *
 * Limits: the innermost MP_PY_DEPTH_MAX frames, and what a memo has outside of them. A frame that makes no
 * sense ends the walk.
 *
 * Threads: HOOK. A memo belongs to the thread that is using it.
 */
#ifndef MP_PY_FRAMES_H
#define MP_PY_FRAMES_H

#include "identity.h"
#include "runtime.h"

#define MP_PY_DEPTH_MAX 512
#define MP_PY_ROW_BITS 10 /* MP_PY_DEPTH_MAX + 1 fits */

struct mp_py_row {
    uintptr_t frame;
    uintptr_t code;  /* of a shim: anything */
    uintptr_t place; /* of the instruction */
    uint32_t node;   /* for the caller of the walk */
    uint8_t flag;    /* the byte of the frame */
    bool shim;       /* an entry from C without its own frame */
    uint16_t task
        : MP_PY_ROW_BITS; /* for the caller: 1 + row of the memo whose frame says which task runs here */
    uint16_t is_thread : 1; /* for the caller: the frame says which thread this is */
};

_Static_assert(sizeof(struct mp_py_row) == 32, "two rows fill a cache line");

struct mp_py_memo {
    const struct mp_py_runtime *whose;
    uint32_t depth; /* rows of `row`; 0: nothing is known */
    uint64_t deaths; /* of all code objects, when all rows were right; 0: they were not counted */
    struct mp_py_row row[MP_PY_DEPTH_MAX] __attribute__((aligned(64))); /* outermost first */
    struct mp_py_identity id[MP_PY_DEPTH_MAX]; /* of the code of each row; of a shim: none */
};

enum mp_py_end {
    MP_PY_OUTERMOST = 0, /* the walk saw all frames */
    MP_PY_CUT, /* there are more than fit */
    MP_PY_BROKEN, /* a frame made no sense */
};

struct mp_py_walk {
    enum mp_py_end end;
    uint32_t kept; /* outermost rows of the memo that are the same again */
    uint32_t fresh; /* rows in `row`, inside of these */
    struct mp_py_row row[MP_PY_DEPTH_MAX]; /* innermost first */
    struct mp_py_identity id[MP_PY_DEPTH_MAX];
};

/* HOOK. Walk the frames of a thread state of the memo's runtime. Drops inner rows of the memo that may not be right
 * any more, none of those that are kept. */
void mp_py_frames_walk(struct mp_py_memo *memo, uintptr_t state, struct mp_py_walk *walk);

/* HOOK. Does a frame begin a new evaluation loop? `outer` is the row of its caller or NULL. */
bool mp_py_frame_is_entry(const struct mp_py_layout *layout, const struct mp_py_row *row,
                          const struct mp_py_row *outer);

#define MP_PY_UNIT_UNKNOWN UINT32_MAX /* no instruction of the code; or none was begun */

/* HOOK. Number of the instruction in its code, in units of two bytes. */
uint32_t mp_py_frame_unit(const struct mp_py_layout *layout, const struct mp_py_row *row);

#endif
