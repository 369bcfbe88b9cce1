/*
 * cfi_reader.h - a cursor over untrusted bytes. Reading past the end yields 0 and marks it bad.
 */
#ifndef MP_CFI_READER_H
#define MP_CFI_READER_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct mp_cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

static inline bool mp_cursor_take(struct mp_cursor *c, void *to, uint64_t bytes) {
    if ((uint64_t)(c->end - c->at) < bytes) {
        c->bad = true;
        c->at = c->end;
        memset(to, 0, bytes);
        return false;
    }
    memcpy(to, c->at, bytes);
    c->at += bytes;
    return true;
}

static inline void mp_cursor_skip(struct mp_cursor *c, uint64_t bytes) {
    if ((uint64_t)(c->end - c->at) < bytes) {
        c->bad = true;
        c->at = c->end;
        return;
    }
    c->at += bytes;
}

#define MP_CURSOR_READ(name, type)                                                                 \
    static inline type name(struct mp_cursor *c) {                                                 \
        type value;                                                                                \
        mp_cursor_take(c, &value, sizeof(value));                                                  \
        return value;                                                                              \
    }
MP_CURSOR_READ(mp_cursor_u8, uint8_t)
MP_CURSOR_READ(mp_cursor_u16, uint16_t)
MP_CURSOR_READ(mp_cursor_u32, uint32_t)
MP_CURSOR_READ(mp_cursor_u64, uint64_t)
#undef MP_CURSOR_READ

/* LEB128; bits past the 64th are dropped. */
static inline uint64_t mp_cursor_uleb(struct mp_cursor *c) {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint8_t byte = mp_cursor_u8(c);
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return value;
    }
}

static inline int64_t mp_cursor_sleb(struct mp_cursor *c) {
    uint64_t value = 0;
    for (unsigned shift = 0;;) {
        uint8_t byte = mp_cursor_u8(c);
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
        if ((byte & 0x80) == 0) {
            if (shift < 64 && (byte & 0x40) != 0)
                value |= ~(uint64_t)0 << shift;
            return (int64_t)value;
        }
    }
}

#endif
