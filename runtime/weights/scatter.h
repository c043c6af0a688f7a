/* Weights from rank 0 to all ranks: only rank 0 has the files; it reads every rank's shard and sends it in pieces.
 *
 * All ranks hold the same layers and visit their parameters in the same order. For each parameter rank 0 first sends the
 * other ranks their shards (hw_scatter_send), rank by rank; each other rank receives its own (hw_scatter_receive). An
 * empty message instead of a piece means that rank 0 has failed (hw_scatter_stop); it is sent only to ranks that still
 * wait for a piece. */
#ifndef HW_RUNTIME_WEIGHTS_SCATTER_H
#define HW_RUNTIME_WEIGHTS_SCATTER_H

#include "parallel/comm.h"
#include "runtime/weights/tensor_names.h"

typedef struct hw_scatter hw_scatter;

/* Collective. `c` is rank 0's checkpoint, NULL on the other ranks, which receive what they need to know of it. Rank 0
 * checks all tensors. All arguments are borrowed. On HW_OK the caller owns *out (hw_scatter_destroy); on failure all
 * ranks have the same status. Errors: HW_ERR_MODEL, HW_ERR_NO_MEMORY, HW_ERR_DEVICE. */
hw_status hw_scatter_create(hw_scatter **out, hw_comm *comm, const hw_model *m, hw_checkpoint *c,
                            hw_error *err);
void hw_scatter_destroy(hw_scatter *s); /* NULL is fine */

/* Local. As hw_tensor_locate, on any rank; call it for all parameters in the order of hw_params_next. On a rank without
 * a checkpoint only the type of the tensor is set. */
hw_status hw_scatter_locate(hw_scatter *s, hw_tensor_place *out, const hw_param *p, hw_error *err);

/* Rank 0: reads the other ranks' shards of parameter `p` into buffer [room], piece by piece, and sends them. Errors: as
 * hw_tensor_cut_read, HW_ERR_DEVICE. */
hw_status hw_scatter_send(hw_scatter *s, const hw_tensor_place *place, const hw_param *p, void *buffer,
                          size_t room, hw_error *err);

/* Other ranks: receives the next piece, of exactly n_bytes. Errors: HW_ERR_FAILED when rank 0 stopped (any error of rank
 * 0 is more severe, so its message is the one reported); HW_ERR_DEVICE. */
hw_status hw_scatter_receive(hw_scatter *s, void *buffer, size_t n_bytes, hw_error *err);

/* Rank 0, after an error: releases the ranks that wait for a piece. */
hw_status hw_scatter_stop(hw_scatter *s, hw_error *err);

/* Local. Bytes that rank 0 has to send, from the sizes of the shards, and bytes that it has sent. */
uint64_t hw_scatter_planned(const hw_scatter *s);
uint64_t hw_scatter_sent(const hw_scatter *s);

/* Local. The same for a model whose numbers are all stored in one type; UINT64_MAX when it does not fit. Errors:
 * HW_ERR_INVALID (more ranks than heads). */
hw_status hw_scatter_bytes(uint64_t *out, const hw_model *m, hw_dtype stored, int n_ranks, hw_error *err);

#endif
