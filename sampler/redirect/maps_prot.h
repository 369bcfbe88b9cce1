/*
 * maps_prot.h - is this address writable, by the kernel's map of the process.
 */
#ifndef MP_MAPS_PROT_H
#define MP_MAPS_PROT_H

#include <stdint.h>

/*
 * INIT. Reads /proc/self/maps with a buffer on the stack: no allocation, errno preserved.
 * Returns 1 writable, 0 not writable, -ENOENT not mapped, or another -errno when the file cannot be read.
 */
int mp_maps_writable(uintptr_t address);

#endif
