/*
 * options.c - reading MEM_PROFILER_* variables. See options.h.
 */
#include "options.h"
#include "abi/clock.h"
#include "core/sample.h"
#include "core/table.h"
#include "drivers/backend.h"
#include "glob.h"
#include "segment_folder.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VALUE_SHOWN_MAX 64
#define EVENTS_MIN_BYTES (64u << 10)
#define PLAN_FD_MAX 1048576 /* fs.nr_open as kernels have it: no descriptor is above */

/* Where values come from: the environment, or lines of text that were cut into strings. */
static const char *from_text;
static size_t from_text_bytes;

static const char *value_of(const char *name) {
    static const char *const at_start[] = {"MEM_PROFILER_START", "MEM_PROFILER_START_PID",
                                           "MEM_PROFILER_ONLY", "MEM_PROFILER_FOLLOW_FORK",
                                           "MEM_PROFILER_PLAN"};
    if (from_text == NULL)
        return getenv(name);
    for (size_t i = 0; i < sizeof at_start / sizeof at_start[0]; i++)
        if (strcmp(name, at_start[i]) == 0)
            return NULL;
    name += strlen("MEM_PROFILER_");
    size_t length = strlen(name);
    for (size_t at = 0; at < from_text_bytes; at += strlen(from_text + at) + 1)
        if (strncmp(from_text + at, name, length) == 0 && from_text[at + length] == '=')
            return from_text + at + length + 1;
    return NULL;
}

static bool says_yes(const char *value) {
    return *value != '\0' && strcmp(value, "0") != 0;
}

bool mp_options_opted_out(void) {
    const char *value = getenv("MEM_PROFILER_DISABLE");
    return value != NULL && says_yes(value);
}

/* Read a byte at a time from a small buffer: a variable may be of any length. */
bool mp_options_opted_out_at_start(void) {
    static const char wanted[] = "MEM_PROFILER_DISABLE=";
    static char buffer[512];
    char value[3] = "";
    size_t matched = 0, kept = 0; /* of this variable; matched SIZE_MAX: it is another one */
    bool found = false;
    long n;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/environ", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return false;
    while (!found && (n = read(fd, buffer, sizeof buffer)) > 0) {
        for (long i = 0; i < n && !found; i++) {
            if (buffer[i] == '\0') {
                found = matched == sizeof wanted - 1 && says_yes(value);
                matched = kept = 0;
                memset(value, 0, sizeof value);
            } else if (matched == sizeof wanted - 1) {
                if (kept < sizeof value - 1)
                    value[kept++] = buffer[i];
            } else {
                matched =
                    matched != SIZE_MAX && buffer[i] == wanted[matched] ? matched + 1 : SIZE_MAX;
            }
        }
    }
    close(fd);
    return found;
}

/* Plain digits with an optional K, M or G (powers of 1024). */
static bool parse_bytes(const char *text, uint64_t *value) {
    uint64_t n = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (n > UINT64_MAX / 16)
            return false;
        n = n * 10 + (uint64_t)(*p - '0');
    }
    if (p == text)
        return false;
    unsigned shift = 0;
    switch (*p) {
    case 'k':
    case 'K':
        shift = 10;
        break;
    case 'm':
    case 'M':
        shift = 20;
        break;
    case 'g':
    case 'G':
        shift = 30;
        break;
    default:
        break;
    }
    p += shift != 0;
    if (*p != '\0' || n > UINT64_MAX >> shift >> 1)
        return false;
    *value = n << shift;
    return true;
}

static int refuse(char *error, size_t n, const char *name, const char *value,
                  const char *expected) {
    struct mp_text text = {.buffer = error, .size = n};
    mp_put(&text, name);
    mp_put(&text, "=");
    mp_put_part(&text, value, VALUE_SHOWN_MAX);
    mp_put(&text, ": expected ");
    mp_put(&text, expected);
    return -EINVAL;
}

static int read_numbers(struct mp_options *o, char *error, size_t n) {
    const char *value = value_of("MEM_PROFILER_START");
    if (value != NULL && *value != '\0') {
        if (!parse_bytes(value, &o->start_rate_bytes) || o->start_rate_bytes < 1 ||
            o->start_rate_bytes > MP_RATE_MAX_BYTES)
            return refuse(error, n, "MEM_PROFILER_START", value,
                          "bytes per sample from 1 to 1G, such as 1024 or 512K");
        o->start = true;
    }
    value = value_of("MEM_PROFILER_DEVICE_RATE");
    o->device_rate_bytes = 1;
    if (value != NULL && *value != '\0' &&
        (!parse_bytes(value, &o->device_rate_bytes) || o->device_rate_bytes < 1 ||
         o->device_rate_bytes > MP_RATE_MAX_BYTES))
        return refuse(error, n, "MEM_PROFILER_DEVICE_RATE", value,
                      "bytes per sample from 1 to 1G, such as 1 or 512K");
    value = value_of("MEM_PROFILER_EVENTS");
    if (value != NULL && *value != '\0' &&
        (!parse_bytes(value, &o->events_bytes) ||
         (o->events_bytes != 0 && o->events_bytes < EVENTS_MIN_BYTES) ||
         o->events_bytes > 64ULL << 30))
        return refuse(error, n, "MEM_PROFILER_EVENTS", value, "bytes from 64K to 64G, or 0");
    value = value_of("MEM_PROFILER_START_PID"); /* the process that `mem_profiler run` means */
    if (value != NULL && *value != '\0') {
        uint64_t pid;
        bool is_wrapper = *value == '+'; /* what it starts itself is meant, too */
        if (!parse_bytes(value + is_wrapper, &pid))
            return refuse(error, n, "MEM_PROFILER_START_PID", value, "a process id");
        o->is_child = pid != (uint64_t)getpid() && !(is_wrapper && pid == (uint64_t)getppid());
    }
    value = value_of("MEM_PROFILER_MAX_MEMORY");
    o->max_memory_asked = value != NULL && *value != '\0';
    if (o->max_memory_asked &&
        (!parse_bytes(value, &o->max_memory_bytes) || o->max_memory_bytes < MP_LIMIT_MIN_BYTES ||
         o->max_memory_bytes > 64ULL << 30))
        return refuse(error, n, "MEM_PROFILER_MAX_MEMORY", value, "bytes from 1M to 64G");
    value = value_of("MEM_PROFILER_MAX_TOTAL");
    if (value != NULL && *value != '\0' &&
        (!parse_bytes(value, &o->max_total_bytes) || o->max_total_bytes < 2 * MP_LIMIT_MIN_BYTES ||
         o->max_total_bytes > 1024ULL << 30))
        return refuse(error, n, "MEM_PROFILER_MAX_TOTAL", value, "bytes from 2M to 1024G");
    value = value_of("MEM_PROFILER_DEPTH");
    o->depth_limit = MP_DEPTH_DEFAULT;
    if (value != NULL && *value != '\0') {
        uint64_t frames;
        if (!parse_bytes(value, &frames) || frames - 1 >= MP_DEPTH_LIMIT_MAX)
            return refuse(error, n, "MEM_PROFILER_DEPTH", value, "frames of a stack, 1 to 4096");
        o->depth_limit = (uint32_t)frames;
    }
    value = value_of("MEM_PROFILER_SEED");
    if (value != NULL && *value != '\0') {
        if (!parse_bytes(value, &o->seed))
            return refuse(error, n, "MEM_PROFILER_SEED", value, "a number");
        o->seeded = true;
    }
    return 0;
}

/* The backend whose name is text[0..length); -1: none. */
static int backend_named(const char *text, size_t length) {
    for (int i = 0; i < MP_BACKENDS; i++)
        if (strlen(mp_backend_names[i]) == length &&
            strncmp(mp_backend_names[i], text, length) == 0)
            return i;
    return -1;
}

static int refuse_device(char *error, size_t n, const char *value) {
    char expected[128];
    struct mp_text text = {.buffer = expected, .size = sizeof expected};
    mp_put(&text, "auto, none, or of");
    for (int i = 0; i < MP_BACKENDS; i++) {
        mp_put(&text, i != 0 ? ", " : " ");
        mp_put(&text, mp_backend_names[i]);
    }
    return refuse(error, n, "MEM_PROFILER_DEVICE", value, expected);
}

static int read_devices(struct mp_options *o, char *error, size_t n) {
    const char *value = value_of("MEM_PROFILER_DEVICE");
    if (value == NULL) /* an attach without a choice: that of the program's start */
        value = getenv("MEM_PROFILER_DEVICE");
    o->devices = MP_BACKENDS_AUTO;
    if (value == NULL || *value == '\0' || strcmp(value, "auto") == 0)
        return 0;
    o->devices = 0;
    if (strcmp(value, "none") == 0)
        return 0;
    o->devices_by_name = true;
    for (const char *word = value;; word++) {
        size_t length = strcspn(word, ",");
        int backend = backend_named(word, length);
        if (backend < 0)
            return refuse_device(error, n, value);
        o->devices |= 1u << backend;
        word += length;
        if (*word == '\0')
            return 0;
    }
}

static int read_launches(struct mp_options *o, char *error, size_t n) {
    static const char *const names[] = {"operators", "kernels", "accesses", "facts", "tensors"};
    enum { NAMES = sizeof names / sizeof names[0] };
    const char *value = value_of("MEM_PROFILER_LAUNCHES");
    for (const char *word = value; word != NULL && *word != '\0';) {
        size_t length = strcspn(word, ",");
        unsigned i = 0;
        while (i < NAMES && (strlen(names[i]) != length || strncmp(names[i], word, length) != 0))
            i++;
        if (i == NAMES)
            return refuse(error, n, "MEM_PROFILER_LAUNCHES", value,
                          "a list of operators, kernels, accesses, facts, tensors");
        o->launches |= 1u << i;
        word += length + (word[length] == ',');
    }
    return 0;
}

/* False: its value is neither 0 nor 1. */
static bool read_switch(const char *name, bool *on, char *error, size_t n) {
    const char *value = value_of(name);
    if (value == NULL || *value == '\0')
        return true;
    *on = strcmp(value, "1") == 0;
    return *on || strcmp(value, "0") == 0 || refuse(error, n, name, value, "0 or 1") == 0;
}

/* "fd:N" or "exec:N"; anything else is no plan. Descriptors 0 to 2 belong to the program. */
static void read_plan(struct mp_options *o, const char *value) {
    uint64_t fd;
    o->plan_fd = -1;
    o->plan_for_next = value != NULL && strncmp(value, "exec:", 5) == 0;
    if (value == NULL || (!o->plan_for_next && strncmp(value, "fd:", 3) != 0))
        return;
    if (parse_bytes(value + (o->plan_for_next ? 5 : 3), &fd) && fd > STDERR_FILENO &&
        fd <= PLAN_FD_MAX)
        o->plan_fd = (int)fd;
}

static int read_words(struct mp_options *o, const char *exe, char *error, size_t n) {
    const char *value = value_of("MEM_PROFILER_DIR");
    if (value != NULL && *value != '\0') {
        if (value[0] != '/' || strlen(value) >= sizeof o->dir)
            return refuse(error, n, "MEM_PROFILER_DIR", value, "an absolute path below 256 bytes");
        strcpy(o->dir, value);
    }
    read_plan(o, value_of("MEM_PROFILER_PLAN"));
    if (!read_switch("MEM_PROFILER_FOLLOW_FORK", &o->follow_fork, error, n) ||
        !read_switch("MEM_PROFILER_PYMEM", &o->pymem, error, n) ||
        !read_switch("MEM_PROFILER_ARENAS", &o->arenas, error, n))
        return -EINVAL;
    o->start = o->start && (!o->is_child || o->follow_fork);
    if (read_launches(o, error, n) != 0)
        return -EINVAL;
    value = value_of("MEM_PROFILER_UNWIND");
    if (value != NULL && *value != '\0') {
        if (strcmp(value, "cfi") != 0 && strcmp(value, "fp") != 0 && strcmp(value, "libgcc") != 0)
            return refuse(error, n, "MEM_PROFILER_UNWIND", value, "cfi, fp or libgcc");
        strcpy(o->unwind, value);
    }
    value = value_of("MEM_PROFILER_ONLY");
    if (value != NULL && *value != '\0') {
        const char *slash = strrchr(exe, '/');
        o->only_others = !mp_glob_matches(value, slash ? slash + 1 : exe);
    }
    return 0;
}

int mp_options_read(struct mp_options *options, const char *exe, char *error, size_t n) {
    *options = (struct mp_options){
        .dir = MP_FOLDER_DEFAULT, .max_memory_bytes = MP_LIMIT_DEFAULT_BYTES, .pymem = true};
    int rc = read_numbers(options, error, n);
    if (rc == 0)
        rc = read_devices(options, error, n);
    return rc ? rc : read_words(options, exe, error, n);
}

int mp_options_read_text(struct mp_options *options, char *text, char *error, size_t n) {
    from_text_bytes = strlen(text);
    for (size_t i = 0; i < from_text_bytes; i++)
        if (text[i] == '\n')
            text[i] = '\0';
    from_text = text;
    int rc = mp_options_read(options, "", error, n);
    from_text = NULL;
    return rc;
}

uint64_t mp_options_seed(const struct mp_options *options) {
    if (options->seeded)
        return options->seed;
    const void *random = (const void *)getauxval(AT_RANDOM);
    uint64_t word = 0;
    if (random != NULL)
        memcpy(&word, random, sizeof word);
    return mp_mix(mp_clock_ns(CLOCK_MONOTONIC) ^ ((uint64_t)getpid() << 40) ^ mp_mix(word));
}
