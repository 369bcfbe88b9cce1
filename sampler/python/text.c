/*
 * text.c - see text.h.
 */
#include "text.h"
#include "unwind/unwind_walk.h"

#include <string.h>

static MP_RAW_READS uintptr_t word_at(uintptr_t at) {
    return *(const uintptr_t *)at;
}

static bool is_text(const struct mp_py_runtime *r, uintptr_t object) {
    return object != 0 && object % sizeof(uintptr_t) == 0 &&
           word_at(object + r->layout->type) == r->text_type;
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
    if (!is_text(r, object))
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

uint16_t mp_py_text_copy(const struct mp_py_runtime *r, uintptr_t object, unsigned char *out,
                         size_t most) {
    struct characters text = characters_of(r, object);
    size_t bytes = 0;
    for (size_t i = 0; text.width != 0 && i < text.count && bytes + 4 <= most; i++)
        bytes += encode(character_at(&text, i), out + bytes);
    memset(out + bytes, 0, (8 - bytes % 8) % 8);
    return (uint16_t)bytes;
}

static MP_RAW_READS uint64_t last_word(uintptr_t at, size_t bytes) {
    uint64_t word = 0;
    for (size_t i = 0; i < bytes; i++)
        word |= (uint64_t)*(const uint8_t *)(at + i) << 8 * i;
    return word;
}

MP_RAW_READS uint64_t mp_py_text_key(const struct mp_py_runtime *r, uintptr_t object, size_t most) {
    struct characters text = characters_of(r, object);
    size_t bytes = (text.count < most ? text.count : most) * text.width, at = 0;
    if (bytes == 0)
        return 0;
    uint64_t hash = 0x2545f4914f6cdd1dULL ^ (bytes << 3 | text.width);
    for (; at + 8 <= bytes; at += 8) {
        hash = (hash ^ *(const uint64_t *)(text.data + at)) * 0x9fb21c651e98df25ULL;
        hash ^= hash >> 29;
    }
    hash = (hash ^ last_word(text.data + at, bytes - at)) * 0xd6e8feb86659fd93ULL;
    return (hash ^ hash >> 32) | 1;
}

bool mp_py_text_is(const struct mp_py_runtime *r, uintptr_t object, const char *text) {
    struct characters found = characters_of(r, object);
    size_t i = 0;
    if (found.width != 1)
        return false;
    for (; text[i] != '\0'; i++)
        if (i == found.count || character_at(&found, i) != (unsigned char)text[i])
            return false;
    return i == found.count;
}
