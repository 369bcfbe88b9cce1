/*
 * device_rows.h - birth and end of a live row with all that counts it, for the files of this folder.
 *
 * Threads: HOOK.
 */
#ifndef MP_DEVICE_ROWS_H
#define MP_DEVICE_ROWS_H

#include "core/capture.h"

/* Counters to which a free of `row` belongs; NULL when its capture is over. */
struct mp_device_site_row *mp_device_row_site(struct mp_segment *seg,
                                              const struct mp_device_live_row *row);

/* Under a guard. Fill in the row's site, add it to the table of live blocks, and count it. False: the loss was
 * counted. */
bool mp_device_row_born(const struct mp_capture_view *capture, struct mp_device_live_row *row,
                        uint32_t domain, uint32_t stack);

/* Count the end of a row that was removed, and take that back. */
void mp_device_row_ended(struct mp_segment *seg, const struct mp_device_live_row *row);
void mp_device_row_back(struct mp_segment *seg, const struct mp_device_live_row *row);

#endif
