/*
 * A library for test_unwind_dlopen.c, compiled twice with different FRAME_BYTES: the same code
 * addresses, other frame sizes.
 */
#ifndef FRAME_BYTES
#error "define FRAME_BYTES"
#endif

extern void plugin_constructed(void) __attribute__((weak));

__attribute__((constructor)) static void construct(void) {
    if (plugin_constructed)
        plugin_constructed();
    __asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) int plugin_inner(void (*callback)(void)) {
    volatile char frame[FRAME_BYTES];
    frame[0] = 1;
    callback();
    return frame[0];
}

__attribute__((visibility("default"))) int plugin(void (*callback)(void)) {
    volatile char frame[FRAME_BYTES * 2];
    frame[0] = 2;
    return plugin_inner(callback) + frame[0];
}
