/*
 * say.c - see say.h.
 */
#include "say.h"
#include "quiet.h"
#include "text.h"

#include <unistd.h>

static char line[2048]; /* not on the stack: a thread that forks may have little */

static struct mp_text begin(void) {
    struct mp_text t = {.buffer = line, .size = sizeof line - 1};
    mp_put(&t, "mem_profiler: ");
    return t;
}

static void end(struct mp_text *t, const char *exe, const char *consequence) {
    mp_put(t, "; ");
    mp_put(t, exe);
    mp_put(t, consequence);
}

static void write_line(struct mp_text *t) {
    line[t->used++] = '\n';
    mp_quiet_write(STDERR_FILENO, line, t->used);
}

void mp_say_unprofiled(const char *exe, const char *why) {
    struct mp_text t = begin();
    mp_put(&t, why);
    end(&t, exe, " runs unprofiled");
    write_line(&t);
}

void mp_say_shadowed(const char *exe, const char *first, bool in_program) {
    struct mp_text t = begin();
    mp_put(&t, "no capture: ");
    mp_put(&t, in_program ? "the program's own malloc" : first);
    mp_put(&t, " is before the sampler");
    end(&t, exe, " runs unprofiled");
    write_line(&t);
}

void mp_say_no_capture(const char *exe, const char *folder, const char *why) {
    struct mp_text t = begin();
    mp_put(&t, "no capture in ");
    mp_put(&t, folder);
    mp_put(&t, ": ");
    mp_put(&t, why);
    end(&t, exe, " runs unprofiled");
    write_line(&t);
}

void mp_say_other_folder(const char *exe, const char *folder, const char *path) {
    struct mp_text t = begin();
    mp_put(&t, "no private folder for segments in ");
    mp_put(&t, folder);
    end(&t, exe, " has its segment in ");
    mp_put(&t, path);
    write_line(&t);
}
