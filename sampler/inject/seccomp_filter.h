/*
 * seccomp_filter.h - the effect of the target's seccomp filters on the system calls of an attach.
 *
 * Model: root may read the filters of a stopped thread as the classic BPF programs that they are. This
 * code runs them, for every call that the injected code, the loader and the sampler make. A filter that
 * answers with an error is no danger: the attach then fails and says so. One that kills is.
 */
#ifndef MP_INJECT_SECCOMP_FILTER_H
#define MP_INJECT_SECCOMP_FILTER_H

#include <stddef.h>
#include <stdint.h>

struct sock_filter;
struct seccomp_data;

/*
 * 0: no filter of the stopped thread harms it; -EPERM: one does, `call` names its call; -EACCES: they are
 * not readable.
 */
int mp_seccomp_check(int tid, char *call, size_t call_bytes);

/*
 * Run one filter: its action (SECCOMP_RET_*). A program that makes no sense kills, as the kernel would
 * not accept it.
 */
uint32_t mp_seccomp_run(const struct sock_filter *code, unsigned count,
                        const struct seccomp_data *data);

#endif
