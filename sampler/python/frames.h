/*
 * frames.h - read the frames of the calling thread's interpreter, and recognise those that were there before.
 *
 * Model: a thread inside malloc cannot leave its own Python frames, and the interpreter keeps their chain whole at
 * every call into C. The walk follows it from the innermost frame outwards. A memo has the rows of the thread's
 * last stack, outermost first. Where the walk comes to a frame of the memo, it goes on along the memo: the same
 * code, instruction, flag, identity of the code and caller in every frame out to the last one are the same
 * outer stack again. The addresses of these loads come from the memo, each after a comparison that the
 * processor predicts, so that they do not wait for one another. This is exact, not a guess: a frame of the
 * memo is read only when a frame that is alive leads to it.
 *
 * Identity of a code object, whose address may be reused, with the same texts behind it: two of its pointers, first
 * line, what its name and file say, and from 3.12 its version; before, also the first part of its table of lines. A
 * version is unique until the interpreter begins again, and is then all that the memo compares; who keeps rows for
 * longer asks mp_py_beginnings.
 *
 * Limits: the innermost MP_PY_DEPTH_MAX frames, and what a memo has outside of them. A frame that makes no
 * sense ends the walk.
 *
 * Threads: HOOK. A memo belongs to the thread that is using it.
 */
#ifndef MP_PY_FRAMES_H
#define MP_PY_FRAMES_H

#include "runtime.h"

#define MP_PY_DEPTH_MAX 512
#define MP_PY_ID_WORDS 4

struct mp_py_row {
    uintptr_t frame;
    uintptr_t code;  /* of a shim: anything */
    uintptr_t place; /* of the instruction */
    uintptr_t id[MP_PY_ID_WORDS]; /* of the code */
    uint32_t node;   /* for the caller of the walk */
    uint8_t flag;    /* the byte of the frame */
    bool shim;       /* an entry from C and no frame of its own */
};

struct mp_py_memo {
    const struct mp_py_runtime *whose;
    uint32_t depth; /* rows of `row`; 0: nothing is known */
    struct mp_py_row row[MP_PY_DEPTH_MAX]; /* outermost first */
};

enum mp_py_end {
    MP_PY_OUTERMOST = 0, /* the walk saw all frames */
    MP_PY_CUT,           /* there are more than fit */
    MP_PY_BROKEN,        /* a frame made no sense */
};

struct mp_py_walk {
    enum mp_py_end end;
    uint32_t kept;  /* outermost rows of the memo that are the same again */
    uint32_t fresh; /* rows in `row`, inside of these */
    struct mp_py_row row[MP_PY_DEPTH_MAX]; /* innermost first */
};

/* HOOK. Walk the frames of a thread state of the memo's runtime. Leaves the memo as it is. */
void mp_py_frames_walk(const struct mp_py_memo *memo, uintptr_t state, struct mp_py_walk *walk);

/* HOOK. Does a frame begin an evaluation loop of its own? `outer` is the row of its caller or NULL. */
bool mp_py_frame_is_entry(const struct mp_py_layout *layout, const struct mp_py_row *row,
                          const struct mp_py_row *outer);

#define MP_PY_UNIT_UNKNOWN UINT32_MAX /* no instruction of the code; or none was begun */

/* HOOK. Number of the instruction in its code, in units of two bytes. */
uint32_t mp_py_frame_unit(const struct mp_py_layout *layout, const struct mp_py_row *row);

#endif
