/* Collectives on the memory of a device, in its stream: what a device's plug-in may bring along, and how a
 * communicator makes use of it. Only sums of activations and sampled keys go this way; agreeing, texts and
 * reports stay with the backend that the communicator was created with. */
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

/* Under this name a plug-in exports its hw_comm_device_ops. */
#define HW_COMM_DEVICE_SYMBOL "hw_plugin_collectives"

/* Grows with every change of what follows. */
enum { HW_COMM_DEVICE_VERSION = 5, HW_COMM_ID_BYTES = 128 };

/* A rank on its way into a group. */
typedef struct hw_comm_member {
    int rank, n_ranks;
    const char *id;    /* [HW_COMM_ID_BYTES] the same on all ranks; borrowed */
    void *stream;      /* of the device, which is the calling thread's; borrowed until `close` */
    double deadline_s; /* how long a rank waits for the others before it gives up */
} hw_comm_member;

/* `number`: what the caller counts a collective as, to be told by `wait`. */
typedef struct hw_comm_device_ops {
    uint64_t version; /* HW_COMM_DEVICE_VERSION */
    const char *name; /* "nccl" */

    /* Local. Finds the library. On HW_OK the caller closes *state. Errors: HW_ERR_DEVICE (not found, too
     * old). */
    hw_status (*open)(void **state, hw_error *err);

    /* Local. Whether several ranks may use one device. */
    bool (*may_share)(void *state);

    /* Local, on one rank. Names a group that is about to be made. */
    hw_status (*make_id)(void *state, char id[HW_COMM_ID_BYTES], hw_error *err);

    /* Collective, once. Errors: HW_ERR_RANK (others did not come), HW_ERR_DEVICE. */
    hw_status (*join)(void *state, const hw_comm_member *m, hw_error *err);

    /* Collective after a `join` that went well, else Local. NULL is fine. */
    void (*close)(void *state);

    /* Collective. Into the stream, in place over `count` elements D: HW_F32, HW_F16 or HW_BF16 for HW_SUM,
     * HW_U64 for HW_MAX. All ranks get the same bits. */
    hw_status (*all_reduce)(void *state, uint64_t number, void *buffer, size_t count, hw_dtype type,
                            hw_reduce op, hw_error *err);

    /* Collective. What the library itself takes: seconds of one sum in place over `count` elements D of
     * zeros, as a decode step makes it: `repeats` of them in one graph, each of the result of the one before.
     * Errors: HW_ERR_DEVICE, HW_ERR_RANK. */
    hw_status (*measure)(void *state, void *buffer, size_t count, hw_dtype type, int repeats, double *seconds,
                         hw_error *err);

    /* Local. Returns when the stream has run up to `until`, a mark of the device's, or all that is in it
     * (NULL); or has failed: then HW_OK too, as the device knows better. HW_ERR_RANK when the deadline passed
     * or another rank is gone: the group is then broken up, so that nothing waits for ever, `why` [capacity]
     * says what the library says of it, and *number is the first collective that did not end; UINT64_MAX when
     * it was part of a graph. */
    hw_status (*wait)(void *state, void *until, uint64_t *number, char *why, size_t capacity);
} hw_comm_device_ops;

/* The device of a rank, as far as collectives are concerned. */
typedef struct hw_comm_attachment {
    const hw_comm_device_ops *ops; /* NULL: its device brings none along */
    void *stream;
    uint64_t hardware; /* equal for ranks whose devices are one piece of hardware */
    const char *name;  /* of the device, for messages; borrowed during the call */
} hw_comm_attachment;

/* The group of a communicator. */
typedef struct hw_comm_group hw_comm_group;
struct hw_comm;

/* Collective. `required`: say why there can be none, instead of leaving *out NULL. Errors on all ranks alike:
 * HW_ERR_DEVICE, HW_ERR_RANK, HW_ERR_NO_MEMORY. */
hw_status hw_comm_group_create(hw_comm_group **out, struct hw_comm *c, const hw_comm_attachment *a,
                               bool required, hw_error *err);
void hw_comm_group_destroy(hw_comm_group *g); /* Collective. NULL is fine */

const char *hw_comm_group_name(const hw_comm_group *g);
hw_status hw_comm_group_all_reduce(hw_comm_group *g, void *buffer, size_t count, hw_dtype type, hw_reduce op,
                                   hw_error *err);
hw_status hw_comm_group_measure(hw_comm_group *g, void *buffer, size_t count, hw_dtype type, int repeats,
                                double *seconds, hw_error *err);
hw_status hw_comm_group_wait(hw_comm_group *g, void *until, hw_error *err);

#ifdef __cplusplus
}
#endif
#endif
