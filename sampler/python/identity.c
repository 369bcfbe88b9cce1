/*
 * identity.c - see identity.h.
 */
#include "identity.h"
#include "abi/segment.h"
#include "unwind/unwind_walk.h"

#include <string.h>

#define LINE_WORDS 16 /* of a table of lines, in an identity */

static inline MP_RAW_READS uintptr_t word_at(uintptr_t at) {
    return *(const uintptr_t *)at;
}

static inline bool is_aligned(uintptr_t at) {
    return at != 0 && at % sizeof(uintptr_t) == 0;
}

/* Term `k` of a hash that is a sum, so that no product waits for another one. */
static inline uintptr_t term(uintptr_t k, uintptr_t word) {
    return (word ^ 0xd6e8feb86659fd93ULL) * (0x9e3779b97f4a7c15ULL + (k << 33) + (k << 2));
}

/* Of a text: hash, which may not be known yet, length and last characters. */
static MP_RAW_READS uintptr_t text_identity(const struct mp_py_layout *l, uintptr_t text) {
    uintptr_t length = word_at(text + l->text_length), last = 0;
    if (length <= MP_PYTHON_FILE_BYTES)
        memcpy(&last, (const unsigned char *)text + l->text_ascii + length - sizeof last,
               sizeof last); /* of a short one: the end of its head too */
    return term(1, word_at(text + l->text_hash)) + term(2, length) + term(3, last);
}

/* Of a table of lines: size and first words. */
static MP_RAW_READS uintptr_t lines_identity(const struct mp_py_layout *l, uintptr_t lines) {
    uintptr_t size = word_at(lines + l->size), words = size / sizeof(uintptr_t);
    uintptr_t hash = term(4, size);
    words = words < LINE_WORDS ? words : LINE_WORDS;
    for (uintptr_t i = 0; i < words; i++)
        hash += term(8 + i, word_at(lines + l->bytes_data + i * sizeof(uintptr_t)));
    return hash;
}

/* Distinguishes a code object from another one with the same words in its head: versions are reused
 * when an interpreter restarts, and do not exist up to 3.11. */
static MP_RAW_READS uintptr_t content_identity(const struct mp_py_layout *l, uintptr_t code) {
    uintptr_t name = word_at(code + l->code_name), file = word_at(code + l->code_file);
    uintptr_t lines = word_at(code + l->code_lines);
    uintptr_t hash = term(5, word_at(code + (l->code_first_line & ~7u))) + term(6, file);
    if (is_aligned(name))
        hash += term(7, word_at(name + l->text_hash));
    if (is_aligned(file))
        hash += text_identity(l, file);
    if (l->code_version == 0 && is_aligned(lines))
        hash += lines_identity(l, lines);
    return hash;
}

void mp_py_identify(const struct mp_py_layout *layout, uintptr_t code, bool counted,
                    struct mp_py_identity *id) {
    const struct mp_py_layout *l = layout;
    *id = (struct mp_py_identity){0};
    if (counted) {
        id->word[0] = mp_py_deaths_at(code);
        return;
    }
    id->word[0] = l->code_version != 0 ? word_at(code + (l->code_version & ~7u)) : 0;
    id->word[1] = word_at(code + l->code_lines);
    id->word[2] = word_at(code + l->code_name);
    id->word[3] = content_identity(l, code);
}

/* A version that is not 0 is unique while the interpreter lives; its half of the word depends on its place. */
static bool has_version(const struct mp_py_layout *l, uintptr_t first) {
    return l->code_version != 0 && (uint32_t)(first >> (l->code_version % 8 * 8)) != 0;
}

bool mp_py_is_identical(const struct mp_py_layout *layout, uintptr_t code, bool counted,
                        const struct mp_py_identity *id) {
    if (counted)
        return mp_py_deaths_at(code) == id->word[0] && id->word[1] == 0;
    if (has_version(layout, id->word[0]))
        return word_at(code + (layout->code_version & ~7u)) == id->word[0];
    struct mp_py_identity now;
    mp_py_identify(layout, code, false, &now);
    return memcmp(&now, id, sizeof now) == 0;
}
