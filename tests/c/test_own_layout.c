/*
 * test_own_layout.c - what a runtime says of its layout is taken where it makes sense, and only there.
 */
#include "check.h"
#include "python/own_layout.h"

#include <string.h>

#define BYTES 1024

/* Where the three forms of _Py_DebugOffsets have what, by offsetof with the headers of each version. */
static const struct at {
    unsigned minor, interpreters;
    unsigned thread, frame_in_thread, thread_id;
    unsigned frame, previous, executable, instr_ptr, owner, tlbc_index;
    unsigned code, filename, name, qualname, linetable, firstlineno, units, tlbc;
    unsigned object, type, type_object, type_name, bytes, ob_size, ob_sval;
    unsigned text, state, length, ascii;
} forms[] = {
    {13,  40,  152, 184, 192, 224, 232, 240, 248, 264, 0,   272, 280, 288, 296,
     304, 312, 344, 0,   352, 360, 368, 376, 512, 520, 528, 536, 544, 552, 560},
    {14,  40,  176, 208, 216, 248, 256, 264, 272, 288, 304, 312, 320, 328, 336,
     344, 352, 384, 392, 400, 408, 416, 424, 592, 600, 608, 616, 624, 632, 640},
    {15,  40,  176, 208, 240, 312, 320, 328, 336, 352, 368, 376, 384, 392, 400,
     408, 416, 448, 456, 464, 472, 480, 488, 688, 696, 704, 712, 720, 728, 736},
};

static uint64_t runtime[BYTES / 8];

static void put(unsigned at, uint64_t value) {
    if (at != 0)
        runtime[at / 8] = value;
}

/* The head of a runtime of 3.`minor`, in that form, which says what the layout says. */
static void tell(const struct at *f, const struct mp_py_layout *l, unsigned minor) {
    bool more = l->free_threaded;
    memset(runtime, 0, sizeof runtime);
    memcpy(runtime, "xdebugpy", 8);
    put(8, 3u << 24 | minor << 16 | 0xf0);
    put(16, more);
    put(f->interpreters, l->interpreters);
    put(f->thread, 888);
    put(f->frame_in_thread, l->thread_frame);
    put(f->thread_id, l->thread_id);
    put(f->frame, 88);
    put(f->previous, l->frame_caller);
    put(f->executable, l->frame_code);
    put(f->instr_ptr, l->frame_place);
    put(f->owner, l->frame_flag);
    put(f->tlbc_index, more ? l->frame_copy : 0);
    put(f->code, l->code_units + 8u);
    put(f->filename, l->code_file);
    put(f->name, l->code_name);
    put(f->qualname, l->code_qualname);
    put(f->linetable, l->code_lines);
    put(f->firstlineno, l->code_first_line);
    put(f->units, l->code_units);
    put(f->tlbc, more ? l->code_copies : 0);
    put(f->object, l->type + 8u);
    put(f->type, l->type);
    put(f->type_object, 424);
    put(f->type_name, l->type_name);
    put(f->bytes, l->bytes_data + 8u);
    put(f->ob_size, l->size);
    put(f->ob_sval, l->bytes_data);
    put(f->text, l->text_wide + 8u);
    put(f->state, l->text_state);
    put(f->length, l->text_length);
    put(f->ascii, l->text_ascii);
}

static bool read_own(const struct mp_py_layout *like, unsigned minor, struct mp_py_layout *own) {
    bool free_threaded;
    return mp_py_own_head(runtime, sizeof runtime, minor, &free_threaded) &&
           free_threaded == like->free_threaded &&
           mp_py_own_layout(runtime, sizeof runtime, like, minor, own);
}

static void check_known(const struct at *f, const struct mp_py_layout *l) {
    struct mp_py_layout own;
    CASE("a runtime that says what the table says");
    tell(f, l, f->minor);
    CHECK(read_own(l, f->minor, &own));
    CHECK(mp_py_own_agrees(&own, l));
    CASE("another version, cookie, or number of bytes");
    CHECK(!read_own(l, f->minor + 1, &own));
    CHECK(!mp_py_own_layout(runtime, f->ascii, l, f->minor, &own));
    runtime[0]++;
    CHECK(!read_own(l, f->minor, &own));
    CASE("one structure has another field before the one that is read");
    tell(f, l, f->minor);
    put(f->frame_in_thread, l->thread_frame + 8u);
    CHECK(read_own(l, f->minor, &own));
    CHECK(!mp_py_own_agrees(&own, l));
    CHECK_EQ(own.thread_frame, l->thread_frame + 8);
    CHECK_EQ(own.number, MP_PY_NUMBER_OWN);
    CHECK_EQ(own.code_version, 0);
    CASE("what a text has behind its length moves with it");
    tell(f, l, f->minor);
    put(f->length, l->text_length + 8u);
    put(f->state, l->text_state + 8u);
    put(f->ascii, l->text_ascii + 8u);
    CHECK(read_own(l, f->minor, &own));
    CHECK_EQ(own.text_hash, l->text_hash + 8);
    CHECK_EQ(own.text_wide, l->text_wide + 8);
}

static void check_refused(const struct at *f, const struct mp_py_layout *l, unsigned at,
                          uint64_t value) {
    struct mp_py_layout own;
    tell(f, l, f->minor);
    put(at, value);
    CHECK(!read_own(l, f->minor, &own));
}

static void check_senseless(const struct at *f, const struct mp_py_layout *l) {
    CASE("an offset outside of its structure");
    check_refused(f, l, f->frame_in_thread, 888);
    check_refused(f, l, f->previous, UINT64_MAX - 7);
    check_refused(f, l, f->type_name, 1 << 20);
    CASE("an offset that is not aligned");
    check_refused(f, l, f->thread_id, l->thread_id + 4u);
    check_refused(f, l, f->firstlineno, l->code_first_line + 2u);
    CASE("a structure without a size, or with a huge one");
    check_refused(f, l, f->frame, 0);
    check_refused(f, l, f->code, 1 << 20);
    CASE("two fields at one place");
    check_refused(f, l, f->name, l->code_file);
    check_refused(f, l, f->executable, l->frame_caller);
    CASE("no room for the hash of a text");
    check_refused(f, l, f->state, l->text_length + 8u);
    CASE("interpreters in no place");
    check_refused(f, l, f->interpreters, l->interpreters + 4u);
    check_refused(f, l, f->interpreters, UINT64_MAX - 7);
    if (l->thread_key != 0) /* nobody says where the key is then */
        check_refused(f, l, f->interpreters, l->interpreters + 8u);
    CASE("neither with a lock nor without");
    check_refused(f, l, 16, 7);
}

static void check_newer(const struct at *f, const struct mp_py_layout *l) {
    struct mp_py_layout own;
    CASE("a newer version of the newest form");
    tell(f, l, MP_PY_NEWEST + 1);
    CHECK_EQ(read_own(l, MP_PY_NEWEST + 1, &own), f->minor == MP_PY_NEWEST);
    if (f->minor == MP_PY_NEWEST) {
        CHECK(!mp_py_own_agrees(&own, l));
        CHECK_EQ(own.minor, MP_PY_NEWEST + 1);
    }
}

int main(void) {
    for (unsigned i = 0; i < sizeof forms / sizeof *forms; i++)
        for (unsigned free_threaded = 0; free_threaded < 2; free_threaded++) {
            const struct mp_py_layout *l = mp_py_layout_of(forms[i].minor, free_threaded);
            CHECK(l != NULL);
            if (l == NULL)
                continue;
            check_known(&forms[i], l);
            check_senseless(&forms[i], l);
            check_newer(&forms[i], l);
        }
    return check_end();
}
