/*
 * checker.c - see checker.h.
 */
#include "checker.h"
#include "redirect/elf_lookup.h"
#include "text.h"

static const struct {
    const char *symbol, *name;
} checkers[] = {
    {"__asan_init", "AddressSanitizer"},   {"__hwasan_init", "HWAddressSanitizer"},
    {"__tsan_init", "ThreadSanitizer"},    {"__msan_init", "MemorySanitizer"},
    {"__lsan_init", "LeakSanitizer"},      {"__dfsan_flush", "DataFlowSanitizer"},
    {"__memprof_init", "LLVM's MemProf"},
};

struct found {
    const char *name;
};

static bool look(const struct mp_elf *elf, void *arg) {
    struct found *found = arg;
    for (size_t i = 0; i < sizeof checkers / sizeof checkers[0] && found->name == NULL; i++)
        if (mp_elf_lookup(elf, checkers[i].symbol) != 0)
            found->name = checkers[i].name;
    return found->name != NULL;
}

const char *mp_checker_name(void) {
    struct found found = {0};
    mp_elf_visit(look, &found);
    return found.name;
}

void mp_checker_refusal(const char *name, char *text, size_t n) {
    struct mp_text t = {.buffer = text, .size = n};
    mp_put(&t, "runs under ");
    mp_put(&t, name);
    mp_put(&t, ", whose allocator the sampler must not hook");
}
