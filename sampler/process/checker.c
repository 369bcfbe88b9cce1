/*
 * checker.c - see checker.h.
 */
#include "checker.h"
#include "redirect/elf_lookup.h"
#include "text.h"

static const struct {
    const char *symbol, *name;
    bool emulates;
} checkers[] = {
    {"__tsan_init", "ThreadSanitizer", false},     {"__hwasan_init", "HWAddressSanitizer", false},
    {"__asan_init", "AddressSanitizer", false},    {"__msan_init", "MemorySanitizer", false},
    {"__dfsan_flush", "DataFlowSanitizer", false}, {"__memprof_init", "LLVM's MemProf", false},
    {"__lsan_init", "LeakSanitizer", false},       {"_vgnU_freeres", "Valgrind", true},
};
#define CHECKERS (sizeof checkers / sizeof checkers[0])

/* As in checkers.py. */
static const char hooks[] = ", whose allocator the sampler must not hook";
static const char emulates[] =
    ", which runs the program's code itself, so that the sampler would see the tool "
    "and not the program";

struct found {
    const char *name;
};

static bool look(const struct mp_elf *elf, void *arg) {
    struct found *found = arg;
    for (size_t i = 0; i < CHECKERS && found->name == NULL; i++)
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
    for (size_t i = 0; i < CHECKERS; i++)
        if (checkers[i].name == name)
            mp_put(&t, checkers[i].emulates ? emulates : hooks);
}
