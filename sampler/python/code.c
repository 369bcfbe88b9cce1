/*
 * code.c - see code.h.
 */
#include "code.h"
#include "text.h"
#include "unwind/unwind_walk.h"

#include <string.h>

static MP_RAW_READS uintptr_t word_at(uintptr_t at) {
    return *(const uintptr_t *)at;
}

static bool is_object(const struct mp_py_runtime *r, uintptr_t object, uintptr_t type) {
    return object != 0 && object % sizeof(uintptr_t) == 0 &&
           word_at(object + r->layout->type) == type;
}

static uintptr_t *behind(uintptr_t *words, uint16_t bytes) {
    return words + (bytes + 7u) / 8;
}

struct mp_py_lines mp_py_code_lines(const struct mp_py_runtime *r, uintptr_t code) {
    const struct mp_py_layout *l = r->layout;
    uintptr_t object = word_at(code + l->code_lines);
    struct mp_py_lines lines = {0};
    if (!is_object(r, object, r->bytes_type))
        return lines;
    size_t bytes = word_at(object + l->size);
    if (bytes <= MP_PYTHON_LINES_BYTES)
        lines = (struct mp_py_lines){(const unsigned char *)object + l->bytes_data, bytes};
    return lines;
}

MP_RAW_READS uint32_t mp_py_code_record(const struct mp_py_runtime *r, uintptr_t code,
                                        uintptr_t *words) {
    const struct mp_py_layout *l = r->layout;
    struct mp_python_code *record = (struct mp_python_code *)words;
    uintptr_t *at = words + sizeof *record / 8;
    *record = (struct mp_python_code){.first_line = *(const uint32_t *)(code + l->code_first_line),
                                      .minor = l->minor};
    record->name_bytes =
        mp_py_text_copy(r, word_at(code + l->code_name), (unsigned char *)at, MP_PYTHON_NAME_BYTES);
    at = behind(at, record->name_bytes);
    if (l->code_qualname != 0)
        record->qualname_bytes = mp_py_text_copy(r, word_at(code + l->code_qualname),
                                                 (unsigned char *)at, MP_PYTHON_NAME_BYTES);
    at = behind(at, record->qualname_bytes);
    record->file_bytes =
        mp_py_text_copy(r, word_at(code + l->code_file), (unsigned char *)at, MP_PYTHON_FILE_BYTES);
    return (uint32_t)(behind(at, record->file_bytes) - words);
}
