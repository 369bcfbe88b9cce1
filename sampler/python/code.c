/*
 * code.c - see code.h.
 */
#include "code.h"
#include "unwind/unwind_walk.h"

#include <string.h>

static MP_RAW_READS uintptr_t word_at(uintptr_t at) {
    return *(const uintptr_t *)at;
}

static bool is_object(const struct mp_py_runtime *r, uintptr_t object, uintptr_t type) {
    return object != 0 && object % sizeof(uintptr_t) == 0 &&
           word_at(object + r->layout->type) == type;
}

/* The characters of a text: `width` 1, 2 or 4 bytes each; width 0: it cannot be read. */
struct characters {
    uintptr_t data;
    size_t count;
    unsigned width;
};

static MP_RAW_READS struct characters characters_of(const struct mp_py_runtime *r,
                                                    uintptr_t object) {
    const struct mp_py_layout *l = r->layout;
    struct characters text = {0};
    if (!is_object(r, object, r->text_type))
        return text;
    uint32_t state = *(const uint32_t *)(object + l->text_state) >> l->state_kind;
    bool compact = state >> 3 & 1, ascii = state >> 4 & 1;
    unsigned kind = state & 7;
    if (!compact || (kind != 1 && kind != 2 && kind != 4))
        return text;
    text.width = kind;
    text.count = word_at(object + l->text_length);
    text.data = object + (ascii ? l->text_ascii : l->text_wide);
    return text;
}

static MP_RAW_READS uint32_t character_at(const struct characters *text, size_t i) {
    uintptr_t at = text->data + i * text->width;
    if (text->width == 1)
        return *(const uint8_t *)at;
    return text->width == 2 ? *(const uint16_t *)at : *(const uint32_t *)at;
}

/* UTF-8; lone surrogates, which names may have, are written as they are. Returns the bytes. */
static unsigned encode(uint32_t c, unsigned char *out) {
    if (c < 0x80) {
        out[0] = (unsigned char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (unsigned char)(0xc0 | c >> 6);
        out[1] = (unsigned char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (unsigned char)(0xe0 | c >> 12);
        out[1] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (unsigned char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (unsigned char)(0xf0 | (c >> 18 & 7));
    out[1] = (unsigned char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (unsigned char)(0x80 | (c & 0x3f));
    return 4;
}

/* Write a text to `out`, at most `most` bytes, a multiple of 8, and pad it to whole words with zeros. */
static uint16_t write_text(const struct mp_py_runtime *r, uintptr_t object, unsigned char *out,
                           size_t most) {
    struct characters text = characters_of(r, object);
    size_t bytes = 0;
    for (size_t i = 0; text.width != 0 && i < text.count && bytes + 4 <= most; i++)
        bytes += encode(character_at(&text, i), out + bytes);
    memset(out + bytes, 0, (8 - bytes % 8) % 8);
    return (uint16_t)bytes;
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
        write_text(r, word_at(code + l->code_name), (unsigned char *)at, MP_PYTHON_NAME_BYTES);
    at = behind(at, record->name_bytes);
    if (l->code_qualname != 0)
        record->qualname_bytes = write_text(r, word_at(code + l->code_qualname),
                                            (unsigned char *)at, MP_PYTHON_NAME_BYTES);
    at = behind(at, record->qualname_bytes);
    record->file_bytes =
        write_text(r, word_at(code + l->code_file), (unsigned char *)at, MP_PYTHON_FILE_BYTES);
    return (uint32_t)(behind(at, record->file_bytes) - words);
}
