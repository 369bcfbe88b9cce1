/*
 * layout_table.h - the layouts themselves, by version. In a header, so that a loop over frames can be compiled for
 * each of them, with offsets that are constants.
 *
 * Threads: constant data.
 */
#ifndef MP_PY_LAYOUT_TABLE_H
#define MP_PY_LAYOUT_TABLE_H

#include "layout.h"

/* Objects of builds with a GIL: to 3.11, and from 3.12. Free-threaded builds have 16 bytes more before each. */
#define OBJECTS_311                                                                                \
    .type = 8, .size = 16, .text_length = 16, .text_hash = 24, .text_state = 32, .text_ascii = 48, \
    .text_wide = 72, .bytes_data = 32, .type_name = 24, .state_kind = 2
#define OBJECTS                                                                                    \
    .type = 8, .size = 16, .text_length = 16, .text_hash = 24, .text_state = 32, .text_ascii = 40, \
    .text_wide = 56, .bytes_data = 32, .type_name = 24, .state_kind = 2
#define OBJECTS_FREE                                                                               \
    .type = 24, .size = 32, .text_length = 32, .text_hash = 40, .text_state = 48,                  \
    .text_ascii = 56, .text_wide = 72, .bytes_data = 48, .type_name = 40, .free_threaded = true

#define CODE_310                                                                                   \
    .code_first_line = 40, .code_units = 48, .code_file = 104, .code_name = 112, .code_lines = 120
#define CODE_312                                                                                   \
    .code_first_line = 68, .code_version = 92, .code_file = 112, .code_name = 120,                 \
    .code_qualname = 128, .code_lines = 136
#define CODE_FREE                                                                                  \
    .code_first_line = 84, .code_version = 108, .code_file = 128, .code_name = 136,                \
    .code_qualname = 144, .code_lines = 152

#define THREAD_310                                                                                 \
    .thread_key = 584, .thread_current = 568, .finalizing = 16, .interpreters = 32,                \
    .thread_id = 176, .thread_frame = 24, .frame_in = -1
#define FRAME_310 .frame_caller = 24, .frame_code = 32, .entry = MP_PY_ENTRY_ALWAYS
#define FRAME_312 .frame_caller = 8, .frame_code = 0, .frame_place = 56, .entry = MP_PY_ENTRY_SHIM

static const struct mp_py_layout mp_py_layouts[] = {
    {.number = 0, .minor = 9, THREAD_310, FRAME_310, .frame_place = 104, CODE_310, OBJECTS_311},
    {.number = 1, .minor = 10, THREAD_310, FRAME_310, .frame_place = 96, CODE_310, OBJECTS_311},
    {.number = 2,
     .minor = 11,
     .thread_key = 592,
     .thread_current = 576,
     .finalizing = 24,
     .interpreters = 40,
     .thread_id = 152,
     .thread_frame = 56,
     .frame_in = 8,
     .frame_caller = 48,
     .frame_code = 32,
     .frame_place = 56,
     .frame_flag = 68,
     .entry = MP_PY_ENTRY_FLAG,
     .code_first_line = 72,
     .code_file = 112,
     .code_name = 120,
     .code_qualname = 128,
     .code_lines = 136,
     .code_units = 184,
     OBJECTS_311},
    {.number = 3,
     .minor = 12,
     .thread_key = 1544,
     .finalizing = 24,
     .interpreters = 40,
     .thread_id = 136,
     .thread_frame = 56,
     .frame_in = 0,
     FRAME_312,
     .frame_flag = 70,
     CODE_312,
     .code_units = 192,
     OBJECTS},
    {.number = 4,
     .minor = 13,
     .thread_key = 2160,
     .interpreters = 632,
     .thread_id = 152,
     .thread_frame = 72,
     .frame_in = -1,
     FRAME_312,
     .frame_flag = 70,
     CODE_312,
     .code_units = 200,
     OBJECTS},
    {.number = 5,
     .minor = 13,
     .thread_key = 2160,
     .interpreters = 632,
     .thread_id = 152,
     .thread_frame = 72,
     .frame_in = -1,
     FRAME_312,
     .frame_flag = 70,
     CODE_FREE,
     .code_units = 216,
     OBJECTS_FREE,
     .state_kind = 2},
    {.number = 6,
     .minor = 14,
     .thread_key = 2336,
     .interpreters = 808,
     .thread_id = 152,
     .thread_frame = 72,
     .frame_in = -1,
     FRAME_312,
     .frame_flag = 74,
     CODE_312,
     .code_units = 208,
     OBJECTS},
    {.number = 7,
     .minor = 14,
     .thread_key = 2336,
     .interpreters = 808,
     .thread_id = 152,
     .thread_frame = 72,
     .frame_in = -1,
     FRAME_312,
     .frame_flag = 78,
     .frame_copy = 72,
     CODE_FREE,
     .code_units = 232,
     .code_copies = 224,
     OBJECTS_FREE,
     .state_kind = 8},
    {.number = 8,
     .minor = 15,
     .interpreters = 936,
     .thread_id = 176,
     .thread_frame = 72,
     .frame_in = -1,
     FRAME_312,
     .frame_flag = 74,
     CODE_312,
     .code_units = 208,
     OBJECTS},
    {.number = 9,
     .minor = 15,
     .interpreters = 936,
     .thread_id = 176,
     .thread_frame = 72,
     .frame_in = -1,
     FRAME_312,
     .frame_flag = 78,
     .frame_copy = 72,
     CODE_FREE,
     .code_units = 232,
     .code_copies = 224,
     OBJECTS_FREE,
     .state_kind = 8},
};

#define MP_PY_LAYOUTS (sizeof mp_py_layouts / sizeof *mp_py_layouts)
/* The numbers of all layouts, for code that is compiled once for each. */
#define MP_PY_LAYOUT_NUMBERS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9)

#endif
