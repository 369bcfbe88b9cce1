#include "unwind_oracle.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unwind.h>

struct oracle {
    uintptr_t from;
    unsigned depth;
    uintptr_t pcs[ORACLE_FRAMES];
};

static struct oracle expected;
static uintptr_t found[ORACLE_FRAMES];
static unsigned found_depth, checks, failures, probes;
static bool allowed;

static bool may_probe(void) {
    probes++;
    return allowed;
}

static void *find_symbol(const char *name) {
    return dlsym(RTLD_DEFAULT, name);
}

void oracle_init(enum mp_unwind_mode mode, bool probe) {
    struct mp_unwind_config config = {
        .mode = mode, .may_probe = may_probe, .find_symbol = find_symbol};
    allowed = probe;
    int rc = mp_unwind_init(&config);
    if (rc != 0) {
        fprintf(stderr, "mp_unwind_init: %d\n", rc);
        failures++;
    }
}

void oracle_allow_probe(bool allow) {
    allowed = allow;
}

unsigned oracle_probes(void) {
    return probes;
}

static _Unwind_Reason_Code trace(struct _Unwind_Context *context, void *data) {
    struct oracle *o = data;
    uintptr_t pc = _Unwind_GetIP(context);
    if (o->from != 0 && pc != o->from)
        return _URC_NO_REASON;
    o->from = 0;
    if (pc != 0 && o->depth < ORACLE_FRAMES)
        o->pcs[o->depth++] = pc;
    return _URC_NO_REASON;
}

static void print_difference(const char *where, unsigned at, uint8_t end) {
    fprintf(stderr, "%s: frame %u differs (%u found, %u expected, end %u)\n", where, at,
            found_depth, expected.depth, end);
    for (unsigned i = at > 2 ? at - 2 : 0; i < at + 4; i++) {
        fprintf(stderr, "    %2u %#lx %#lx\n", i, i < found_depth ? (unsigned long)found[i] : 0,
                i < expected.depth ? (unsigned long)expected.pcs[i] : 0);
    }
}

static uint8_t compare(const char *where, const struct mp_frame *frame, bool prefix) {
    struct mp_unwind_result result;
    checks++;
    expected.from = frame->pc;
    expected.depth = 0;
    _Unwind_Backtrace(trace, &expected);
    for (unsigned round = 0; round < 2; round++) {
        memset(found, 0, sizeof(found[0]) * (expected.depth + 8));
        errno = 77;
        found_depth = mp_unwind(frame, found, ORACLE_FRAMES, &result);
        unsigned at = 0;
        while (at < found_depth && at < expected.depth && found[at] == expected.pcs[at])
            at++;
        bool same = at == found_depth && (prefix || at == expected.depth) && at > 0;
        if (!same || errno != 77 || result.depth != found_depth) {
            failures++;
            print_difference(where, at, result.end);
            break;
        }
    }
    return result.end;
}

__attribute__((noinline)) uint8_t oracle_check(const char *where) {
    struct mp_frame frame;
    MP_CALLER(frame);
    uint8_t end = compare(where, &frame, false);
    __asm__ volatile("");
    return end;
}

__attribute__((noinline)) uint8_t oracle_check_prefix(const char *where) {
    struct mp_frame frame;
    MP_CALLER(frame);
    uint8_t end = compare(where, &frame, true);
    __asm__ volatile("");
    return end;
}

unsigned oracle_depth(void) {
    return found_depth;
}

uintptr_t oracle_frame(unsigned i) {
    return found[i];
}

unsigned oracle_checks(void) {
    return checks;
}

unsigned oracle_failures(void) {
    return failures;
}
