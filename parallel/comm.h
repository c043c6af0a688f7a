/* The ranks of one run. All communication between them goes through this interface: every call names its site
 * and layer, and is counted by the meter before a backend carries it out.
 *
 * Every call marked Collective must be made by all ranks, in the same order, with the same sizes. A job cannot
 * recover from an error in a collective: it ends (hw_comm_abort). */
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

/* Collective. `backend` is one of
 *   "self"  one rank, no MPI
 *   "shm"   ranks of one host add in shared memory; MPI messages between hosts
 *   "mpi"   MPI messages everywhere
 *   "auto"  self without mpirun or srun, or with one rank; shm where several ranks share a host, are placed as
 *           comm_shm.c requires and can share memory; else mpi
 *   "nccl"  as auto, with sums by NCCL once a device is attached
 * Results have the same bits with shm and mpi. Both initialise MPI if the program has not, and then also finalise
 * it. On HW_OK the caller owns *out (hw_comm_destroy). Errors: HW_ERR_INVALID (unknown backend; self among several
 * ranks), HW_ERR_UNSUPPORTED (shm where it is not possible), HW_ERR_DEVICE, HW_ERR_NO_MEMORY. */
hw_status hw_comm_create(hw_comm **out, const char *backend, hw_error *err);

/* Local, before a device is attached. Changes what the communicator does with a device: "auto" uses it if possible,
 * "nccl" requires it, and the name of the current backend ignores it. Host messages are not affected. Returns false
 * for any other name, and changes nothing. */
bool hw_comm_become(hw_comm *c, const char *backend);

/* Local. A communicator of this process alone, even if there are other ranks: for comparison with what they
 * compute together. */
hw_status hw_comm_create_alone(hw_comm **out, hw_error *err);

/* Collective over all ranks of the job, which must have a communicator already. Creates one of the first n of them (2
 * or more), with "shm" or "mpi": for comparing numbers of ranks with each other. *out is NULL on the other ranks, which
 * do not learn of errors of the first n: use hw_comm_agree. Errors: as hw_comm_create. */
hw_status hw_comm_create_first(hw_comm **out, int n, const char *backend, hw_error *err);

/* Collective over the ranks of `parent`. Creates a communicator of the ranks with the same color (0 or more), ordered by key, and by
 * rank for equal keys; NULL for HW_NO_GROUP. It inherits the parent's watch, limits and device policy, but attaches a device
 * itself (hw_comm_attach, before its first collective on the device). It adds like the parent, or by messages where its ranks cannot
 * share memory. The parent's meter counts its traffic, under the ranks' numbers in the job, because each rank has one total to compare with
 * Open MPI's, which does not know groups. Destroy it before its parent. An error is the same on all ranks of the parent, and then no
 * rank has a group. Errors: HW_ERR_NO_MEMORY, HW_ERR_DEVICE. */
enum { HW_NO_GROUP = -1 };
hw_status hw_comm_split(hw_comm **out, hw_comm *parent, int color, int key, hw_error *err);

/* Collective. NULL is fine. */
void hw_comm_destroy(hw_comm *c);

/* Local, and valid before any communicator exists: number of ranks and rank of this process from the launcher's
 * environment. (1, 0) when there is no launcher. */
int hw_comm_launched_ranks(void);
int hw_comm_launched_rank(void);

int hw_comm_rank(const hw_comm *c);
int hw_comm_job_rank(const hw_comm *c); /* among all ranks that were started; error messages use it */
int hw_comm_n_ranks(const hw_comm *c);
int hw_comm_n_local_ranks(const hw_comm *c);     /* ranks on this host, this one included */
int hw_comm_local_rank(const hw_comm *c);        /* this rank's index among them */
int hw_comm_host_of(const hw_comm *c, int rank); /* the lowest rank on the host of `rank` */
int hw_comm_n_sharing(const hw_comm *c);         /* with shm: ranks that share memory on a host; else 1 */
const char *hw_comm_backend(const hw_comm *c);
hw_meter *hw_comm_meter(hw_comm *c); /* borrowed */

/* Local. Seconds without progress after which a rank counts as stuck (limits.stuck_after); initially HW_STUCK_AFTER_S.
 * Takes effect when a device is attached. */
#define HW_STUCK_AFTER_S 3.5f
void hw_comm_set_stuck_after(hw_comm *c, double seconds);
double hw_comm_stuck_after(const hw_comm *c);

/* Local. The watch that is notified of this rank's collectives, borrowed; initially NULL: none. */
void hw_comm_set_watch(hw_comm *c, hw_watch *w);
hw_watch *hw_comm_watch(const hw_comm *c);

/* Collective. In place over `count` elements of host memory: HW_F32, HW_F16, HW_BF16 or HW_U64 for
 * HW_SUM, HW_U64 for HW_MAX. Two 16-bit floats are added as float32 and rounded to the nearest, ties to even,
 * once per addition. The sum is a fixed tree over the rank index, the same for short and long messages: the
 * first 2 * (n - p) ranks are added in pairs, p being the largest power of two <= n, then the p partial sums
 * as a balanced tree. So the result has the same bits on all ranks, and does not depend on timing. */
hw_status hw_comm_all_reduce(hw_comm *c, hw_tag tag, void *buffer, size_t count, hw_dtype type, hw_reduce op,
                             hw_error *err);

/* Collective. recv [n_ranks, n_bytes]: the `send` [n_bytes] of every rank, by rank. They do not overlap. */
hw_status hw_comm_all_gather(hw_comm *c, hw_tag tag, const void *send, size_t n_bytes, void *recv,
                             hw_error *err);

/* Collective. Copies root's `buffer` [n_bytes] to all ranks. */
hw_status hw_comm_broadcast(hw_comm *c, hw_tag tag, void *buffer, size_t n_bytes, int root, hw_error *err);

/* Collective. Copies rank 0's *bytes [*n_bytes] to all ranks, which need not know the size: the other ranks get a buffer
 * from malloc with a zero byte appended, which the caller frees. After an error *bytes is NULL on the other ranks, and
 * all have the same status. Errors: HW_ERR_NO_MEMORY, HW_ERR_DEVICE. */
hw_status hw_comm_share(hw_comm *c, hw_tag tag, char **bytes, size_t *n_bytes, hw_error *err);

/* One message between two ranks. The two ranks make matching calls in the same order; no other rank takes part. 0 to
 * 2^31 - 1 bytes. The receiver gets the size in *n_bytes, at most `capacity`. */
hw_status hw_comm_send(hw_comm *c, hw_tag tag, const void *buffer, size_t n_bytes, int to, hw_error *err);
hw_status hw_comm_receive(hw_comm *c, hw_tag tag, void *buffer, size_t capacity, size_t *n_bytes, int from,
                          hw_error *err);

/* Collective. Gives every rank the worst status of all ranks, and the error of the lowest rank that has it. err->rank is
 * set to that rank unless the error already had one. Rank and host are put in front of the message, except if the error
 * already had a rank or is rank 0's. Call it where a rank can fail alone (files, memory), before the others wait for it. */
hw_status hw_comm_agree(hw_comm *c, hw_status mine, hw_error *err);

/* Collective. Waits for rank 0, which calls it when there is work, without using a core: the other ranks poll for about a
 * millisecond, so that work that comes at once is not delayed, then sleep between looks, at most 6.4 ms. Rank 0 does not
 * wait; it sends each of the others an empty message, counted under the site `control`. Errors: HW_ERR_DEVICE. */
hw_status hw_comm_wait_idle(hw_comm *c, hw_error *err);

/* ---- on device memory. The device's library chooses what is sent, so the meter's `sent` is an estimate, that of
 * a ring. */

/* Collective, before the first collective on a device: attaches each rank's device. With "nccl" failure is an error
 * (HW_ERR_DEVICE says why: no library, ranks that share a GPU); with "auto" and several ranks it is not; with any
 * other backend nothing happens. */
hw_status hw_comm_attach(hw_comm *c, const hw_comm_attachment *a, hw_error *err);
void hw_comm_detach(hw_comm *c); /* Collective, before the device is destroyed. No-op without a device */
bool hw_comm_on_device(const hw_comm *c);

/* Collective, on a communicator with a device. As hw_comm_all_reduce, on D, in the device's stream and in the
 * library's order of additions: HW_F32, HW_F16 or HW_BF16 for HW_SUM, HW_U64 for HW_MAX. */
hw_status hw_comm_device_all_reduce(hw_comm *c, hw_tag tag, void *buffer, size_t count, hw_dtype type,
                                    hw_reduce op, hw_error *err);

/* Collective. The same, and waits until it has ended. For the first sum of a type and size: the library may then connect
 * ranks and load kernels, which can take longer than a step may, so call it while loading. Errors: HW_ERR_RANK (other
 * ranks did not join before the deadline), HW_ERR_DEVICE. */
hw_status hw_comm_device_first_all_reduce(hw_comm *c, hw_tag tag, void *buffer, size_t count, hw_dtype type,
                                          hw_reduce op, hw_error *err);

/* Local. Counts like hw_comm_device_all_reduce, for one that runs inside a graph. */
void hw_comm_device_count(hw_comm *c, hw_tag tag, size_t count, hw_dtype type);

/* Local. Waits until the device's stream has reached the event `until`, or is empty (NULL), up to the deadline:
 * then HW_ERR_RANK names this rank, its host and the collective that other ranks did not join. No-op without a
 * device. */
hw_status hw_comm_device_wait(hw_comm *c, void *until, hw_error *err);

/* Local. Ends all ranks with this exit code, for errors that were not agreed on. Returns only if there is one rank. */
void hw_comm_abort(hw_comm *c, int exit_code);

#ifdef __cplusplus
}
#endif
#endif
