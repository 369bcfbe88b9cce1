/*
 * own_vectors.c - getenv and getauxval of the sampler's own, as mini_libc.c.
 *
 * Model: the C library has no environment before its constructor. The loader has the arguments, behind them
 * are the environment and the kernel's auxiliary vector. A program may change the environment in place, so the
 * auxiliary vector is the first place behind it that looks like one, and is searched once.
 *
 * Threads: any; HOOK, after the first call in INIT.
 */
#include "abi/atomics.h"

#include <link.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define VECTOR_ROWS_MAX 64
#define VECTOR_TYPE_MAX 0x1000
#define WORDS_MAX (1u << 22) /* of the environment: more than the kernel allows */

extern char **__environ; /* of the C library: NULL before its constructor */
extern char **_dl_argv __attribute__((weak));
extern void *__libc_stack_end __attribute__((weak));

static const ElfW(auxv_t) * vector;

static char **environment_at_start(void) {
    if (&_dl_argv != NULL && _dl_argv != NULL) {
        char **argument = _dl_argv;
        while (*argument != NULL)
            argument++;
        return argument + 1;
    }
    if (&__libc_stack_end == NULL || __libc_stack_end == NULL)
        return NULL;
    const uintptr_t *count = __libc_stack_end; /* argc, arguments, NULL, environment */
    return (char **)(uintptr_t)(count + 1 + *count + 1);
}

char *getenv(const char *name) {
    char **variable = __environ != NULL ? __environ : environment_at_start();
    size_t n = strlen(name);
    for (; variable != NULL && *variable != NULL; variable++)
        if (strncmp(*variable, name, n) == 0 && (*variable)[n] == '=')
            return *variable + n + 1;
    return NULL;
}

static bool is_vector(const ElfW(auxv_t) * row) {
    bool page = false, headers = false;
    for (unsigned i = 0; i < VECTOR_ROWS_MAX && row[i].a_type <= VECTOR_TYPE_MAX; i++) {
        if (row[i].a_type == AT_NULL)
            return page && headers;
        page |= row[i].a_type == AT_PAGESZ;
        headers |= row[i].a_type == AT_PHDR;
    }
    return false;
}

static const ElfW(auxv_t) * find_vector(void) {
    const uintptr_t *word = (const uintptr_t *)environment_at_start();
    for (unsigned i = 0; word != NULL && i < WORDS_MAX; i++)
        if (word[i] == 0 && is_vector((const ElfW(auxv_t) *)&word[i + 1]))
            return (const ElfW(auxv_t) *)&word[i + 1];
    return NULL;
}

unsigned long getauxval(unsigned long type) {
    const ElfW(auxv_t) *row = mp_load_relaxed(&vector);
    if (row == NULL) {
        row = find_vector();
        mp_store_relaxed(&vector, row);
    }
    for (; row != NULL && row->a_type != AT_NULL; row++)
        if (row->a_type == type)
            return row->a_un.a_val;
    return 0;
}
