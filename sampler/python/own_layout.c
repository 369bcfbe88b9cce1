/*
 * own_layout.c - see own_layout.h.
 */
#include "own_layout.h"
#include "unwind/unwind_walk.h"

#define FORMS 3 /* of _Py_DebugOffsets: 3.13, 3.14, 3.15 */
#define STRUCTURE_MAX 16384
#define INTERPRETERS_AT 40
#define WIDE_MORE 16 /* of a text that is not ASCII: length and place of its UTF-8 */
#define FIELD(name) offsetof(struct mp_py_layout, name)

/* The structures, by where their sizes are in _Py_DebugOffsets. */
enum structure { THREAD, FRAME, CODE, OBJECT, TYPE, BYTES, TEXT, STRUCTURES };

static const uint16_t sizes[STRUCTURES][FORMS] = {
    [THREAD] = {152, 176, 176}, [FRAME] = {224, 248, 312}, [CODE] = {272, 312, 376},
    [OBJECT] = {352, 400, 464}, [TYPE] = {368, 416, 480},  [BYTES] = {512, 592, 688},
    [TEXT] = {536, 616, 712},
};

static const struct item {
    uint16_t at[FORMS]; /* where its offset is */
    uint8_t field;      /* of the layout, 16 bits */
    uint8_t structure;
    uint8_t bytes; /* of what is there; it is aligned to as many */
    bool is_free;  /* free-threaded builds alone */
} items[] = {
    {{184, 208, 208}, FIELD(thread_frame), THREAD, 8, false},
    {{192, 216, 240}, FIELD(thread_id), THREAD, 8, false},
    {{232, 256, 320}, FIELD(frame_caller), FRAME, 8, false},
    {{240, 264, 328}, FIELD(frame_code), FRAME, 8, false},
    {{248, 272, 336}, FIELD(frame_place), FRAME, 8, false},
    {{264, 288, 352}, FIELD(frame_flag), FRAME, 1, false},
    {{0, 304, 368}, FIELD(frame_copy), FRAME, 4, true},
    {{280, 320, 384}, FIELD(code_file), CODE, 8, false},
    {{288, 328, 392}, FIELD(code_name), CODE, 8, false},
    {{296, 336, 400}, FIELD(code_qualname), CODE, 8, false},
    {{304, 344, 408}, FIELD(code_lines), CODE, 8, false},
    {{312, 352, 416}, FIELD(code_first_line), CODE, 4, false},
    {{344, 384, 448}, FIELD(code_units), CODE, 2, false},
    {{0, 392, 456}, FIELD(code_copies), CODE, 8, true},
    {{360, 408, 472}, FIELD(type), OBJECT, 8, false},
    {{376, 424, 488}, FIELD(type_name), TYPE, 8, false},
    {{520, 600, 696}, FIELD(size), BYTES, 8, false},
    {{528, 608, 704}, FIELD(bytes_data), BYTES, 1, false},
    {{544, 624, 720}, FIELD(text_state), TEXT, 4, false},
    {{552, 632, 728}, FIELD(text_length), TEXT, 8, false},
    {{560, 640, 736}, FIELD(text_ascii), TEXT, 8, false},
};

#define ITEMS (sizeof items / sizeof *items)

struct head {
    char cookie[8];
    uint64_t version;
    uint64_t free_threaded;
};

static MP_RAW_READS uint64_t number_at(const void *runtime, uint32_t at) {
    return *(const uint64_t *)((const unsigned char *)runtime + at);
}

static uint16_t *field_of(struct mp_py_layout *layout, const struct item *item) {
    return (uint16_t *)((unsigned char *)layout + item->field);
}

static uint16_t value_of(const struct mp_py_layout *layout, const struct item *item) {
    return *(const uint16_t *)((const unsigned char *)layout + item->field);
}

bool mp_py_own_head(const void *runtime, size_t bytes, unsigned minor, bool *free_threaded) {
    const struct head *head = runtime;
    if (bytes < sizeof *head)
        return false;
    for (unsigned i = 0; i < sizeof head->cookie; i++)
        if (head->cookie[i] != "xdebugpy"[i])
            return false;
    *free_threaded = head->free_threaded != 0;
    return head->version >> 24 == 3 && (head->version >> 16 & 0xff) == minor &&
           head->free_threaded <= 1;
}

/* Which form of _Py_DebugOffsets a version has; later ones are taken for the last. */
static unsigned form_of(unsigned minor) {
    unsigned form = minor - MP_PY_OWN_SINCE;
    return form < FORMS ? form : FORMS - 1;
}

static bool take(const void *runtime, unsigned form, const struct item *item, uint16_t *out) {
    uint64_t size = number_at(runtime, sizes[item->structure][form]);
    uint64_t offset = number_at(runtime, item->at[form]);
    if (size > STRUCTURE_MAX || offset > size || offset % item->bytes != 0)
        return false;
    /* instructions and characters come last, where the size may end */
    bool is_inside = offset + item->bytes <= size || item->field == FIELD(code_units);
    *out = (uint16_t)offset;
    return is_inside;
}

/* Two of one structure at one place: one of them is wrong. */
static bool is_distinct(const struct mp_py_layout *own, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (items[i].structure == items[count].structure &&
            items[i].is_free <= own->free_threaded &&
            value_of(own, &items[i]) == value_of(own, &items[count]))
            return false;
    return true;
}

bool mp_py_own_layout(const void *runtime, size_t bytes, const struct mp_py_layout *like,
                      unsigned minor, struct mp_py_layout *own) {
    unsigned form = form_of(minor);
    if (bytes < items[ITEMS - 1].at[form] + sizeof(uint64_t))
        return false;
    *own = *like;
    own->number = MP_PY_NUMBER_OWN;
    own->minor = (uint8_t)minor;
    own->code_version = 0;
    for (unsigned i = 0; i < ITEMS; i++) {
        const struct item *item = &items[i];
        if (item->is_free && (!own->free_threaded || item->at[form] == 0))
            continue;
        if (!take(runtime, form, item, field_of(own, item)) || !is_distinct(own, i))
            return false;
    }
    uint64_t interpreters = number_at(runtime, INTERPRETERS_AT);
    if (interpreters % sizeof(uint64_t) != 0 || interpreters > UINT32_MAX / 2 ||
        (like->thread_key != 0 && interpreters != like->interpreters))
        return false; /* the key's place is told by nobody */
    own->interpreters = (uint32_t)interpreters;
    own->text_hash = (uint16_t)(own->text_length + sizeof(uint64_t));
    own->text_wide = (uint16_t)(own->text_ascii + WIDE_MORE);
    return own->text_hash < own->text_state;
}

bool mp_py_own_agrees(const struct mp_py_layout *own, const struct mp_py_layout *like) {
    bool agrees = own->minor == like->minor && own->interpreters == like->interpreters &&
                  own->text_hash == like->text_hash && own->text_wide == like->text_wide;
    for (unsigned i = 0; i < ITEMS; i++)
        agrees &= value_of(own, &items[i]) == value_of(like, &items[i]);
    return agrees;
}
