/*
 * hal.h - Ascend: what the wrappers of the driver and those above it share.
 */
#ifndef MP_HAL_H
#define MP_HAL_H

#include "drivers/wrap.h"

/*
 * HOOK, at the tail of the outermost wrapper: when the last answer is old enough, ask the driver for the
 * use of the last device. Does nothing when the driver itself called the wrapper.
 */
void mp_hal_ask_totals(const struct mp_device_scope *scope);

#endif
