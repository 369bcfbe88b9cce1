/*
 * inline_patch.c - see inline_patch.h. Encodings: Intel SDM volume 2.
 *
 * A stub, where the jump lands:
 *
 *            lea 8k(%rsp),%rsp              undo k pushes
 *            cmpq $0,%fs:entry_sp           is this thread in a hook?
 *            jne inner
 *     outer: movabs $record,%r9
 *            jmp *hook
 *     inner: cmp %rsp,%fs:entry_sp          in one that is still there?
 *            jb outer
 *     copy:  the pushes and the instruction
 *            jmp *to the next instruction
 */
#include "inline_patch.h"
#include "core/local.h"
#include "entry_hooks.h"
#include "unwind/unwind_arch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define STUB_BYTES 128 /* two cache lines */
#define STUB_FIXED_BYTES 66 /* all but the copy, with pushes to undo */
#define PAGES_MAX (2 * MP_PLAN_ENTRIES_MAX)
#define REACH ((int64_t)0x7fff0000) /* of a 32-bit distance, with room for a stub */
#define LOWEST ((int64_t)0x10000)   /* address that may be mapped */
#define HIGHEST ((int64_t)0x7ffffff00000) /* end of the address space, less 1 MiB */
#define STEP_MAX_BYTES ((int64_t)1 << 20) /* of the search for a free page */
#define STEPS 1500 /* on either side: most of the reach */

_Static_assert(STUB_FIXED_BYTES + MP_PLAN_COPY_BYTES <= STUB_BYTES, "room for the longest copy");

/* A function that jumps here now or did before. */
struct row {
    uint64_t address;
    uint64_t at; /* of the bytes that are written */
    uint8_t code[MP_PLAN_CODE_BYTES];
    uint8_t old[8], jump[8];
    uint8_t bytes;
    bool planned, on, done;
    bool made;  /* the stub is there */
    bool fresh; /* made for the plan at hand */
    bool of_library;
    bool closed; /* its module is gone */
    struct mp_entry_record record;
    const ElfW(Dyn) * dynamic;
    uint64_t identity;
};

/* Stubs are in pages that are writable until the sealing, and executable after it. */
struct stub_page {
    uintptr_t base;
    size_t bytes, used;
    bool sealed;
};

static struct row rows[MP_PLAN_ENTRIES_MAX];
static unsigned row_count;
static struct stub_page pages[PAGES_MAX];
static unsigned page_count;

static uintptr_t page_bytes(void) {
    return getauxval(AT_PAGESZ);
}

/* An address in [low, high] at which a stub fits one of the open pages; 0: none. */
static uintptr_t in_open_page(int64_t low, int64_t high) {
    for (unsigned i = 0; i < page_count; i++) {
        struct stub_page *p = &pages[i];
        int64_t from = (int64_t)(p->base + p->used);
        int64_t at = from > low ? from : low;
        if (p->sealed || at > high || at < from || at + STUB_BYTES > (int64_t)(p->base + p->bytes))
            continue;
        p->used = (size_t)(at - (int64_t)p->base) + STUB_BYTES;
        return (uintptr_t)at;
    }
    return 0;
}

/* Map the page, or two, for a stub at `at`. False: something is there. */
static bool map_page(int64_t at) {
    uintptr_t page = page_bytes(), base = (uintptr_t)at & -page;
    size_t bytes = (((uintptr_t)at + STUB_BYTES + page - 1) & -page) - base;
    if (page_count == PAGES_MAX || at < LOWEST || at > HIGHEST)
        return false;
    void *got = mmap((void *)base, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == MAP_FAILED)
        return false;
    if ((uintptr_t)got != base) { /* a kernel that treats the address as a hint */
        munmap(got, bytes);
        return false;
    }
    pages[page_count++] = (struct stub_page){.base = base, .bytes = bytes};
    return true;
}

/* Room for a stub at an address in [low, high], tried from `from` on both sides. */
static uintptr_t find_room(int64_t low, int64_t high, int64_t from) {
    uintptr_t at = in_open_page(low, high);
    int64_t page = (int64_t)page_bytes(), step = (high - low) / 64 & -page;
    step = step < page ? page : step > STEP_MAX_BYTES ? STEP_MAX_BYTES : step;
    for (int64_t i = 0; at == 0 && i < STEPS && (i == 0 || i * step <= high - low); i++) {
        int64_t tries[] = {from + i * step, from - i * step};
        for (unsigned k = 0; k < 2 && at == 0; k++)
            if (tries[k] >= low && tries[k] <= high && map_page(tries[k]))
                at = in_open_page(tries[k], high);
    }
    return at;
}

static void drop_open_pages(void) {
    unsigned left = 0;
    for (unsigned i = 0; i < page_count; i++)
        if (pages[i].sealed)
            pages[left++] = pages[i];
        else
            munmap((void *)pages[i].base, pages[i].bytes);
    page_count = left;
}

static int seal_pages(void) {
    for (unsigned i = 0; i < page_count; i++) {
        if (pages[i].sealed)
            continue;
        if (mprotect((void *)pages[i].base, pages[i].bytes, PROT_READ | PROT_EXEC) != 0)
            return -errno;
        pages[i].sealed = true;
    }
    return 0;
}

/* Code being written. */
struct code {
    unsigned char *at;
};

static void put(struct code *c, const void *bytes, size_t n) {
    memcpy(c->at, bytes, n);
    c->at += n;
}

#define PUT(c, ...)                                                                                \
    do {                                                                                           \
        static const unsigned char bytes_[] = {__VA_ARGS__};                                       \
        put(c, bytes_, sizeof bytes_);                                                             \
    } while (0)

static void put_far_jump(struct code *c, uint64_t to) {
    PUT(c, 0xff, 0x25, 0, 0, 0, 0); /* jmp *0(%rip) */
    put(c, &to, sizeof to);
}

/* The copy of the beginning, at c->at. False: a distance is too large from here. */
static bool put_copy(struct code *c, const struct mp_entry_point *p) {
    uint64_t base = (uint64_t)(uintptr_t)c->at;
    for (unsigned i = 0; i < p->fixups; i++) {
        int64_t distance = (int64_t)(p->fixup[i].target - (base + p->fixup[i].end));
        int32_t near = (int32_t)distance;
        if (near != distance)
            return false;
    }
    put(c, p->copy, p->copy_bytes);
    for (unsigned i = 0; i < p->fixups; i++) {
        int32_t near = (int32_t)(int64_t)(p->fixup[i].target - (base + p->fixup[i].end));
        memcpy((void *)(uintptr_t)(base + p->fixup[i].at), &near, sizeof near);
    }
    return true;
}

static bool write_stub(uintptr_t at, struct row *row, const struct mp_entry *e,
                       const struct mp_entry_point *p) {
    struct code c = {.at = (unsigned char *)at};
    int32_t entry_sp = (int32_t)((intptr_t)&mp_self.entry_sp - (intptr_t)mp_arch_thread_pointer());
    uint64_t record = (uint64_t)(uintptr_t)&row->record;
    if (p->pushed_words != 0) {
        unsigned char undo = (unsigned char)(8 * p->pushed_words);
        PUT(&c, 0x48, 0x8d, 0x64, 0x24);
        put(&c, &undo, 1);
    }
    PUT(&c, 0x64, 0x48, 0x83, 0x3c, 0x25); /* cmpq $0,%fs:entry_sp */
    put(&c, &entry_sp, sizeof entry_sp);
    PUT(&c, 0);
    PUT(&c, 0x75, 24); /* jne inner */
    PUT(&c, 0x49, 0xb9);
    put(&c, &record, sizeof record);
    put_far_jump(&c, mp_entry_hook((enum mp_entry_kind)e->kind));
    PUT(&c, 0x64, 0x48, 0x39, 0x24, 0x25); /* cmp %rsp,%fs:entry_sp */
    put(&c, &entry_sp, sizeof entry_sp);
    PUT(&c, 0x72, 0x100 - 24 - 9 - 2); /* jb outer */
    row->record.real = (uintptr_t)c.at;
    if (!put_copy(&c, p))
        return false;
    put_far_jump(&c, e->address + p->offset + p->length);
    return true;
}

/* The distances that a jump written at `at` can have: the bytes that stay are its upper ones. */
static void window_of(const struct mp_entry *e, const struct mp_entry_point *p, int64_t *low,
                      int64_t *high) {
    int64_t end = (int64_t)(e->address + p->offset + 5);
    *low = end - REACH;
    *high = end + REACH;
    if (p->write_bytes < 5) {
        unsigned free_bits = 8u * (p->write_bytes - 1u);
        int32_t fixed;
        memcpy(&fixed, e->code + p->offset + 1, sizeof fixed);
        fixed &= (int32_t)(~0u << free_bits);
        *low = end + fixed;
        *high = *low + ((int64_t)1 << free_bits) - 1;
    }
    if (*low < LOWEST)
        *low = LOWEST;
    if (*high > HIGHEST)
        *high = HIGHEST;
}

/* Make the stub and the jump for one point. */
static bool use_point(struct row *row, const struct mp_entry *e, const struct mp_entry_point *p) {
    int64_t low, high;
    window_of(e, p, &low, &high);
    int64_t from = p->write_bytes == 5 ? (int64_t)(e->address & -page_bytes()) : low;
    uintptr_t stub = low <= high ? find_room(low, high, from) : 0;
    if (stub == 0 || !write_stub(stub, row, e, p))
        return false;
    row->at = e->address + p->offset;
    row->bytes = p->write_bytes;
    int32_t distance = (int32_t)((int64_t)stub - (int64_t)(row->at + 5));
    memcpy(row->old, e->code + p->offset, 5);
    row->jump[0] = 0xe9;
    memcpy(row->jump + 1, &distance, sizeof distance);
    return true;
}

/* Check everything from outside before using it. */
static bool point_is_sound(const struct mp_entry *e, const struct mp_entry_point *p) {
    if (p->length == 0 || p->write_bytes == 0 || p->write_bytes > 5 || p->write_bytes > p->length ||
        p->offset + 5u > e->code_bytes || p->offset + p->length > e->code_bytes ||
        p->pushed_words > 15 || p->copy_bytes > MP_PLAN_COPY_BYTES || p->copy_bytes == 0 ||
        p->fixups > 2)
        return false;
    for (unsigned i = 0; i < p->fixups; i++)
        if (p->fixup[i].end > p->copy_bytes || p->fixup[i].end < 4 ||
            p->fixup[i].at > p->fixup[i].end - 4)
            return false;
    return (e->address + p->offset) % 8 + p->write_bytes <= 8;
}

static bool entry_is_sound(const struct mp_entry *e) {
    bool sound = e->kind < MP_ENTRY_KINDS && e->points <= MP_PLAN_POINTS &&
                 e->code_bytes <= MP_PLAN_CODE_BYTES &&
                 memchr(e->name, '\0', sizeof e->name) != NULL;
    for (unsigned i = 0; sound && i < e->points; i++)
        sound = point_is_sound(e, &e->point[i]);
    return sound;
}

/* The module that holds the code of an entry. */
struct owner {
    const struct mp_entry *entry;
    const ElfW(Dyn) * dynamic;
    uint64_t identity;
    bool same; /* the code matches the plan */
};

static bool find_owner(const struct mp_elf *elf, void *arg) {
    struct owner *o = arg;
    if (mp_elf_segment_rest(elf, o->entry->address, PF_R | PF_X) < o->entry->code_bytes)
        return false;
    o->dynamic = elf->dynamic;
    o->identity = mp_elf_identity(elf);
    o->same = memcmp((const void *)o->entry->address, o->entry->code, o->entry->code_bytes) == 0;
    return true;
}

static bool same_entry(const struct row *row, const struct mp_entry *e, const struct owner *o) {
    return row->address == e->address && row->dynamic == o->dynamic &&
           row->identity == o->identity && memcmp(row->code, e->code, sizeof row->code) == 0;
}

/* That of a closed module, of whose functions no thread can be in a hook any more; NULL: none is free. */
static struct row *free_row(void) {
    if (row_count < MP_PLAN_ENTRIES_MAX)
        return &rows[row_count++];
    for (unsigned i = 0; i < row_count; i++)
        if (rows[i].closed)
            return &rows[i];
    return NULL;
}

static struct row *row_for(const struct mp_entry *e, const struct owner *o) {
    for (unsigned i = 0; i < row_count; i++)
        if (same_entry(&rows[i], e, o))
            return &rows[i];
    struct row *row = free_row();
    if (row == NULL)
        return NULL;
    *row = (struct row){
        .address = e->address, .dynamic = o->dynamic, .identity = o->identity, .fresh = true};
    memcpy(row->code, e->code, sizeof row->code);
    return row;
}

static int prepare(const struct mp_entry *e, bool of_library, char *text, size_t n) {
    struct owner owner = {.entry = e};
    if (!entry_is_sound(e)) {
        snprintf(text, n, "the plan of entry points is damaged");
        return -EINVAL;
    }
    if (!mp_elf_visit(find_owner, &owner) || !owner.same) {
        snprintf(text, n, "the code of %s differs from its file: another tool changed it", e->name);
        return -EINVAL;
    }
    struct row *row = row_for(e, &owner);
    if (row == NULL) {
        snprintf(text, n, "the allocator has too many entry points");
        return -ENOSPC;
    }
    /* Its code is as in the file: a closed library may be here again. */
    row->on = row->closed = false;
    row->of_library = of_library;
    struct mp_entry_record *r = &row->record;
    r->kind = e->kind;
    r->flags = e->flags;
    r->size_argument = e->size_argument;
    r->count_argument = e->count_argument;
    r->block_argument = e->block_argument;
    for (unsigned i = 0; !row->made && i < e->points; i++)
        row->made = use_point(row, e, &e->point[i]);
    if (!row->made) {
        snprintf(text, n, "the beginning of %s leaves no room for a jump", e->name);
        return -ENOTSUP;
    }
    row->planned = true;
    return 0;
}

/* Exchange the bytes at row->at by one store of the aligned word around them. Its partner is the fetching of
 * instructions: see the end. */
static int exchange(const struct row *row, const uint8_t *from, const uint8_t *to) {
    uint64_t *word = (uint64_t *)(uintptr_t)(row->at & ~7ULL);
    unsigned shift = row->at & 7;
    uintptr_t page = page_bytes();
    void *start = (void *)((uintptr_t)word & -page);
    uint8_t bytes[8];
    uint64_t before = __atomic_load_n(word, __ATOMIC_RELAXED), after;
    memcpy(bytes, &before, sizeof bytes);
    if (memcmp(bytes + shift, from, row->bytes) != 0)
        return -EBUSY;
    memcpy(bytes + shift, to, row->bytes);
    memcpy(&after, bytes, sizeof after);
    if (mprotect(start, page, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
        return -errno;
    bool done = __atomic_compare_exchange_n(word, &before, after, false, __ATOMIC_SEQ_CST,
                                            __ATOMIC_RELAXED);
    /* Removing the write permission interrupts every processor that runs this process, so none
     * continues with bytes that it fetched before. */
    int rc = mprotect(start, page, PROT_READ | PROT_EXEC) != 0 ? -errno : 0;
    return done ? rc : -EBUSY;
}

/* A hooked allocation's block must not be freed or moved by an unhooked function. */
enum order { FREES, MOVES, BIRTHS, ORDERS };

static enum order order_of(const struct row *row) {
    uint8_t kind = row->record.kind;
    return kind == MP_ENTRY_FREE                              ? FREES
           : kind == MP_ENTRY_ALLOC || kind == MP_ENTRY_POSIX ? BIRTHS
                                                              : MOVES;
}

static int write_jumps(enum order order, struct mp_entry_counts *counts, char *text, size_t n) {
    for (unsigned i = 0; i < row_count; i++) {
        struct row *row = &rows[i];
        if (!row->planned || row->on || order != order_of(row))
            continue;
        int rc = exchange(row, row->old, row->jump);
        /* Written, but mprotect could not close the page: the undo covers it like the others. */
        row->on = memcmp((const void *)(uintptr_t)row->at, row->jump, row->bytes) == 0;
        if (rc != 0) {
            snprintf(text, n, "cannot change the code of the allocator: %s", strerror(-rc));
            return rc;
        }
        counts->patched++;
    }
    return 0;
}

struct restore {
    struct mp_entry_counts *counts;
    bool planned_only;
};

static bool restore_module(const struct mp_elf *elf, void *arg) {
    struct restore *r = arg;
    uint64_t identity = 0;
    for (unsigned i = 0; i < row_count; i++) {
        struct row *row = &rows[i];
        if (!row->on || row->dynamic != elf->dynamic || (r->planned_only && !row->planned))
            continue;
        identity = identity != 0 ? identity : mp_elf_identity(elf);
        if (identity != row->identity)
            continue;
        int rc = exchange(row, row->jump, row->old);
        row->done = rc == 0 || rc == -EBUSY;
        r->counts->restored += rc == 0;
        r->counts->foreign += rc == -EBUSY;
        r->counts->failed += rc != 0 && rc != -EBUSY;
    }
    return false;
}

static void restore(bool planned_only, struct mp_entry_counts *counts) {
    struct restore r = {.counts = counts, .planned_only = planned_only};
    mp_elf_visit(restore_module, &r);
    for (unsigned i = 0; i < row_count; i++)
        rows[i].on = rows[i].on && !rows[i].done;
    for (unsigned i = 0; i < row_count; i++)
        rows[i].done = false;
}

size_t mp_entry_plan_bytes(const struct mp_entry_plan *plan, size_t left) {
    if (left < sizeof *plan || plan->magic != MP_PLAN_MAGIC || plan->version != MP_PLAN_VERSION ||
        plan->entries > MP_PLAN_ENTRIES_MAX || plan->entry_bytes != sizeof(struct mp_entry))
        return 0;
    size_t bytes = sizeof *plan + plan->entries * sizeof(struct mp_entry);
    return bytes <= left ? bytes : 0;
}

int mp_entry_install(const struct mp_entry_plan *plan, size_t bytes, struct mp_entry_counts *counts,
                     char *text, size_t n) {
    int rc = 0;
#if !defined(__x86_64__)
    snprintf(text, n, "the sampler follows an allocator inside the program on x86-64 only");
    return -ENOTSUP;
#endif
    if (mp_entry_plan_bytes(plan, bytes) == 0) {
        snprintf(text, n, "the plan of entry points is of another version");
        return -EINVAL;
    }
    for (unsigned i = 0; i < row_count; i++)
        rows[i].planned = rows[i].fresh = false;
    for (uint32_t i = 0; rc == 0 && i < plan->entries; i++)
        rc = prepare(&plan->entry[i], plan->of_library != 0, text, n);
    if (rc == 0 && (rc = seal_pages()) != 0)
        snprintf(text, n, "cannot add code to the process: %s", strerror(-rc));
    if (rc != 0) {
        drop_open_pages();
        for (unsigned i = 0; i < row_count; i++)
            if (rows[i].fresh)
                rows[i] = (struct row){.closed = true};
        return rc;
    }
    for (enum order order = 0; rc == 0 && order < ORDERS; order++)
        rc = write_jumps(order, counts, text, n);
    if (rc != 0)
        restore(true, counts);
    return rc;
}

void mp_entry_restore(struct mp_entry_counts *counts) {
    restore(false, counts);
}

static bool find_module(const struct mp_elf *elf, void *arg) {
    const struct row *row = arg;
    return row->dynamic == elf->dynamic && row->identity == mp_elf_identity(elf) &&
           memcmp((const void *)(uintptr_t)row->at, row->jump, row->bytes) ==
               0; /* else opened anew */
}

void mp_entry_forget_closed(void) {
    const struct row *known = NULL; /* the rows of a module are in sequence */
    for (unsigned i = 0; i < row_count; i++) {
        struct row *row = &rows[i];
        if (!row->on ||
            (known != NULL && row->dynamic == known->dynamic && row->identity == known->identity))
            continue;
        if (mp_elf_visit(find_module, row))
            known = row;
        else
            row->on = !(row->closed = true);
    }
}

uint32_t mp_entry_count(void) {
    uint32_t n = 0;
    for (unsigned i = 0; i < row_count; i++)
        n += rows[i].on;
    return n;
}

bool mp_entry_of_program(void) {
    for (unsigned i = 0; i < row_count; i++)
        if (rows[i].on && !rows[i].of_library)
            return true;
    return false;
}

void mp_entry_libraries(uint64_t *addresses, unsigned n) {
    const ElfW(Dyn) *last = NULL;
    unsigned found = 0;
    for (unsigned i = 0; i < row_count && found < n; i++) {
        if (!rows[i].on || !rows[i].of_library || rows[i].dynamic == last)
            continue;
        last = rows[i].dynamic;
        addresses[found++] = rows[i].address;
    }
    while (found < n)
        addresses[found++] = 0;
}

bool mp_entry_covers(const ElfW(Dyn) * module) {
    for (unsigned i = 0; i < row_count; i++)
        if (rows[i].on && rows[i].dynamic == module)
            return true;
    return false;
}
