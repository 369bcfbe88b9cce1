/*
 * tls_code.c - see tls_code.h.
 */
#include "tls_code.h"

#include <string.h>

#define INSTRUCTIONS_MAX 16
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline)) /* their frames are not there together */
#define REGISTERS 4 /* of aarch64: those that compilers use here */

/* Kinds of register contents. */
enum holds {
    NOTHING = 0,  /* that the decoder knows */
    ADDRESS,      /* `at` */
    WORD,         /* the word at `at` */
    RESULT,       /* result of the descriptor at `at` */
    NUMBER,       /* `offset` */
    THREAD,       /* the thread pointer + offset */
    THREAD_WORD,  /* THREAD + WORD */
    THREAD_RESULT, /* THREAD + RESULT */
    BLOCK,        /* the block that the index at `at` names, + offset */
    VARIABLE,     /* the word at one of the four before; `of` says which */
};

struct value {
    uint8_t holds, of; /* enum holds */
    int32_t offset;
    uintptr_t at;
};

static ALWAYS_INLINE struct value plus(struct value v, int32_t offset) {
    bool fits = true;
    if (v.holds == ADDRESS)
        v.at += (uintptr_t)(intptr_t)offset;
    else
        fits = v.holds >= THREAD && v.holds <= BLOCK &&
               !__builtin_add_overflow(v.offset, offset, &v.offset);
    if (!fits)
        v.holds = NOTHING;
    return v;
}

static ALWAYS_INLINE struct value sum(struct value a, struct value b) {
    if (a.holds != THREAD) {
        struct value other = a;
        a = b;
        b = other;
    }
    if (a.holds == THREAD && b.holds == NUMBER)
        return plus(a, b.offset);
    if (a.holds != THREAD || (b.holds != WORD && b.holds != RESULT))
        return (struct value){0};
    uint8_t holds = b.holds == WORD ? THREAD_WORD : THREAD_RESULT;
    return (struct value){.holds = holds, .at = b.at, .offset = a.offset};
}

static struct value load(struct value v) {
    if (v.holds == ADDRESS)
        v.holds = WORD;
    else if (v.holds >= THREAD && v.holds <= BLOCK) {
        v.of = v.holds;
        v.holds = VARIABLE;
    } else
        v.holds = NOTHING;
    return v;
}

static struct mp_py_tls_form form_of(struct value v) {
    struct mp_py_tls_form form = {.at = v.at, .offset = v.offset};
    if (v.holds != VARIABLE)
        return (struct mp_py_tls_form){0};
    switch (v.of) {
    case THREAD:
        form.way = MP_PY_TLS_OFFSET;
        break;
    case THREAD_WORD:
        form.way = MP_PY_TLS_SLOT;
        break;
    case THREAD_RESULT:
        form.way = MP_PY_TLS_DESCRIPTOR;
        break;
    default:
        form.way = MP_PY_TLS_INDEX;
    }
    return form;
}

/* ---- x86-64 ---- */

struct bytes {
    const uint8_t *at;
    size_t left;
    uintptr_t address; /* of `at`, where it runs */
};

/* By hand: a function of the C library may need more stack than a hook has. */
static bool eat(struct bytes *b, const char *what, size_t count) {
    if (b->left < count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (b->at[i] != (uint8_t)what[i])
            return false;
    b->at += count;
    b->left -= count;
    b->address += count;
    return true;
}

#define EAT(b, what) eat(b, what, sizeof(what) - 1)

/* The 1 or 4 bytes of a displacement. */
static bool eat_offset(struct bytes *b, size_t count, int32_t *out) {
    if (b->left < count)
        return false;
    if (count == 1)
        *out = (int8_t)b->at[0];
    else
        memcpy(out, b->at, sizeof *out);
    b->at += count;
    b->left -= count;
    b->address += count;
    return true;
}

struct x86 {
    struct bytes code;
    struct value rax, rdi;
};

/* What leaves the two registers alone: marks, frames, and paddings. */
static bool is_frame(struct bytes *b) {
    return EAT(b, "\xf3\x0f\x1e\xfa") || /* endbr64 */
           EAT(b, "\x55") || EAT(b, "\x48\x89\xe5") || EAT(b, "\x5d") || /* push, mov, pop %rbp */
           EAT(b, "\x48\x83\xec\x08") || EAT(b, "\x48\x83\xc4\x08") || /* sub, add $8, %rsp */
           EAT(b, "\x50") || EAT(b, "\x59") || /* push %rax; pop %rcx */
           EAT(b, "\x90") || EAT(b, "\x66\x90") || EAT(b, "\x0f\x1f\x40\x00") || EAT(b, "\xc9");
}

/* Behind an opcode: d(%rax), d of 0, 1 or 4 bytes. */
static bool eat_behind_rax(struct bytes *b, int32_t *offset) {
    *offset = 0;
    if (EAT(b, "\x00"))
        return true;
    if (EAT(b, "\x40"))
        return eat_offset(b, 1, offset);
    return EAT(b, "\x80") && eat_offset(b, 4, offset);
}

/* mov or add from %fs:... to %rax. */
static NOINLINE bool thread_step(struct x86 *x) {
    struct bytes b = x->code;
    int32_t offset;
    if (EAT(&b, "\x64\x48\x8b\x04\x25") && eat_offset(&b, 4, &offset)) {
        x->rax = (struct value){.holds = THREAD, .offset = offset};
        if (offset != 0) /* %fs:0 has the thread pointer itself */
            x->rax = load(x->rax);
    } else if (b = x->code, EAT(&b, "\x64\x48\x03\x04\x25\0\0\0\0"))
        x->rax = sum(x->rax, (struct value){.holds = THREAD});
    else if (b = x->code, EAT(&b, "\x64\x48\x8b") && eat_behind_rax(&b, &offset))
        x->rax = load(plus(sum(x->rax, (struct value){.holds = THREAD}), offset));
    else
        return false;
    x->code = b;
    return true;
}

/* mov, add or lea with d(%rip). */
static NOINLINE bool place_step(struct x86 *x) {
    struct bytes b = x->code;
    int32_t offset;
    bool is_mov = EAT(&b, "\x48\x8b\x05"), is_add = !is_mov && EAT(&b, "\x48\x03\x05"),
         is_lea = !is_mov && !is_add && EAT(&b, "\x48\x8d\x05"),
         is_argument = !is_mov && !is_add && !is_lea && EAT(&b, "\x48\x8d\x3d");
    if (!(is_mov || is_add || is_lea || is_argument) || !eat_offset(&b, 4, &offset))
        return false;
    struct value place = {.holds = ADDRESS, .at = b.address + (uintptr_t)(intptr_t)offset};
    if (is_mov)
        x->rax = load(place);
    else if (is_add)
        x->rax = sum(x->rax, load(place));
    else if (is_lea)
        x->rax = place;
    else
        x->rdi = place;
    x->code = b;
    return true;
}

/* mov or lea with d(%rax). */
static NOINLINE bool load_step(struct x86 *x) {
    struct bytes b = x->code;
    int32_t offset;
    bool is_mov = EAT(&b, "\x48\x8b"), is_lea = !is_mov && EAT(&b, "\x48\x8d");
    if (!(is_mov || is_lea) || !eat_behind_rax(&b, &offset))
        return false;
    x->rax = plus(x->rax, offset);
    if (is_mov)
        x->rax = load(x->rax);
    x->code = b;
    return true;
}

/* call *(%rax) of a descriptor, or __tls_get_addr, which alone gets its argument this way. */
static NOINLINE bool call_step(struct x86 *x) {
    struct bytes b = x->code;
    int32_t target;
    if (EAT(&b, "\xff\x10")) {
        bool is_descriptor = x->rax.holds == ADDRESS;
        x->rax.holds = is_descriptor ? RESULT : NOTHING;
    } else {
        bool is_call = EAT(&b, "\x48\xe8") || EAT(&b, "\x67\xe8") || EAT(&b, "\xe8") ||
                       EAT(&b, "\x48\xff\x15") || EAT(&b, "\xff\x15");
        if (!is_call || !eat_offset(&b, 4, &target))
            return false;
        bool is_index = x->rdi.holds == ADDRESS;
        x->rax = (struct value){.holds = is_index ? BLOCK : NOTHING, .at = x->rdi.at};
        x->rdi.holds = NOTHING;
    }
    x->code = b;
    return true;
}

struct mp_py_tls_form mp_py_tls_code_x86_64(const uint8_t *code, size_t bytes, uintptr_t address) {
    struct x86 x = {.code = {code, bytes, address}};
    for (unsigned i = 0; i < INSTRUCTIONS_MAX; i++) {
        if (EAT(&x.code, "\xc3"))
            return form_of(x.rax);
        if (is_frame(&x.code))
            continue;
        while (x.code.left > 1 && x.code.at[0] == 0x66) /* padding of sequences that the linker may
                                                         * relax */
            eat(&x.code, "\x66", 1);
        if (!thread_step(&x) && !place_step(&x) && !load_step(&x) && !call_step(&x))
            break;
    }
    return (struct mp_py_tls_form){0};
}

/* ---- aarch64 ---- */

static int64_t signed_bits(uint32_t value, unsigned bits) {
    return (int64_t)((uint64_t)value << (64 - bits)) >> (64 - bits);
}

/* Marks, signatures, padding, and the frame record. */
static bool is_arm_frame(uint32_t op) {
    return (op & 0xfffff01f) == 0xd503201f || op == 0xa9bf7bfd || op == 0x910003fd ||
           op == 0xa8c17bfd;
}

static struct value known(const struct value x[REGISTERS], unsigned number) {
    return number < REGISTERS ? x[number] : (struct value){0};
}

/* movz and movk, of numbers of 31 bits. */
static struct value arm_number(uint32_t op, struct value before) {
    unsigned shift = (op >> 21 & 3) * 16;
    uint32_t part = op >> 5 & 0xffff, kept = 0;
    if (op & 1u << 29) /* movk */
        kept = before.holds == NUMBER ? (uint32_t)before.offset & ~(0xffffu << (shift & 16)) : 0;
    bool fits = shift <= 16 && (part << shift) <= INT32_MAX &&
                ((op & 1u << 29) == 0 || before.holds == NUMBER);
    return (struct value){.holds = fits ? NUMBER : NOTHING,
                          .offset = fits ? (int32_t)(kept | part << shift) : 0};
}

/* False: not known. */
static bool arm_step(uint32_t op, uintptr_t address, struct value x[REGISTERS]) {
    unsigned d = op & 31, n = op >> 5 & 31, m = op >> 16 & 31;
    int32_t imm12 = (int32_t)(op >> 10 & 0xfff);
    /* bl __tls_get_addr, or blr of a descriptor: nothing else gets its argument this way */
    bool is_direct = (op & 0xfc000000) == 0x94000000;
    bool is_call = is_direct || (op & 0xfffffc1f) == 0xd63f0000;
    struct value result;
    if (d >= REGISTERS && !is_call)
        return false;
    if ((op & 0xffffffe0) == 0xd53bd040) /* mrs d, tpidr_el0 */
        result = (struct value){.holds = THREAD};
    else if ((op & 0x9f000000) == 0x90000000) { /* adrp */
        int64_t pages = signed_bits((op >> 5 & 0x7ffff) << 2 | (op >> 29 & 3), 21);
        uintptr_t at = (address & ~(uintptr_t)4095) + (uintptr_t)(pages * 4096);
        result = (struct value){.holds = ADDRESS, .at = at};
    } else if ((op & 0xff800000) == 0x91000000) /* add d, n, #imm */
        result = plus(known(x, n), imm12 << (op & 1u << 22 ? 12 : 0));
    else if ((op & 0xffe0fc00) == 0x8b000000) /* add d, n, m */
        result = sum(known(x, n), known(x, m));
    else if ((op & 0xffc00000) == 0xf9400000) /* ldr d, [n, #imm] */
        result = load(plus(known(x, n), imm12 * 8));
    else if ((op & 0xffe0fc00) == 0xf8606800) /* ldr d, [n, m] */
        result = load(sum(known(x, n), known(x, m)));
    else if ((op & 0xff800000) == 0xd2800000 || (op & 0xff800000) == 0xf2800000)
        result = arm_number(op, x[d]);
    else if (is_call && x[0].holds == ADDRESS) {
        if (is_direct) /* a descriptor's function leaves other registers as they are */
            x[1].holds = x[2].holds = x[3].holds = NOTHING;
        result = (struct value){.holds = is_direct ? BLOCK : RESULT, .at = x[0].at};
        d = 0;
    } else
        return false;
    x[d] = result;
    return true;
}

struct mp_py_tls_form mp_py_tls_code_aarch64(const uint8_t *code, size_t bytes, uintptr_t address) {
    struct value x[REGISTERS] = {0};
    for (size_t at = 0; at + 4 <= bytes && at < 4 * INSTRUCTIONS_MAX; at += 4) {
        uint32_t op;
        memcpy(&op, code + at, sizeof op);
        if (op == 0xd65f03c0 || op == 0xd65f0bff) /* ret, retaa */
            return form_of(x[0]);
        if (!is_arm_frame(op) && !arm_step(op, address + at, x))
            break;
    }
    return (struct mp_py_tls_form){0};
}
