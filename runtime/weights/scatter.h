/* Weights from rank 0 to everybody: it alone has the files, reads every rank's part, and sends it in pieces.
 *
 * All ranks hold the same layers and go through their parameters in the same order. For each of them rank 0 first sends the others their parts
 * (hw_scatter_send), rank after rank; each other rank receives its own (hw_scatter_receive). An empty message instead
 * of a piece says that rank 0 cannot go on (hw_scatter_stop), and it goes to those alone that still wait for one. */
#ifndef HW_RUNTIME_WEIGHTS_SCATTER_H
#define HW_RUNTIME_WEIGHTS_SCATTER_H

#include "parallel/comm.h"
#include "runtime/weights/tensor_names.h"

typedef struct hw_scatter hw_scatter;

/* Collective. `c` is rank 0's checkpoint, NULL on the others, who are told what they need of it. Rank 0 checks all
 * tensors. Everything is borrowed. On HW_OK the caller owns *out (hw_scatter_destroy); on failure all ranks have the
 * same status. Errors: HW_ERR_MODEL, HW_ERR_NO_MEMORY, HW_ERR_DEVICE. */
hw_status hw_scatter_create(hw_scatter **out, hw_comm *comm, const hw_model *m, hw_checkpoint *c,
                            hw_error *err);
void hw_scatter_destroy(hw_scatter *s); /* NULL is fine */

/* Local. As hw_tensor_locate, on any rank; calls are for all parameters in the order of hw_params_next. Where there is
 * no checkpoint the tensor has a type and nothing else. */
hw_status hw_scatter_locate(hw_scatter *s, hw_tensor_place *out, const hw_param *p, hw_error *err);

/* Rank 0: reads the others' parts of its own parameter `p` into buffer [room], piece by piece, and sends them. Errors as
 * hw_tensor_cut_read, HW_ERR_DEVICE. */
hw_status hw_scatter_send(hw_scatter *s, const hw_tensor_place *place, const hw_param *p, void *buffer,
                          size_t room, hw_error *err);

/* The others: the next piece, of exactly n_bytes. Errors: HW_ERR_FAILED when rank 0 stopped, which any error of rank 0
 * outranks; HW_ERR_DEVICE. */
hw_status hw_scatter_receive(hw_scatter *s, void *buffer, size_t n_bytes, hw_error *err);

/* Rank 0, after an error: tells whoever waits. */
hw_status hw_scatter_stop(hw_scatter *s, hw_error *err);

/* Local. What rank 0 has to send, by the parts' sizes, and what it has sent. */
uint64_t hw_scatter_planned(const hw_scatter *s);
uint64_t hw_scatter_sent(const hw_scatter *s);

/* Local. The same for a model whose numbers are all stored in one type; UINT64_MAX when it does not fit. Errors:
 * HW_ERR_INVALID (more ranks than heads). */
hw_status hw_scatter_bytes(uint64_t *out, const hw_model *m, hw_dtype stored, int n_ranks, hw_error *err);

#endif
