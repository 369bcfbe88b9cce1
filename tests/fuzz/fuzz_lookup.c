/*
 * fuzz_lookup.c - the tables of a damaged module in memory: redirect/elf_lookup.c. Functions that choose
 * others (IFUNC) are not called: a module's code is the program's own.
 *
 * Input: the module; its ELF header is not looked at, its program headers begin at byte 64.
 */
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

static int one_module(int (*visit)(struct dl_phdr_info *info, size_t size, void *arg), void *arg);
#define dl_iterate_phdr one_module
/* A resolver is a call into the module; here it is any address. */
#undef STT_GNU_IFUNC
#define STT_GNU_IFUNC 99
#include "redirect/elf_lookup.c"
#undef dl_iterate_phdr

#include "forge.h"

#define HEADERS_AT 64
#define HEADERS_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static char *module;
static size_t module_bytes;

/* Loadable segments are cut to what is there, as the loader would have mapped them. */
static int one_module(int (*visit)(struct dl_phdr_info *info, size_t size, void *arg), void *arg) {
    ElfW(Phdr) phdr[HEADERS_MAX];
    memcpy(phdr, module + HEADERS_AT, sizeof phdr);
    for (unsigned i = 0; i < HEADERS_MAX; i++) {
        ElfW(Phdr) *p = &phdr[i];
        if (p->p_type != PT_LOAD)
            continue;
        p->p_vaddr = p->p_vaddr < module_bytes ? p->p_vaddr : module_bytes;
        p->p_memsz =
            p->p_memsz < module_bytes - p->p_vaddr ? p->p_memsz : module_bytes - p->p_vaddr;
    }
    struct dl_phdr_info info = {
        .dlpi_addr = (uintptr_t)module,
        .dlpi_name = "x.so",
        .dlpi_phdr = phdr,
        .dlpi_phnum = HEADERS_MAX,
        .dlpi_adds = 1,
    };
    return visit(&info, sizeof info, arg);
}

static bool look(const struct mp_elf *elf, void *arg) {
    static const char *const names[] = {"malloc", "free", "", "alpha", "no_such_function"};
    (void)arg;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        mp_elf_lookup(elf, names[i]);
    mp_elf_identity(elf);
    volatile char sum = 0;
    for (size_t i = 0; i < elf->strings_bytes; i++)
        sum ^= elf->strings[i];
    for (size_t i = 0; i < elf->relas; i++)
        sum ^= (char)elf->rela[i].r_info;
    for (size_t i = 0; i < elf->plt_relas; i++)
        sum ^= (char)elf->plt_rela[i].r_info;
    for (const char *c = elf->soname; *c != '\0'; c++)
        sum ^= *c;
    (void)sum;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes < HEADERS_AT + HEADERS_MAX * sizeof(ElfW(Phdr)))
        return 0;
    if (posix_memalign((void **)&module, 4096, bytes) != 0)
        return 0;
    memcpy(module, data, bytes);
    module_bytes = bytes;
    mp_elf_visit(look, NULL);
    free(module);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t max, unsigned seed) {
    return forge(data, bytes, max, seed);
}
