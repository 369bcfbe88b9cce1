/* mstx_lib.c - mstx's functions for a program of another language, as its Python package calls them. */
#include "mstx.h"

void stub_mark(const char *message) {
    mstxMarkA(message, NULL);
}

uint32_t stub_range_start(const char *message) {
    return (uint32_t)mstxRangeStartA(message, NULL); /* the package gives Python 32 bits */
}

void stub_range_end(uint32_t range) {
    mstxRangeEnd(range);
}
