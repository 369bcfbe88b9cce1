/*
 * tls.c - see tls.h.
 */
#include "tls.h"
#include "abi/atomics.h"
#include "tls_code.h"
#include "unwind/stack_range.h"
#include "unwind/unwind_arch.h"
#include "unwind/unwind_walk.h"

#define FIXED_MAX (1 << 20)  /* bytes between the thread pointer and its variables */
#define MODULES_MAX 65536
#define NO_BLOCK UINTPTR_MAX /* in a vector: not made yet */
#define NOINLINE __attribute__((noinline)) /* their frames are not there together */

#if defined(__x86_64__)
#define CODE mp_py_tls_code_x86_64
#define VECTOR_AT 8
#define FIRST (-FIXED_MAX) /* variables are below the thread pointer */
#define LAST (-(int64_t)sizeof(uintptr_t))
#define RELOC_OFFSET R_X86_64_TPOFF64
#define RELOC_MODULE R_X86_64_DTPMOD64
#define RELOC_DESCRIPTOR R_X86_64_TLSDESC
/* [endbr64;] mov 8(%rax),%rax; ret */
static const uint8_t returns_argument[] = {0x48, 0x8b, 0x40, 0x08, 0xc3};
static const uint8_t marks[][4] = {{0xf3, 0x0f, 0x1e, 0xfa}};
#else
#define CODE mp_py_tls_code_aarch64
#define VECTOR_AT 0
#define FIRST 16 /* behind the thread control block */
#define LAST FIXED_MAX
#define RELOC_OFFSET R_AARCH64_TLS_TPREL
#define RELOC_MODULE R_AARCH64_TLS_DTPMOD
#define RELOC_DESCRIPTOR R_AARCH64_TLSDESC
/* [bti c or nop;] ldr x0, [x0, #8]; ret */
static const uint8_t returns_argument[] = {0x00, 0x04, 0x40, 0xf9, 0xc0, 0x03, 0x5f, 0xd6};
static const uint8_t marks[][4] = {{0x5f, 0x24, 0x03, 0xd5}, {0x1f, 0x20, 0x03, 0xd5}};
#endif

struct slot {
    uintptr_t block; /* of the first slot: the vector's generation */
    uintptr_t to_free; /* 0: the block is at a fixed offset from the thread pointer */
};

static MP_RAW_READS uintptr_t word_at(uintptr_t at) {
    return *(const uintptr_t *)at;
}

static const struct slot *vector(void) {
    return (const struct slot *)word_at(mp_arch_thread_pointer() + VECTOR_AT);
}

static bool among(const ElfW(Rela) * rela, size_t count, uintptr_t offset, uint32_t type) {
    for (size_t i = 0; i < count; i++)
        if (rela[i].r_offset == offset && ELF64_R_TYPE(rela[i].r_info) == type)
            return true;
    return false;
}

/* Did the loader fill in the words at `at`? */
static bool is_relocated(const struct mp_elf *elf, uintptr_t at, uint32_t type) {
    return at % sizeof(uintptr_t) == 0 &&
           mp_elf_segment_rest(elf, at, PF_R) >= 2 * sizeof(uintptr_t) &&
           (among(elf->rela, elf->relas, at - elf->base, type) ||
            among(elf->plt_rela, elf->plt_relas, at - elf->base, type));
}

static struct mp_py_tls fixed(int64_t offset) {
    bool fits = offset >= FIRST && offset <= LAST && offset % (int64_t)sizeof(uintptr_t) == 0;
    return fits ? (struct mp_py_tls){.kind = MP_PY_TLS_FIXED, .offset = offset}
                : (struct mp_py_tls){0};
}

/* Bytes of the module's variables. */
static size_t block_bytes(const struct mp_elf *elf) {
    for (unsigned i = 0; i < elf->phdrs; i++)
        if (elf->phdr[i].p_type == PT_TLS)
            return elf->phdr[i].p_memsz;
    return 0;
}

/* The variable `offset` into the block of a module; beside the thread pointer in each thread, if it is so in this. */
static MP_RAW_READS struct mp_py_tls in_block(const struct mp_elf *elf, uintptr_t module,
                                              uintptr_t offset) {
    size_t bytes = block_bytes(elf);
    const struct slot *v = vector();
    if (module == 0 || module > MODULES_MAX || bytes < sizeof(uintptr_t) ||
        offset > bytes - sizeof(uintptr_t) || offset % sizeof(uintptr_t) != 0 || v == NULL)
        return (struct mp_py_tls){0};
    bool has_slot = module <= v[-1].block;
    if (has_slot && v[module].block != NO_BLOCK && v[module].to_free == 0) {
        struct mp_py_tls tls =
            fixed((int64_t)(v[module].block + offset - mp_arch_thread_pointer()));
        if (tls.kind != MP_PY_TLS_NOWHERE)
            return tls;
    }
    return (struct mp_py_tls){
        .kind = MP_PY_TLS_IN_BLOCK, .offset = (int64_t)offset, .module = module};
}

/* By hand: memcmp() may need more stack than a hook has. */
static bool starts_with(const uint8_t *code, const uint8_t *what, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (code[i] != what[i])
            return false;
    return true;
}

/* Where a descriptor's function does nothing but return its argument, this is the offset. */
static MP_RAW_READS struct mp_py_tls by_descriptor(uintptr_t descriptor, int64_t offset) {
    uintptr_t at = word_at(descriptor);
    if (at < 4096 || at >= MP_ARCH_PC_LIMIT)
        return (struct mp_py_tls){0};
    const uint8_t *code = (const uint8_t *)at;
    for (unsigned i = 0; i < sizeof marks / sizeof *marks; i++)
        if (starts_with(code, marks[i], sizeof marks[i])) {
            code += sizeof marks[i];
            break;
        }
    if (!starts_with(code, returns_argument, sizeof returns_argument))
        return (struct mp_py_tls){0};
    return fixed((int64_t)word_at(descriptor + sizeof(uintptr_t)) + offset);
}

static struct mp_py_tls resolve(const struct mp_elf *elf, const struct mp_py_tls_form *form) {
    switch (form->way) {
    case MP_PY_TLS_OFFSET:
        if (block_bytes(elf) != 0)
            return fixed(form->offset);
        break;
    case MP_PY_TLS_SLOT:
        if (is_relocated(elf, form->at, RELOC_OFFSET))
            return fixed((int64_t)word_at(form->at) + form->offset);
        break;
    case MP_PY_TLS_INDEX:
        if (is_relocated(elf, form->at, RELOC_MODULE))
            return in_block(elf, word_at(form->at),
                            word_at(form->at + sizeof(uintptr_t)) + (uintptr_t)form->offset);
        break;
    case MP_PY_TLS_DESCRIPTOR:
        if (is_relocated(elf, form->at, RELOC_DESCRIPTOR))
            return by_descriptor(form->at, form->offset);
        break;
    default:
        break;
    }
    return (struct mp_py_tls){0};
}

static NOINLINE void put(const struct mp_elf *elf, const struct mp_py_tls_form *form,
                         struct mp_py_tls *tls) {
    *tls = resolve(elf, form);
}

static NOINLINE void decode(const struct mp_elf *elf, const char *function,
                            struct mp_py_tls_form *form) {
    uintptr_t address = mp_elf_lookup(elf, function);
    size_t rest = address == 0 ? 0 : mp_elf_segment_rest(elf, address, PF_R | PF_X);
    if (rest > MP_PY_TLS_CODE_BYTES)
        rest = MP_PY_TLS_CODE_BYTES;
    *form = CODE((const uint8_t *)address, rest, address);
}

bool mp_py_tls_find(const struct mp_elf *elf, const char *function, struct mp_py_tls *tls) {
    struct mp_py_tls_form form;
    decode(elf, function, &form);
    put(elf, &form, tls);
    return tls->kind != MP_PY_TLS_NOWHERE;
}

MP_RAW_READS uintptr_t mp_py_tls_read(const struct mp_py_tls *tls) {
    if (tls->kind == MP_PY_TLS_FIXED)
        return word_at(mp_arch_thread_pointer() + (uintptr_t)tls->offset);
    const struct slot *v = tls->kind == MP_PY_TLS_IN_BLOCK ? vector() : NULL;
    if (v == NULL || tls->module > v[-1].block)
        return 0;
    uintptr_t block = v[tls->module].block, word;
    if (block == NO_BLOCK || block == 0)
        return 0;
    return mp_stack_copy(block + (uintptr_t)tls->offset, &word, sizeof word) ? word : 0;
}
