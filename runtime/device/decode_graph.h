/* Decode steps as graphs, on devices that can record a step's ops and launch them with one call, if all its
 * collectives are on the device. The first step of a kind runs op by op, so that libraries can choose algorithms and
 * connect; the second is captured; every further one is a launch. Tokens, positions and block tables are read from the
 * buffers, so they need no new graph. A kind is the ops, a number of rows and the next power of two above their largest
 * position. All functions are Local, and do the same on all ranks. */
#ifndef HW_RUNTIME_DEVICE_DECODE_GRAPH_H
#define HW_RUNTIME_DEVICE_DECODE_GRAPH_H

#include "runtime/step.h"

enum { HW_MAX_GRAPHS = 32, HW_GRAPH_POSITIONS = 256 /* of the smallest kind */ };

typedef hw_status hw_step_ops(hw_step *s);

typedef struct hw_decode_graphs {
    struct {
        hw_step_ops *ops;
        int n_rows, n_positions; /* 0 rows: unused entry */
        hw_graph *graph;         /* NULL: seen once, not captured yet */
        uint64_t last;           /* step in which it was last used */
    } kinds[HW_MAX_GRAPHS];
    uint64_t n_steps, n_launched; /* decode steps, and those that were launches */
} hw_decode_graphs;

/* Why decode steps of this engine cannot be graphs, for messages; NULL: they can. */
const char *hw_graph_unavailable_reason(const hw_engine *e);

/* Whether the step can be a graph: only decode rows, each with logits. */
bool hw_graph_suits(const hw_step *s);

/* Runs `ops` over the step, by a graph launch if possible. The work is counted either way. */
hw_status hw_graph_run(hw_step *s, hw_step_ops *ops);

void hw_decode_graphs_free(hw_decode_graphs *g, hw_device *d);

#endif
