/* The ranks of one run, and the only door between them. Everything that crosses goes through here, says
 * which site and layer it is for, and is counted by the meter before a backend sees it.
 *
 * Every call marked Collective must be made by all ranks, in the same order, with the same sizes. An error
 * in a collective cannot be repaired: the job ends (hw_comm_abort). */
#ifndef HW_PARALLEL_COMM_H
#define HW_PARALLEL_COMM_H

#include <stddef.h>

#include "parallel/comm_device.h"
#include "parallel/meter.h"
#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_comm hw_comm;
typedef struct hw_watch hw_watch; /* parallel/watch.h */

/* Collective. `backend`: "self" (one rank, no MPI), "shm" (ranks of one host add in memory that they share,
 * messages of MPI between hosts), "mpi" (messages everywhere), "auto": self without mpirun or srun, or with
 * one rank; shm where several ranks share a host, lie there as comm_shm.c wants it and can share memory; else
 * mpi; or "nccl": as auto, and sums by NCCL once a device is attached. The bits of results are the same with
 * shm and mpi. Both initialise MPI if the program has not, and then also finalise it. On HW_OK the caller
 * owns *out (hw_comm_destroy). Errors: HW_ERR_INVALID (unknown backend; self among several ranks),
 * HW_ERR_UNSUPPORTED (shm where it cannot be), HW_ERR_DEVICE, HW_ERR_NO_MEMORY. */
hw_status hw_comm_create(hw_comm **out, const char *backend, hw_error *err);

/* Local, before a device is attached. With "auto" and "nccl" only what becomes of a device changes, and
 * messages go on as they do; the same with the name of the backend that it has. False, and it stays as it is,
 * for any other. */
bool hw_comm_become(hw_comm *c, const char *backend);

/* Local. A communicator of this process alone, also where there are other ranks: for comparing with what
 * they compute together. */
hw_status hw_comm_create_alone(hw_comm **out, hw_error *err);

/* Collective over all ranks of the job, which have a communicator by then. One of the first n of them (2 or
 * more), by "shm" or "mpi": for comparing numbers of ranks with each other. NULL on the others, who do not
 * hear of errors of the first: agree. Errors: as hw_comm_create. */
hw_status hw_comm_create_first(hw_comm **out, int n, const char *backend, hw_error *err);

/* Collective over the ranks of `parent`. A communicator of those that give the same color (0 or more), in the order of their keys, equal
 * ones in the order of their ranks; NULL for HW_NO_GROUP. It has what the parent has by now: its watch, limits and what it wants of a
 * device, which it attaches for itself (hw_comm_attach, before its first collective on the device). It adds as the parent does,
 * or by messages where its ranks cannot share memory. The parent's meter counts for it, by numbers in the job: a rank has one
 * account of what it sends, and Open MPI, with whose count it is compared, knows no groups. Destroy it before its parent. After an
 * error all ranks of the parent have the same, and none has a group. Errors: HW_ERR_NO_MEMORY, HW_ERR_DEVICE. */
enum { HW_NO_GROUP = -1 };
hw_status hw_comm_split(hw_comm **out, hw_comm *parent, int color, int key, hw_error *err);

/* Collective. NULL is fine. */
void hw_comm_destroy(hw_comm *c);

/* Local, and before any communicator exists: what the launcher's environment says of this process. (1, 0)
 * when there is no launcher. */
int hw_comm_launched_ranks(void);
int hw_comm_launched_rank(void);

int hw_comm_rank(const hw_comm *c);
int hw_comm_job_rank(const hw_comm *c); /* among all ranks that were started, as messages call it */
int hw_comm_n_ranks(const hw_comm *c);
int hw_comm_n_local_ranks(const hw_comm *c);     /* ranks on this host, this one included */
int hw_comm_local_rank(const hw_comm *c);        /* of them: how many are lower than this one */
int hw_comm_host_of(const hw_comm *c, int rank); /* equal for ranks on one host: the lowest of them */
int hw_comm_n_sharing(const hw_comm *c);         /* with shm: ranks that share memory on a host; else 1 */
const char *hw_comm_backend(const hw_comm *c);
hw_meter *hw_comm_meter(hw_comm *c); /* borrowed */

/* Local. After how many seconds without progress a rank counts as stuck (limits.stuck_after); HW_STUCK_AFTER_S at
 * first. It takes effect when a device is attached. */
#define HW_STUCK_AFTER_S 3.5f
void hw_comm_set_stuck_after(hw_comm *c, double seconds);
double hw_comm_stuck_after(const hw_comm *c);

/* Local. Who is told of this rank's collectives, borrowed; NULL, as at first: nobody. */
void hw_comm_set_watch(hw_comm *c, hw_watch *w);
hw_watch *hw_comm_watch(const hw_comm *c);

/* Collective. In place over `count` elements of host memory: HW_F32, HW_F16, HW_BF16 or HW_U64 for
 * HW_SUM, HW_U64 for HW_MAX. Two 16-bit floats are added as float32 and rounded to the nearest, ties to even,
 * once per addition. The sum is a fixed tree over the rank index, the same for short and long messages: the
 * first 2 * (n - p) ranks are added in pairs, p being the largest power of two <= n, then the p partial sums
 * as a balanced tree. So the result has the same bits on all ranks, and does not depend on timing. */
hw_status hw_comm_all_reduce(hw_comm *c, hw_tag tag, void *buffer, size_t count, hw_dtype type, hw_reduce op,
                             hw_error *err);

/* Collective. recv [n_ranks, n_bytes]: what every rank gave as `send` [n_bytes], by rank. They do not
 * overlap. */
hw_status hw_comm_all_gather(hw_comm *c, hw_tag tag, const void *send, size_t n_bytes, void *recv,
                             hw_error *err);

/* Collective. Everybody gets root's `buffer` [n_bytes]. */
hw_status hw_comm_broadcast(hw_comm *c, hw_tag tag, void *buffer, size_t n_bytes, int root, hw_error *err);

/* Collective. Gives everybody a copy of rank 0's *bytes [*n_bytes], whose number the others need not know:
 * they get one from malloc with a zero byte behind it, which the caller frees. After an error *bytes of the
 * others is NULL, and all have the same status. Errors: HW_ERR_NO_MEMORY, HW_ERR_DEVICE. */
hw_status hw_comm_share(hw_comm *c, hw_tag tag, char **bytes, size_t *n_bytes, hw_error *err);

/* One message from one rank to another: both make their call, in the same order as for others between the
 * two; no third rank takes part. At most 2^31 - 1 bytes; there may be none. The receiver learns how many
 * there are, at most `capacity`. */
hw_status hw_comm_send(hw_comm *c, hw_tag tag, const void *buffer, size_t n_bytes, int to, hw_error *err);
hw_status hw_comm_receive(hw_comm *c, hw_tag tag, void *buffer, size_t capacity, size_t *n_bytes, int from,
                          hw_error *err);

/* Collective. Gives every rank the worst status of all, and the error of the lowest rank that has it. Its `rank`
 * is that rank, unless it had one before; then, and for rank 0's, the message stays as it is, else rank and host
 * are put in front. Call it where a rank can fail alone (files, memory), before the others wait for it. */
hw_status hw_comm_agree(hw_comm *c, hw_status mine, hw_error *err);

/* ---- on the memory of a device. What is sent is the library's business: the meter's `sent` is then an
 * estimate, that of a ring. */

/* Collective, before the first collective on a device: its device, on every rank. With "nccl" it has to work
 * (HW_ERR_DEVICE says why it does not: no library, ranks that share a GPU); with "auto" and several ranks it
 * may; with any other backend nothing happens. */
hw_status hw_comm_attach(hw_comm *c, const hw_comm_attachment *a, hw_error *err);
void hw_comm_detach(hw_comm *c); /* Collective, before the device is destroyed. Without a device: nothing */
bool hw_comm_on_device(const hw_comm *c);

/* Collective, on a communicator with a device. As hw_comm_all_reduce, on D, in the device's stream and in the
 * library's order of additions: HW_F32, HW_F16 or HW_BF16 for HW_SUM, HW_U64 for HW_MAX. */
hw_status hw_comm_device_all_reduce(hw_comm *c, hw_tag tag, void *buffer, size_t count, hw_dtype type,
                                    hw_reduce op, hw_error *err);

/* Local. Counts what hw_comm_device_all_reduce counts, for one that a graph makes. */
void hw_comm_device_count(hw_comm *c, hw_tag tag, size_t count, hw_dtype type);

/* Local. Waits until the stream of the device has run up to `until`, a mark of the device's, or all that is in
 * it (NULL), but not for ever: HW_ERR_RANK names this rank, its host and the
 * collective in which others are missing. Without a device: nothing to wait for. */
hw_status hw_comm_device_wait(hw_comm *c, void *until, hw_error *err);

/* Local. Ends all ranks with this exit code, for errors that were not agreed on. Does not return where
 * there are several ranks. */
void hw_comm_abort(hw_comm *c, int exit_code);

#ifdef __cplusplus
}
#endif
#endif
