/*
 * text.h - the characters of str objects.
 *
 * Threads: HOOK. The text must stay while it is read: a living frame or code object leads to it, or this thread
 * holds the GIL.
 */
#ifndef MP_PY_TEXT_H
#define MP_PY_TEXT_H

#include "runtime.h"

#include <stddef.h>

/* HOOK. Write a text as UTF-8 to `out`, at most `most` bytes, a multiple of 8, cut at a character, and pad it to
 * whole words with zeros. Returns the bytes; 0 for what is no text. */
uint16_t mp_py_text_copy(const struct mp_py_runtime *r, uintptr_t object, unsigned char *out,
                         size_t most);

/* HOOK. A hash of the text's first `most` characters; 0: it is no text, or empty. */
uint64_t mp_py_text_key(const struct mp_py_runtime *r, uintptr_t object, size_t most);

/* HOOK. Is the object this text, of ASCII alone? */
bool mp_py_text_is(const struct mp_py_runtime *r, uintptr_t object, const char *text);

#endif
