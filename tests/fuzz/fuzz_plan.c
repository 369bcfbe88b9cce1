/*
 * fuzz_plan.c - plans of entry points that somebody forged, from their file on: process/plan_file.c and
 * hooks/inline_patch.c, on a module that is one page of code.
 *
 * Nothing but that page may change, and letting go must give every byte of it back.
 *
 * Input: a struct mp_entry_plan as the file holds it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/local.h"
#include "hooks/entry_hooks.h"
#include "redirect/elf_lookup.h"

/* clang-format off: the first brings what the second uses. */
#include "hooks/inline_patch.c"
#include "process/plan_file.c"
/* clang-format on */

#include "forge.h"

#define CODE_BYTES 4096

__thread struct mp_thread_state mp_self;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static unsigned char *code;
static unsigned char original[CODE_BYTES];
static ElfW(Dyn) dynamic;

bool mp_elf_visit(bool (*visit)(const struct mp_elf *elf, void *arg), void *arg) {
    struct mp_elf elf = {.base = (uintptr_t)code, .path = "", .dynamic = &dynamic};
    return visit(&elf, arg);
}

size_t mp_elf_segment_rest(const struct mp_elf *elf, uintptr_t address, uint32_t flags) {
    (void)flags;
    return address >= elf->base && address - elf->base < CODE_BYTES
               ? CODE_BYTES - (address - elf->base)
               : 0;
}

uint64_t mp_elf_identity(const struct mp_elf *elf) {
    (void)elf;
    return 1;
}

uintptr_t mp_entry_hook(enum mp_entry_kind kind) {
    if (kind >= MP_ENTRY_KINDS)
        abort();
    return 0x1000;
}

/* Of what is not in the page. */
struct mp_local mp_local;

bool mp_is_filtered(void) {
    return false;
}

void mp_process_tell_entries(struct mp_control *c) {
    (void)c;
}

void mp_redirect_look(void (*look)(void), struct mp_slot_counts *loader) {
    (void)look, (void)loader;
}

/* Bytes like those with which functions begin, the same in every run. */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static const unsigned char start[] = {
        0x48, 0x8b, 0x05, 0x10, 0,    0,    0,    0x90, /* mov 0x10(%rip),%rax; nop */
        0x55, 0x41, 0x57, 0x41, 0x56, 0x48, 0x81, 0xec, /* pushes; sub */
    };
    (void)argc;
    (void)argv;
    code = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED)
        abort();
    for (unsigned i = 0; i < CODE_BYTES; i++)
        code[i] = original[i] = start[i % sizeof start];
    return mprotect(code, CODE_BYTES, PROT_READ | PROT_EXEC);
}

static void forget_all(void) {
    for (unsigned i = 0; i < page_count; i++)
        munmap((void *)pages[i].base, pages[i].bytes);
    page_count = 0;
    memset(rows, 0, sizeof rows);
    row_count = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    struct mp_entry_counts counts = {0};
    char text[256] = "";
    struct mp_entry_plan *plan = malloc(bytes + 1);
    memcpy(plan, data, bytes);
    bytes = mp_entry_plan_bytes(plan, bytes);
    if (bytes != 0) {
        follow(plan, bytes); /* where it fits, the next changes nothing */
        mp_entry_restore(&counts);
        relocate(plan, (uintptr_t)code);
        int rc = mp_entry_install(plan, bytes, &counts, text, sizeof text);
        if (rc != 0 && memchr(text, '\0', sizeof text) == text)
            abort(); /* refused without a word */
        if (rc != 0 && mp_entry_count() != 0)
            abort(); /* refused, and yet followed */
        mp_entry_restore(&counts);
        if (memcmp(code, original, CODE_BYTES) != 0)
            abort(); /* not as it was */
    }
    free(plan);
    forget_all();
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t max, unsigned seed) {
    return forge(data, bytes, max, seed);
}
