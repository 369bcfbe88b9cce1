/*
 * got_slots.c - see got_slots.h. Relocation types: the psABI supplements of x86-64 and AArch64.
 */
#include "got_slots.h"
#include "got_slots_kept.h"
#include "relro.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>

#if defined(__x86_64__)
#define TYPE_JUMP_SLOT R_X86_64_JUMP_SLOT
#define TYPE_GLOB_DAT R_X86_64_GLOB_DAT
#define TYPE_ABSOLUTE R_X86_64_64
#elif defined(__aarch64__)
#define TYPE_JUMP_SLOT R_AARCH64_JUMP_SLOT
#define TYPE_GLOB_DAT R_AARCH64_GLOB_DAT
#define TYPE_ABSOLUTE R_AARCH64_ABS64
#else
#error "only x86_64 and aarch64 are supported"
#endif

struct scan {
    const struct mp_slot_table *table;
    const struct mp_elf *elf;
    unsigned mode;
    struct mp_relro relro;
    uint64_t identity; /* while slots are kept */
    size_t number;     /* of the relocation in its table */
    struct mp_slot_counts *counts;
};

static uint8_t hash(const char *name) {
    uint32_t h = 5381;
    for (; *name != '\0'; name++)
        h = h * 33 + (unsigned char)*name;
    return (uint8_t)(h ^ h >> 8 ^ h >> 16);
}

void mp_slots_init(struct mp_slot_table *table) {
    table->wants = 0;
    table->skip = NULL;
    for (unsigned i = 0; i < 256; i++)
        table->head[i] = -1;
}

int mp_slots_add(struct mp_slot_table *table, const char *name, uintptr_t expected,
                 uintptr_t hook) {
    struct mp_elf_symbol symbol;
    bool found = mp_elf_find_symbol(MP_ELF_FIRST, name, &symbol);
    if (table->wants == MP_SLOTS_MAX)
        return -ENOSPC;
    if (expected == 0 && !found)
        return -ENOENT;
    unsigned i = table->wants++;
    table->want[i] = (struct mp_slot_want){
        .name = name, .expected = expected ? expected : symbol.address, .hook = hook};
    table->is_default[i] = found && symbol.address == table->want[i].expected;
    uint8_t h = hash(name);
    table->next[i] = table->head[h];
    table->head[h] = (int16_t)i;
    return 0;
}

static int find_want(const struct mp_slot_table *table, const char *name) {
    int i = table->head[hash(name)];
    while (i >= 0 && strcmp(table->want[i].name, name) != 0)
        i = table->next[i];
    return i;
}

static bool begins(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_left_alone(const struct mp_slot_table *table, const struct mp_elf *elf) {
    static const char *const sonames[] = {"ld-linux",  "ld64.so",    "ld-musl",     "ld.so",
                                          "libasan.",  "libtsan.",   "liblsan.",    "libmsan",
                                          "libubsan.", "libhwasan.", "libclang_rt."};
    if (mp_elf_is_self(elf) || elf->dynamic == table->skip)
        return true;
    uintptr_t loader = getauxval(AT_BASE);
    if (loader != 0 && elf->base == loader)
        return true;
    for (size_t i = 0; i < sizeof sonames / sizeof sonames[0]; i++)
        if (begins(elf->soname, sonames[i]))
            return true;
    return false;
}

/*
 * Is this the code to which an unbound slot points? x86-64: its own entry, which pushes the number of its
 * relocation (GNU ld, lld), or the common head, which begins by pushing that (mold). AArch64: the common
 * head.
 */
static bool is_plt_code(const unsigned char *code, size_t rest, size_t number) {
#if defined(__x86_64__)
    static const unsigned char endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
    static const unsigned char mold_head[] = {0x41, 0x53, 0xff, 0x35};
    uint32_t pushed;
    if (rest >= sizeof endbr64 && memcmp(code, endbr64, sizeof endbr64) == 0) {
        code += sizeof endbr64;
        rest -= sizeof endbr64;
    }
    if (rest < 1 + sizeof pushed)
        return false;
    memcpy(&pushed, code + 1, sizeof pushed);
    return (code[0] == 0x68 && pushed == number) || memcmp(code, mold_head, sizeof mold_head) == 0;
#else
    static const unsigned char bti_c[] = {0x5f, 0x24, 0x03, 0xd5};
    static const unsigned char stp_x16_x30[] = {0xf0, 0x7b, 0xbf, 0xa9};
    (void)number;
    if (rest >= sizeof bti_c && memcmp(code, bti_c, sizeof bti_c) == 0) {
        code += sizeof bti_c;
        rest -= sizeof bti_c;
    }
    return rest >= sizeof stp_x16_x30 && memcmp(code, stp_x16_x30, sizeof stp_x16_x30) == 0;
#endif
}

/* Would the loader bind this slot to the module's own function, whatever comes before it in the scope? */
static bool binds_to_itself(const struct mp_elf *elf, const ElfW(Sym) * symbol) {
    return elf->symbolic || ELF64_ST_VISIBILITY(symbol->st_other) != STV_DEFAULT ||
           ELF64_ST_BIND(symbol->st_info) == STB_LOCAL;
}

/*
 * A slot of the PLT that the loader has not bound points back into the code of its own module. So does
 * one that the loader bound to the module's own function; and in an attached process, one in which the
 * module itself put a hook: there, and where the module has a function of that name (libstdc++ has
 * operator new), the code must be that of a PLT.
 */
static bool is_unbound(const struct scan *s, unsigned type, const ElfW(Sym) * symbol,
                       uintptr_t value, uintptr_t expected) {
    if (type != TYPE_JUMP_SLOT || mp_elf_segment_rest(s->elf, value, PF_X) == 0)
        return false;
    uintptr_t own = symbol->st_shndx != SHN_UNDEF ? s->elf->base + symbol->st_value : expected;
    if (own != expected && (value == own || binds_to_itself(s->elf, symbol)))
        return false;
    return (own == expected && !mp_kept_is_on()) ||
           is_plt_code((const unsigned char *)value,
                       mp_elf_segment_rest(s->elf, value, PF_R | PF_X), s->number);
}

static void treat(struct scan *s, unsigned type, const ElfW(Sym) * symbol, int want,
                  uintptr_t address) {
    const struct mp_slot_want *w = &s->table->want[want];
    uintptr_t *slot = (uintptr_t *)address;
    uintptr_t value = __atomic_load_n(slot, __ATOMIC_RELAXED);
    if (value == w->hook) {
        s->counts->already++;
        if (mp_kept_is_on() && !mp_kept_adopt(s->elf, s->identity, address, w->expected, w->hook))
            s->counts->failed++;
        return;
    }
    bool unbound = value != w->expected && s->table->is_default[want] &&
                   is_unbound(s, type, symbol, value, w->expected);
    s->counts->unbound += unbound;
    bool leads_there = value == w->expected || (unbound && (s->mode & MP_SLOTS_NO_UNBOUND) == 0);
    if (!leads_there) {
        s->counts->foreign++;
    } else if ((s->mode & MP_SLOTS_VERIFY) != 0 ||
               mp_elf_segment_rest(s->elf, address, PF_R | PF_W) < sizeof *slot ||
               !mp_relro_open(&s->relro, address) ||
               (mp_kept_is_on() && !mp_kept_note(s->elf, s->identity, address, value, w->hook))) {
        s->counts->failed++;
    } else {
        /* No partner: callers jump through the slot. The data of the hook are complete before. */
        __atomic_store_n(slot, w->hook, __ATOMIC_RELEASE);
        s->counts->patched++;
    }
}

static void scan_relocations(struct scan *s, const ElfW(Rela) * rela, size_t n) {
    const struct mp_elf *elf = s->elf;
    for (size_t i = 0; i < n; i++) {
        unsigned type = ELF64_R_TYPE(rela[i].r_info);
        size_t index = ELF64_R_SYM(rela[i].r_info);
        if ((type != TYPE_JUMP_SLOT && type != TYPE_GLOB_DAT && type != TYPE_ABSOLUTE) ||
            index == 0 || index >= elf->symbols_max || rela[i].r_addend != 0)
            continue;
        const ElfW(Sym) *symbol = &elf->symbols[index];
        if (symbol->st_name >= elf->strings_bytes)
            continue;
        int want = find_want(s->table, elf->strings + symbol->st_name);
        uintptr_t address = elf->base + rela[i].r_offset;
        s->number = i;
        if (want >= 0 && address % sizeof(uintptr_t) == 0 &&
            mp_elf_segment_rest(elf, address, PF_R) >= sizeof(uintptr_t))
            treat(s, type, symbol, want, address);
    }
}

bool mp_slots_module(const struct mp_slot_table *table, const struct mp_elf *elf, unsigned mode,
                     struct mp_slot_counts *counts) {
    if (is_left_alone(table, elf))
        return true;
    struct scan s = {.table = table,
                     .elf = elf,
                     .mode = mode,
                     .relro = mp_relro_of(elf, mp_kept_is_on()),
                     .counts = counts};
    /* To close the RELRO part of a module that the loader still relocates would kill the process. */
    if ((mode & MP_SLOTS_LOADER_RUNS) != 0) {
        if (mp_relro_is_unsealed(&s.relro)) {
            counts->unready++;
            return false;
        }
        s.relro.careful = false; /* it is closed */
    }
    counts->modules++;
    if (mp_kept_is_on())
        s.identity = mp_elf_identity(elf);
    scan_relocations(&s, elf->rela, elf->relas);
    scan_relocations(&s, elf->plt_rela, elf->plt_relas);
    mp_relro_close(&s.relro);
    return true;
}

struct all {
    const struct mp_slot_table *table;
    unsigned mode;
    struct mp_slot_counts *counts;
};

static bool visit(const struct mp_elf *elf, void *arg) {
    struct all *a = arg;
    mp_slots_module(a->table, elf, a->mode, a->counts);
    return false;
}

void mp_slots_all(const struct mp_slot_table *table, unsigned mode, struct mp_slot_counts *counts) {
    struct all a = {.table = table, .mode = mode, .counts = counts};
    mp_elf_visit(visit, &a);
}
