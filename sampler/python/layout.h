/*
 * layout.h - offsets of CPython's structures that name its frames, by version.
 *
 * Model: the interpreter's structures have fixed offsets in each minor version, free-threaded builds their own. The
 * table has those that `offsetof` gives with the headers of each version. From 3.13 the runtime begins with
 * offsets of its own (_Py_DebugOffsets), which must agree with the table.
 *
 * Frames come in three kinds: objects (to 3.10), records with a flag for those that C entered (3.11), and
 * records below a shim of their own for each entry from C (from 3.12).
 *
 * Threads: constant data.
 */
#ifndef MP_PY_LAYOUT_H
#define MP_PY_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

enum mp_py_entry {
    MP_PY_ENTRY_ALWAYS, /* each frame has its own evaluation loop */
    MP_PY_ENTRY_FLAG,   /* a byte of the frame says so */
    MP_PY_ENTRY_SHIM,   /* the next frame outwards is a shim */
};

#define MP_PY_NUMBER_OWN UINT8_MAX /* an interpreter told it itself */
#define MP_PY_NEWEST 15 /* minor version in the table */

struct mp_py_layout {
    uint8_t number; /* in the table, or MP_PY_NUMBER_OWN */
    uint8_t minor;
    bool free_threaded;
    uint8_t entry;        /* enum mp_py_entry */
    uint8_t state_kind;   /* bit of a text's state where its kind begins */
    /* in the runtime */
    uint32_t
        thread_key; /* whether the key exists, and the key; both int. 0: from 3.15 there is none */
    uint32_t thread_current; /* to 3.11: the state that holds the GIL */
    uint32_t finalizing; /* the thread state that ends it; from 3.13 the runtime tells where */
    uint32_t interpreters; /* newest interpreter, main one, and a number that grows with each */
    /* in a thread state */
    uint16_t thread_id;
    uint16_t thread_frame; /* the innermost frame, or what points to it... */
    int16_t frame_in; /* ...and where in that; -1: nothing is between */
    /* in a frame */
    uint16_t frame_caller;
    uint16_t frame_code;
    uint16_t frame_place; /* of the instruction; to 3.10 a number of 32 bits */
    uint16_t frame_flag; /* the byte of MP_PY_ENTRY_FLAG, or the owner's kind */
    uint16_t frame_copy; /* number of the thread's copy of the code; 0: there is only one */
    /* in a code object */
    uint16_t code_name;
    uint16_t code_qualname; /* 0: there is none */
    uint16_t code_file;
    uint16_t code_first_line;
    uint16_t code_lines; /* the table of lines, a bytes object */
    uint16_t code_units; /* the instructions; to 3.10 a bytes object */
    uint16_t code_version; /* 0: there is none */
    uint16_t code_copies; /* 0: there are none */
    /* in all objects, texts and bytes */
    uint16_t type;
    uint16_t size; /* of a variable object */
    uint16_t text_length;
    uint16_t text_state;
    uint16_t text_hash;
    uint16_t text_ascii; /* where the characters begin; of other texts than ASCII: */
    uint16_t text_wide;
    uint16_t bytes_data;
    uint16_t type_name;
};

/* The layout of 3.`minor`, or NULL: the version is not known. */
const struct mp_py_layout *mp_py_layout_of(unsigned minor, bool free_threaded);

#endif
