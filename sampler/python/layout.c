/*
 * layout.c - see layout.h.
 */
#include "layout_table.h"

#include <stddef.h>

const struct mp_py_layout *mp_py_layout_of(unsigned minor, bool free_threaded) {
    for (size_t i = 0; i < MP_PY_LAYOUTS; i++)
        if (mp_py_layouts[i].minor == minor && mp_py_layouts[i].free_threaded == free_threaded)
            return &mp_py_layouts[i];
    return NULL;
}
