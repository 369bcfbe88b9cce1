/*
 * device_inherited.h - mappings that a fork child has from its parent.
 *
 * Model: before a fork the parent copies the rows of its mappings into memory of its own, which the fork copies with the
 * mappings themselves. When the child's segment is made, they are its first blocks: with the parent's stacks, born when
 * the child's capture began. Until then the child keeps its calls away from them by making its segment
 * first. What other threads of the parent do between copy and fork is put right by the reader, which compares with
 * /proc/PID/maps.
 *
 * Threads: those around a fork; mp_inherited_store() is HOOK, one at a time.
 */
#ifndef MP_DEVICE_INHERITED_H
#define MP_DEVICE_INHERITED_H

#include <stdbool.h>

#define MP_INHERITED_ROWS 65536u /* Linux's usual limit; others count as lost in the child */

/* In the parent, with a segment, and then after the fork, even one that failed. */
void mp_inherited_take(void);
void mp_inherited_taken(void);

/* In the child: are there any, or were there too many? `captures` false: nothing is captured there. */
bool mp_inherited_begin(bool captures);
bool mp_inherited_wait(void);

/* In the child, with its segment, whose capture runs. */
void mp_inherited_store(void);

#endif
