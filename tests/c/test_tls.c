/*
 * test_tls.c - thread-local variables are found by the code that returns them.
 *
 *   test_tls LIBRARY...    each of tls_library.c
 *
 * First code that was written down, then what this machine's compiler and linker made: the variables of the program and of
 * each library must have, in every thread, the words that the functions themselves return.
 */
#include "check.h"
#include "python/tls.h"
#include "python/tls_code.h"
#include "unwind/stack_range.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#define PREFIX own_
#include "tls_variable.h"

#define AT ((uintptr_t)0x401000)

struct code {
    const char *name;
    struct mp_py_tls_form form;
    size_t bytes;
    const char *text;
};

#define X(name, way, at, offset, text) {name, {way, at, offset}, sizeof text - 1, text}
#define NOT(name, text) X(name, MP_PY_TLS_UNKNOWN, 0, 0, text)

static const struct code x86_64[] = {
    X("a fixed place", MP_PY_TLS_OFFSET, 0, -40, "\x64\x48\x8b\x04\x25\xd8\xff\xff\xff\xc3"),
    X("a fixed place, behind a mark", MP_PY_TLS_OFFSET, 0, -40,
      "\xf3\x0f\x1e\xfa\x64\x48\x8b\x04\x25\xd8\xff\xff\xff\xc3"),
    X("a fixed place, with a frame", MP_PY_TLS_OFFSET, 0, -40,
      "\x55\x48\x89\xe5\x64\x48\x8b\x04\x25\xd8\xff\xff\xff\x5d\xc3"),
    X("relaxed to a fixed place", MP_PY_TLS_OFFSET, 0, -32,
      "\x48\x83\xec\x08\x66\x66\x66\x64\x48\x8b\x04\x25\0\0\0\0\x48\x8b\x80\xe0\xff\xff\xff"
      "\x48\x83\xc4\x08\xc3"),
    X("relaxed to a fixed place, in two steps", MP_PY_TLS_OFFSET, 0, -24,
      "\x64\x48\x8b\x04\x25\0\0\0\0\x48\x8d\x80\xe0\xff\xff\xff\x48\x8b\x40\x08\xc3"),
    X("a slot", MP_PY_TLS_SLOT, AT + 7 + 0x100, 0, "\x48\x8b\x05\x00\x01\0\0\x64\x48\x8b\x00\xc3"),
    X("a slot, and behind it", MP_PY_TLS_SLOT, AT + 7 + 0x100, 16,
      "\x48\x8b\x05\x00\x01\0\0\x64\x48\x8b\x40\x10\xc3"),
    X("relaxed to a slot", MP_PY_TLS_SLOT, AT + 16 + 0x100, 0,
      "\x64\x48\x8b\x04\x25\0\0\0\0\x48\x03\x05\x00\x01\0\0\x48\x8b\x00\xc3"),
    X("an index", MP_PY_TLS_INDEX, AT + 12 + 0x100, 0,
      "\x48\x83\xec\x08\x66\x48\x8d\x3d\x00\x01\0\0\x66\x66\x48\xe8\x11\x22\x33\x44"
      "\x48\x8b\x00\x48\x83\xc4\x08\xc3"),
    X("an index, and behind it", MP_PY_TLS_INDEX, AT + 15 + 0x100, 0x28,
      "\xf3\x0f\x1e\xfa\x55\x48\x89\xe5\x48\x8d\x3d\x00\x01\0\0\xe8\x11\x22\x33\x44\x5d"
      "\x48\x8b\x80\x28\0\0\0\xc3"),
    X("an index, by an indirect call", MP_PY_TLS_INDEX, AT + 9 + 0x100, 8,
      "\x50\x66\x48\x8d\x3d\x00\x01\0\0\x66\x48\xff\x15\x11\x22\x33\x44\x48\x8b\x40\x08\x59\xc3"),
    X("a descriptor", MP_PY_TLS_DESCRIPTOR, AT + 7 + 0x100, 0,
      "\x48\x8d\x05\x00\x01\0\0\xff\x10\x64\x48\x8b\x00\xc3"),
    X("a descriptor, its result added", MP_PY_TLS_DESCRIPTOR, AT + 7 + 0x100, 8,
      "\x48\x8d\x05\x00\x01\0\0\xff\x10\x64\x48\x03\x04\x25\0\0\0\0\x48\x8b\x40\x08\xc3"),
    NOT("no return", "\x64\x48\x8b\x04\x25\xd8\xff\xff\xff"),
    NOT("cut in an operand", "\x64\x48\x8b\x04\x25\xd8\xff"),
    NOT("the thread pointer itself", "\x64\x48\x8b\x04\x25\0\0\0\0\xc3"),
    NOT("a variable of the process", "\x48\x8b\x05\x00\x01\0\0\xc3"),
    NOT("what a variable points to", "\x64\x48\x8b\x04\x25\xd8\xff\xff\xff\x48\x8b\x40\x08\xc3"),
    NOT("a call without an argument", "\xe8\x11\x22\x33\x44\x48\x8b\x00\xc3"),
    NOT("the value of a call", "\x48\x8d\x3d\x00\x01\0\0\xe8\x11\x22\x33\x44\xc3"),
    NOT("a branch", "\x74\x02\x64\x48\x8b\x04\x25\xd8\xff\xff\xff\xc3"),
    NOT("another register", "\x64\x48\x8b\x0c\x25\xd8\xff\xff\xff\xc3"),
    NOT("a jump", "\x48\x8d\x3d\x00\x01\0\0\xe9\x11\x22\x33\x44"),
    NOT("an offset that overflows",
        "\x64\x48\x8b\x04\x25\0\0\0\0\x48\x8d\x80\xff\xff\xff\x7f\x48\x8b\x80\xff\xff\xff\x7f"
        "\xc3"),
    NOT("no end of marks", "\xf3\x0f\x1e\xfa\xf3\x0f\x1e\xfa\xf3\x0f\x1e\xfa\xf3\x0f\x1e\xfa"
                           "\xf3\x0f\x1e\xfa\xf3\x0f\x1e\xfa\xf3\x0f\x1e\xfa\xf3\x0f\x1e\xfa"
                           "\xf3\x0f\x1e\xfa\xf3\x0f\x1e\xfa\xf3\x0f\x1e\xfa\xf3\x0f\x1e\xfa"
                           "\xf3\x0f\x1e\xfa\xf3\x0f\x1e\xfa\xf3\x0f\x1e\xfa\xf3\x0f\x1e\xfa"
                           "\x64\x48\x8b\x04\x25\xd8\xff\xff\xff\xc3"),
    NOT("nothing", ""),
};

static const struct code aarch64[] = {
    X("a fixed place", MP_PY_TLS_OFFSET, 0, 0x1018,
      /* mrs x0, tpidr_el0; add x0, x0, #1, lsl #12; add x0, x0, #0x10; ldr x0, [x0, #8]; ret */
      "\x40\xd0\x3b\xd5\x00\x04\x40\x91\x00\x40\x00\x91\x00\x04\x40\xf9\xc0\x03\x5f\xd6"),
    X("a fixed place, behind a mark", MP_PY_TLS_OFFSET, 0, 0x10,
      /* bti c; mrs x1, tpidr_el0; ldr x0, [x1, #16]; ret */
      "\x5f\x24\x03\xd5\x41\xd0\x3b\xd5\x20\x08\x40\xf9\xc0\x03\x5f\xd6"),
    X("a slot", MP_PY_TLS_SLOT, 0x411010, 0,
      /* mrs x1, tpidr_el0; adrp x0, 0x411000; ldr x0, [x0, #16]; ldr x0, [x1, x0]; ret */
      "\x41\xd0\x3b\xd5\x80\x00\x00\x90\x00\x08\x40\xf9\x20\x68\x60\xf8\xc0\x03\x5f\xd6"),
    X("a descriptor", MP_PY_TLS_DESCRIPTOR, 0x411010, 0,
      /* stp x29, x30, [sp, #-16]!; mov x29, sp; adrp x0, 0x411000; ldr x1, [x0, #16]; add x0, x0, #16;
       * blr x1; mrs x1, tpidr_el0; ldr x0, [x1, x0]; ldp x29, x30, [sp], #16; ret */
      "\xfd\x7b\xbf\xa9\xfd\x03\x00\x91\x80\x00\x00\x90\x01\x08\x40\xf9\x00\x40\x00\x91"
      "\x20\x00\x3f\xd6\x41\xd0\x3b\xd5\x20\x68\x60\xf8\xfd\x7b\xc1\xa8\xc0\x03\x5f\xd6"),
    X("a descriptor, its result added", MP_PY_TLS_DESCRIPTOR, 0x411010, 8,
      /* adrp x0; ldr x1, [x0, #16]; add x0, x0, #16; blr x1; mrs x1, tpidr_el0; add x0, x1, x0;
       * ldr x0, [x0, #8]; ret */
      "\x80\x00\x00\x90\x01\x08\x40\xf9\x00\x40\x00\x91\x20\x00\x3f\xd6\x41\xd0\x3b\xd5"
      "\x20\x00\x00\x8b\x00\x04\x40\xf9\xc0\x03\x5f\xd6"),
    X("an index", MP_PY_TLS_INDEX, 0x411010, 8,
      /* adrp x0; add x0, x0, #16; bl; nop; ldr x0, [x0, #8]; ret */
      "\x80\x00\x00\x90\x00\x40\x00\x91\x10\x00\x00\x94\x1f\x20\x03\xd5\x00\x04\x40\xf9"
      "\xc0\x03\x5f\xd6"),
    X("relaxed to a fixed place", MP_PY_TLS_OFFSET, 0, 0x10018,
      /* movz x0, #1, lsl #16; movk x0, #0x18; nop; mrs x1, tpidr_el0; ldr x0, [x1, x0]; ret */
      "\x20\x00\xa0\xd2\x00\x03\x80\xf2\x1f\x20\x03\xd5\x41\xd0\x3b\xd5\x20\x68\x60\xf8"
      "\xc0\x03\x5f\xd6"),
    NOT("a number of more bits",
        /* movz x0, #1, lsl #32; mrs x1, tpidr_el0; ldr x0, [x1, x0]; ret */
        "\x20\x00\xc0\xd2\x41\xd0\x3b\xd5\x20\x68\x60\xf8\xc0\x03\x5f\xd6"),
    NOT("no return", "\x41\xd0\x3b\xd5\x20\x08\x40\xf9"),
    NOT("the thread pointer itself", "\x40\xd0\x3b\xd5\xc0\x03\x5f\xd6"),
    NOT("a variable of the process", "\x80\x00\x00\x90\x00\x08\x40\xf9\xc0\x03\x5f\xd6"),
    NOT("a call without an argument", "\x20\x00\x3f\xd6\x00\x04\x40\xf9\xc0\x03\x5f\xd6"),
    NOT("another register", "\x41\xd0\x3b\xd5\x24\x08\x40\xf9\xc0\x03\x5f\xd6"),
    NOT("cut in an instruction", "\x41\xd0\x3b\xd5\x20\x08"),
    NOT("the thread pointer twice",
        "\x40\xd0\x3b\xd5\x00\x00\x00\x8b\x00\x04\x40\xf9\xc0\x03\x5f\xd6"),
};

typedef struct mp_py_tls_form decode(const uint8_t *code, size_t bytes, uintptr_t address);

static void check_code(const struct code *codes, size_t count, decode *decode) {
    for (const struct code *c = codes; c < codes + count; c++) {
        CASE(c->name);
        struct mp_py_tls_form form = decode((const uint8_t *)c->text, c->bytes, AT);
        CHECK_EQ(form.way, c->form.way);
        if (c->form.way == MP_PY_TLS_UNKNOWN)
            continue;
        CHECK_EQ(form.at, c->form.way == MP_PY_TLS_OFFSET ? form.at : c->form.at);
        CHECK_EQ(form.offset, c->form.offset);
        for (size_t bytes = 0; bytes < c->bytes; bytes++)
            CHECK_EQ(decode((const uint8_t *)c->text, bytes, AT).way, MP_PY_TLS_UNKNOWN);
    }
}

/* Any bytes end somewhere; a sanitizer sees a read behind them. */
static void check_any_code(decode *decode) {
    uint64_t state = 1;
    unsigned known = 0;
    CASE("any bytes");
    for (unsigned i = 0; i < 200000; i++) {
        uint8_t code[24];
        for (unsigned k = 0; k < sizeof code; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            code[k] = (uint8_t)(state >> 33);
        }
        known += decode(code, state >> 60, AT).way != MP_PY_TLS_UNKNOWN;
    }
    CHECK_EQ(known, 0);
}

struct module {
    const char *name; /* part of its path; "": the program */
    void *(*get_local)(void), *(*get_shared)(void);
    void (*set)(void *value);
    const char *local, *shared;
    struct mp_py_tls of_local, of_shared;
};

static bool find_variables(const struct mp_elf *elf, void *arg) {
    struct module *m = arg;
    struct mp_py_tls none;
    if (m->name[0] == '\0' ? elf->path[0] != '\0' : strcmp(elf->path, m->name) != 0)
        return false;
    CHECK(mp_py_tls_find(elf, m->local, &m->of_local));
    CHECK(mp_py_tls_find(elf, m->shared, &m->of_shared));
    CHECK(!mp_py_tls_find(elf, "not_there", &none));
    CHECK(!mp_py_tls_find(elf, m->name[0] == '\0' ? "own_set" : "lib_set", &none));
    return true;
}

static bool may_copy_now = true;

static bool may_copy(void) {
    return may_copy_now;
}

/* Does the system copy words, and may it be asked? (qemu-user does not.) */
static bool copies(void) {
    char from = 1, to = 0;
    return mp_stack_copy((uintptr_t)&from, &to, 1) && to == 1;
}

static bool is_readable(const struct module *m) {
    return m->of_local.kind != MP_PY_TLS_IN_BLOCK || copies();
}

static void check_same(const struct module *m) {
    if (!is_readable(m)) {
        CHECK_EQ(mp_py_tls_read(&m->of_local), 0);
        return;
    }
    CHECK_EQ(mp_py_tls_read(&m->of_local), m->get_local());
    CHECK_EQ(mp_py_tls_read(&m->of_shared), m->get_shared());
}

static void *in_thread(void *arg) {
    const struct module *m = arg;
    if (m->of_local.kind == MP_PY_TLS_IN_BLOCK)
        CHECK_EQ(mp_py_tls_read(&m->of_local), 0); /* the thread has no block yet */
    check_same(m);
    m->set(&arg);
    check_same(m);
    if (is_readable(m))
        CHECK_EQ(mp_py_tls_read(&m->of_local), &arg);
    return NULL;
}

static void check_module(struct module *m) {
    pthread_t thread;
    CASE(m->name);
    CHECK(mp_elf_visit(find_variables, m));
    m->set(m);
    check_same(m);
    if (is_readable(m))
        CHECK_EQ(mp_py_tls_read(&m->of_local), m);
    may_copy_now = false; /* as under a seccomp filter */
    check_same(m);
    may_copy_now = true;
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(pthread_create(&thread, NULL, in_thread, m), 0);
        pthread_join(thread, NULL);
    }
    check_same(m);
}

static void check_library(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    if (library == NULL)
        return;
    struct module m = {.name = path, .local = "lib_get_local", .shared = "lib_get_shared"};
    *(void **)&m.get_local = dlsym(library, m.local);
    *(void **)&m.get_shared = dlsym(library, m.shared);
    *(void **)&m.set = dlsym(library, "lib_set");
    check_module(&m);
    dlclose(library);
}

int main(int argc, char **argv) {
    struct module own = {
        "", own_get_local, own_get_shared, own_set, "own_get_local", "own_get_shared", {0}, {0}};
    mp_stack_init(may_copy);
    check_code(x86_64, sizeof x86_64 / sizeof *x86_64, mp_py_tls_code_x86_64);
    check_code(aarch64, sizeof aarch64 / sizeof *aarch64, mp_py_tls_code_aarch64);
    check_any_code(mp_py_tls_code_x86_64);
    check_any_code(mp_py_tls_code_aarch64);
    check_module(&own);
    for (int i = 1; i < argc; i++)
        check_library(argv[i]);
    return check_end();
}
