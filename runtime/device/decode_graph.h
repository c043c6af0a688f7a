/* Decode steps as graphs: where the device can keep a step's ops and start them all by one call, and all
 * collectives among them are on the device. The first step of a kind runs op by op, which also lets libraries
 * choose and connect what they will; the second is kept while it is described; every further one is one
 * launch. Tokens, positions and block tables are read from the buffers, so they need no new graph. A kind is
 * the ops, a number of rows and the next power of two above their largest position. All functions are Local, and do the
 * same on all ranks. */
#ifndef HW_RUNTIME_DEVICE_DECODE_GRAPH_H
#define HW_RUNTIME_DEVICE_DECODE_GRAPH_H

#include "runtime/step.h"

enum { HW_MAX_GRAPHS = 32, HW_GRAPH_POSITIONS = 256 /* of the smallest kind */ };

typedef hw_status hw_step_ops(hw_step *s);

typedef struct hw_decode_graphs {
    struct {
        hw_step_ops *ops;
        int n_rows, n_positions; /* 0 rows: free */
        hw_graph *graph;         /* NULL: seen once */
        uint64_t last;           /* step in which it was used */
    } kinds[HW_MAX_GRAPHS];
    uint64_t n_steps, n_launched; /* decode steps, and those of them that were a launch */
} hw_decode_graphs;

/* Why no decode step of this engine can be one, in words for people; NULL: they can. */
const char *hw_graph_unavailable_reason(const hw_engine *e);

/* Whether the step can be one: rows of decode alone, each with its logits. */
bool hw_graph_suits(const hw_step *s);

/* Runs `ops` over the step, by a launch where it can. The work is counted either way. */
hw_status hw_graph_run(hw_step *s, hw_step_ops *ops);

void hw_decode_graphs_free(hw_decode_graphs *g, hw_device *d);

#endif
