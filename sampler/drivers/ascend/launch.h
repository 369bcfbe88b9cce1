/*
 * launch.h - Ascend: what the wrappers of launches share.
 */
#ifndef MP_ASCEND_LAUNCH_H
#define MP_ASCEND_LAUNCH_H

/* HOOK, outside of the sampler's guard: asks the runtime; errno preserved. The device of the calling thread; -1: unknown. */
int mp_ascend_device(void);

#endif
