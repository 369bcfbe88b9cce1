/*
 * maps_prot.h - is this address writable, as the kernel sees it.
 *
 * Model: MADV_POPULATE_WRITE of its page succeeds or is refused; the write that a program would make there is all
 * that it prepares. A kernel older than 5.14, and whatever answers in its stead (gVisor, a seccomp filter), is asked
 * about two places of ours first; where it does not tell them apart, /proc/self/maps is read, a line a mapping.
 */
#ifndef MP_MAPS_PROT_H
#define MP_MAPS_PROT_H

#include <stdint.h>

/*
 * INIT. No allocation, errno preserved.
 * Returns 1 writable, 0 not writable, or -errno: not mapped, or /proc/self/maps cannot be read.
 */
int mp_maps_writable(uintptr_t address);

#endif
