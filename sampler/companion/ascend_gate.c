/*
 * ascend_gate.c - all of libmem_sampler_libascend_kernel_hook.so, which does nothing.
 *
 * torch_npu announces the blocks of its caching pool through mstx only if LD_PRELOAD, separated by
 * colons, has an entry whose real path ends in libascend_kernel_hook.so. The preloaded file of that name
 * must exist; the announcements come to libmem_sampler.so (drivers/marks/mstx.c).
 */
extern const int mp_ascend_gate;
const int mp_ascend_gate __attribute__((visibility("hidden"))) = 1;
