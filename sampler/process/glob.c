/*
 * glob.c - see glob.h.
 */
#include "glob.h"

#include <stddef.h>

/* One character of a bracket, behind a backslash if there is one. */
static unsigned char member(const char **at) {
    *at += **at == '\\' && (*at)[1] != '\0';
    return (unsigned char)*(*at)++;
}

/* `*at` is behind the `[`, and gets behind the `]`. False, and it stays, where no `]` follows: a `[` like any. */
static bool in_bracket(const char **at, unsigned char c, bool *found) {
    const char *p = *at;
    bool inverted = *p == '!' || *p == '^', any = false;
    p += inverted;
    for (const char *first = p; *p != ']' || p == first;) {
        if (*p == '\0')
            return false;
        unsigned char low = member(&p), high = low;
        if (p[0] == '-' && p[1] != ']' && p[1] != '\0') {
            p++;
            high = member(&p);
        }
        any |= c >= low && c <= high;
    }
    *at = p + 1;
    *found = any != inverted;
    return true;
}

/* One step of the pattern against one character. */
static bool matches_one(const char **pattern, unsigned char c) {
    const char *p = *pattern;
    bool found;
    if (*p == '[' && (p++, in_bracket(&p, c, &found))) {
        *pattern = p;
        return found;
    }
    p = *pattern;
    bool any = *p == '?';
    if (*p == '\\' && p[1] != '\0')
        p++;
    *pattern = p + 1;
    return any || (unsigned char)*p == c;
}

/* A mismatch retries from the last star, one character later, so the time is never exponential. */
bool mp_glob_matches(const char *pattern, const char *name) {
    const char *star = NULL, *after_star = NULL;
    while (*name != '\0') {
        const char *p = pattern;
        if (*p == '*') {
            star = ++pattern;
            after_star = name;
        } else if (*p != '\0' && matches_one(&p, (unsigned char)*name)) {
            pattern = p;
            name++;
        } else if (star != NULL) {
            pattern = star;
            name = ++after_star;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}
