/*
 * code.h - copy the parts of a code object that name a frame.
 *
 * Model: the record of a code object in the segment is a struct mp_python_code, then name, qualified name and
 * file as UTF-8, each padded to whole words. A text that is longer than its bound is cut at a
 * character; one that is not a text is empty.
 *
 * Threads: HOOK. The code object is that of a frame of the calling thread.
 */
#ifndef MP_PY_CODE_H
#define MP_PY_CODE_H

#include "abi/segment.h"
#include "runtime.h"

#include <stddef.h>

/* Most words of a record without its table of lines. */
#define MP_PY_CODE_WORDS                                                                           \
    ((sizeof(struct mp_python_code) + 2 * MP_PYTHON_NAME_BYTES + MP_PYTHON_FILE_BYTES) / 8)

/* The table of lines of a code object; bytes 0: it has none that can be read. */
struct mp_py_lines {
    const unsigned char *data;
    size_t bytes;
};

/* HOOK. The table; one of more than MP_PYTHON_LINES_BYTES counts as none. */
struct mp_py_lines mp_py_code_lines(const struct mp_py_runtime *r, uintptr_t code);

/* HOOK. Fill `words`, MP_PY_CODE_WORDS of them, with numbers and texts; the number of words. Where the table
 * of lines is stays 0. */
uint32_t mp_py_code_record(const struct mp_py_runtime *r, uintptr_t code, uintptr_t *words);

#endif
