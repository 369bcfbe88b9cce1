/*
 * redirect_plugin.cc - a library opened late that allocates by malloc and by operator new.
 */
#include "target.h"

#include <new>

extern "C" void plugin_by_malloc() {
    for (int i = 0; i < 10; i++) {
        void *p = keep(malloc(201));
        if (i < 4)
            free(p);
    }
}

extern "C" void plugin_by_new() {
    for (int i = 0; i < 10; i++) {
        void *p = keep(::operator new(202));
        if (i < 4)
            ::operator delete(p);
    }
}

extern "C" void plugin_allocate() {
    plugin_by_malloc();
    plugin_by_new();
}
