/* Collectives on device memory, in the device's stream: the table that a device plug-in may export, and how a
 * communicator uses it. Only sums of activations and sampled keys run on the device; agreement, text and reports
 * use the backend that the communicator was created with. */
#ifndef HW_PARALLEL_COMM_DEVICE_H
#define HW_PARALLEL_COMM_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum hw_reduce { HW_SUM, HW_MAX } hw_reduce;

/* The symbol under which a plug-in exports its hw_comm_device_ops. */
#define HW_COMM_DEVICE_SYMBOL "hw_plugin_collectives"

/* The version is incremented with every change of the interface below. */
enum { HW_COMM_DEVICE_VERSION = 6, HW_COMM_ID_BYTES = 128 };

/* What a rank needs to join a group. */
typedef struct hw_comm_member {
    int rank, n_ranks;
    const char *id;    /* [HW_COMM_ID_BYTES] the same on all ranks; borrowed */
    void *stream;      /* of the device, which is current in the calling thread; borrowed until `close` */
    double deadline_s; /* how long a rank waits for the others before it gives up */
} hw_comm_member;

/* `number`: the caller's number of a collective, which `wait` reports back. */
typedef struct hw_comm_device_ops {
    uint64_t version; /* HW_COMM_DEVICE_VERSION */
    const char *name; /* "nccl" */

    /* Local. Loads the library. On HW_OK the caller closes *state. Errors: HW_ERR_DEVICE (not found, too
     * old). */
    hw_status (*open)(void **state, hw_error *err);

    /* Local. Whether several ranks may use one device. */
    bool (*may_share)(void *state);

    /* Local, on one rank. Creates the id of a new group. */
    hw_status (*make_id)(void *state, char id[HW_COMM_ID_BYTES], hw_error *err);

    /* Collective, once. Errors: HW_ERR_RANK (other ranks did not join in time), HW_ERR_DEVICE. */
    hw_status (*join)(void *state, const hw_comm_member *m, hw_error *err);

    /* Collective after a successful `join`, else Local. NULL is fine. */
    void (*close)(void *state);

    /* Collective. Enqueued on the stream, in place over `count` elements D: HW_F32, HW_F16 or HW_BF16 for HW_SUM,
     * HW_U64 for HW_MAX. All ranks get the same bits. */
    hw_status (*all_reduce)(void *state, uint64_t number, void *buffer, size_t count, hw_dtype type,
                            hw_reduce op, hw_error *err);

    /* Collective. The same for the first sum of a type and size, for which a library may connect ranks and load kernels:
     * the call may take long. HW_ERR_RANK if it has not returned by the deadline. */
    hw_status (*first_all_reduce)(void *state, uint64_t number, void *buffer, size_t count, hw_dtype type,
                                  hw_reduce op, hw_error *err);

    /* Collective. Measures the library alone: seconds of one sum in place over `count` elements D of zeros, as
     * in a decode step: `repeats` of them in one graph, each on the result of the previous one.
     * Errors: HW_ERR_DEVICE, HW_ERR_RANK. */
    hw_status (*measure)(void *state, void *buffer, size_t count, hw_dtype type, int repeats, double *seconds,
                         hw_error *err);

    /* Local. Returns HW_OK when the stream has reached the event `until` or is empty (NULL), and also when it has
     * failed, since the device reports that error. HW_ERR_RANK when the deadline has passed or another rank is
     * gone: then the group is aborted, so that nothing waits for ever, `why` [capacity] has the library's reason,
     * and *number is the first collective that did not complete; UINT64_MAX if it was part of a graph. */
    hw_status (*wait)(void *state, void *until, uint64_t *number, char *why, size_t capacity);
} hw_comm_device_ops;

/* What collectives need to know of a rank's device. */
typedef struct hw_comm_attachment {
    const hw_comm_device_ops *ops; /* NULL: the device has no collectives */
    void *stream;
    uint64_t hardware; /* equal for ranks that share one physical device */
    const char *name;  /* of the device, for messages; borrowed during the call */
} hw_comm_attachment;

/* The group of a communicator. */
typedef struct hw_comm_group hw_comm_group;
struct hw_comm;

/* Collective. If no group is possible, *out is NULL, and with `required` that is an error. Errors, the same on all
 * ranks: HW_ERR_DEVICE, HW_ERR_RANK, HW_ERR_NO_MEMORY. */
hw_status hw_comm_group_create(hw_comm_group **out, struct hw_comm *c, const hw_comm_attachment *a,
                               bool required, hw_error *err);
void hw_comm_group_destroy(hw_comm_group *g); /* Collective. NULL is fine */

const char *hw_comm_group_name(const hw_comm_group *g);
hw_status hw_comm_group_all_reduce(hw_comm_group *g, void *buffer, size_t count, hw_dtype type, hw_reduce op,
                                   hw_error *err);
hw_status hw_comm_group_first_all_reduce(hw_comm_group *g, void *buffer, size_t count, hw_dtype type,
                                         hw_reduce op, hw_error *err);
hw_status hw_comm_group_measure(hw_comm_group *g, void *buffer, size_t count, hw_dtype type, int repeats,
                                double *seconds, hw_error *err);
hw_status hw_comm_group_wait(hw_comm_group *g, void *until, hw_error *err);

#ifdef __cplusplus
}
#endif
#endif
