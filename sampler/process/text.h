/*
 * text.h - put a line together in a buffer of fixed size: snprintf needs more stack than a small thread has left.
 *
 *   struct mp_text t = {buffer, sizeof buffer};
 *   mp_put(&t, "/proc/");
 *   mp_put_number(&t, pid);
 *
 * The buffer ends in a NUL from the first call on. It omits text that does not fit, and sets `full`.
 *
 * Threads: INIT.
 */
#ifndef MP_TEXT_H
#define MP_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_text {
    char *buffer;
    size_t size;
    size_t used;
    bool full;
};

static inline void mp_put(struct mp_text *t, const char *text) {
    for (; *text != '\0'; text++) {
        if (t->used + 1 >= t->size) {
            t->full = true;
            break;
        }
        t->buffer[t->used++] = *text;
    }
    t->buffer[t->used] = '\0';
}

/* As mp_put(), of at most `most` bytes. */
static inline void mp_put_part(struct mp_text *t, const char *text, size_t most) {
    for (char one[2] = ""; most > 0 && *text != '\0'; text++, most--) {
        one[0] = *text;
        mp_put(t, one);
    }
}

static inline void mp_put_number(struct mp_text *t, uint64_t value) {
    char digits[21];
    char *at = digits + sizeof digits - 1;
    *at = '\0';
    do
        *--at = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    mp_put(t, at);
}

/* 16 digits. */
static inline void mp_put_hex(struct mp_text *t, uint64_t value) {
    char digits[17];
    for (int i = 0; i < 16; i++)
        digits[i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
    digits[16] = '\0';
    mp_put(t, digits);
}

#endif
