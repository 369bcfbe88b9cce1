/*
 * hooks_mimalloc.c - see hooks_mimalloc.h.
 */
#include "hooks_mimalloc.h"
#include "abi/mimalloc_list.h"
#include "core/capture.h"
#include "core/record.h"
#include "entry_hooks.h"

#include <errno.h>
#include <string.h>

#define AREAS 24u /* on the stack */

typedef uintptr_t word;

/* The beginning of mi_heap_area_t, the same in all versions. */
struct area {
    uintptr_t blocks;
    size_t reserved_bytes, committed_bytes;
};

typedef bool visitor(word heap, const struct area *area, void *block, size_t block_bytes,
                     void *arg);
typedef bool visit_blocks(word heap, bool each_block, visitor *visit, void *arg);

static visit_blocks *real_visit;
static void (*real_destroy)(word heap);
static word (*real_set_default)(word heap);

struct ended {
    struct {
        uintptr_t from, to;
    } area[AREAS];
    unsigned areas;
};

static bool is_in(const struct ended *ended, uintptr_t block) {
    for (unsigned i = 0; i < ended->areas; i++)
        if (block >= ended->area[i].from && block < ended->area[i].to)
            return true;
    return false;
}

static void end_blocks(struct ended *ended) {
    const struct mp_segment *seg = mp_capture_segment();
    const void *block;
    uint64_t cursor = 0;
    while (seg != NULL && (block = mp_live_next(seg, &cursor)) != NULL)
        if (is_in(ended, (uintptr_t)block))
            mp_record_free(block);
    ended->areas = 0;
}

/* mimalloc calls it once for each area. */
static bool end_area(word heap, const struct area *area, void *block, size_t block_bytes,
                     void *arg) {
    struct ended *ended = arg;
    (void)heap, (void)block, (void)block_bytes;
    if (ended->areas == AREAS)
        end_blocks(ended);
    ended->area[ended->areas].from = area->blocks;
    ended->area[ended->areas++].to = area->blocks + area->committed_bytes;
    return true;
}

static __attribute__((noinline)) void end_heap(word heap) {
    struct ended ended = {.areas = 0};
    int saved_errno = errno;
    real_visit(heap, false, end_area, &ended);
    end_blocks(&ended);
    errno = saved_errno;
}

static void destroy(word heap) {
    if (heap != 0 && mp_word_set_remove(&mp_entry_heaps, heap))
        end_heap(heap);
    real_destroy(heap);
}

/* From now on malloc takes from it, too. */
static word set_default(word heap) {
    if (heap != 0)
        mp_word_set_add(&mp_entry_heaps, heap);
    return real_set_default(heap);
}

typedef word hook(word, word, word, word, word, const struct mp_entry_record *);
typedef word function(word, word, word, word, word);

enum {
#define NUMBER(name, signature) AT_##name,
    MP_MIMALLOC_LIST(NUMBER) FUNCTIONS
};

static struct {
    struct mp_entry_record record;
    hook *hook;
} rows[FUNCTIONS];

/* Ends in a jump, so that the hook's caller is the program. */
#define WRAP(name, signature)                                                                      \
    static word wrap_##name(word a, word b, word c, word d, word e) {                              \
        return rows[AT_##name].hook(a, b, c, d, e, &rows[AT_##name].record);                       \
    }
MP_MIMALLOC_LIST(WRAP)

static const struct {
    const char *name, *signature;
    function *wrapper;
} functions[FUNCTIONS] = {
#define ENTRY(name, signature) [AT_##name] = {#name, signature, wrap_##name},
    MP_MIMALLOC_LIST(ENTRY)};

static enum mp_entry_kind kind_of(char letter) {
    switch (letter) {
    case 'A':
        return MP_ENTRY_ALLOC;
    case 'P':
        return MP_ENTRY_POSIX;
    case 'F':
        return MP_ENTRY_FREE;
    case 'I':
        return MP_ENTRY_REALLOC_AT;
    default:
        return MP_ENTRY_REALLOC;
    }
}

static uint8_t index_of(const char *signature, char letter) {
    const char *arguments = signature + strlen("A:"), *found = strchr(arguments, letter);
    return found != NULL ? (uint8_t)(found - arguments) : MP_ARGUMENT_NONE;
}

static void fill(unsigned i, uintptr_t real) {
    const char *signature = functions[i].signature;
    enum mp_entry_kind kind = kind_of(signature[0]);
    rows[i].record = (struct mp_entry_record){
        .real = real,
        .kind = (uint8_t)kind,
        .flags = signature[0] == 'r' ? MP_ENTRY_FREES_ON_FAILURE : 0,
        .size_argument = index_of(signature, 's'),
        .count_argument = index_of(signature, 'n'),
        .block_argument = index_of(signature, 'b'),
        .of_heap = index_of(signature, 'h') == 0,
    };
    rows[i].hook = (hook *)mp_entry_hook(kind);
}

bool mp_mimalloc_add(struct mp_slot_table *table) {
    struct mp_elf_symbol first, symbol;
    if (!mp_elf_find_symbol(MP_ELF_FIRST, "mi_malloc", &first) || first.path[0] == '\0' ||
        !mp_elf_find_in_module(first.module, "mi_free", &symbol))
        return false;
    if (mp_elf_find_in_module(first.module, "mi_heap_destroy", &symbol)) {
        real_destroy = (void (*)(word))symbol.address;
        if (!mp_elf_find_in_module(first.module, "mi_heap_visit_blocks", &symbol))
            return false;
        real_visit = (visit_blocks *)symbol.address;
        mp_slots_add(table, "mi_heap_destroy", (uintptr_t)real_destroy, (uintptr_t)destroy);
        if (mp_elf_find_in_module(first.module, "mi_heap_set_default", &symbol)) {
            real_set_default = (word (*)(word))symbol.address;
            mp_slots_add(table, "mi_heap_set_default", symbol.address, (uintptr_t)set_default);
        }
    }
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        if (!mp_elf_find_in_module(first.module, functions[i].name, &symbol))
            continue;
        fill(i, symbol.address);
        mp_slots_add(table, functions[i].name, symbol.address, (uintptr_t)functions[i].wrapper);
    }
    return true;
}
