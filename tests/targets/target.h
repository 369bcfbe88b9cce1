/*
 * target.h - how a target talks with its test: a line out, a line in, without an allocation of its own.
 */
#ifndef TARGET_H
#define TARGET_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Keep the compiler from dropping a block whose address nobody looks at. */
static inline void *keep(void *p) {
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

/* Print one line. snprintf of integers and strings allocates nothing. */
static inline void say(const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text - 1, format, args);
    va_end(args);
    text[n++] = '\n';
    if (write(STDOUT_FILENO, text, (size_t)n) != n)
        _exit(90);
}

/* Wait for a line; false at the end of the input. The newline is cut off. */
static inline bool hear(char *text, size_t n) {
    size_t got = 0;
    char c;
    while (read(STDIN_FILENO, &c, 1) == 1) {
        if (c == '\n') {
            text[got] = '\0';
            return true;
        }
        if (got + 1 < n)
            text[got++] = c;
    }
    return false;
}

/* Say something and wait until the test answers. */
static inline void step(const char *word) {
    char text[64];
    say("%s", word);
    if (!hear(text, sizeof text))
        _exit(91);
}

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            say("line %d: %s", __LINE__, #condition);                                              \
            _exit(92);                                                                             \
        }                                                                                          \
    } while (0)

#endif
