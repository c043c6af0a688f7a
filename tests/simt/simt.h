/* The insides of the SIMT layer: who runs a grid, and who runs what was put into a stream. */
#ifndef HW_TESTS_SIMT_SIMT_H
#define HW_TESTS_SIMT_SIMT_H

#include <cuda_runtime.h>

/* Runs all blocks of a grid, one after the other, each with its threads as fibres. Ends the process when
 * threads do not meet at a barrier. */
void hw_simt_run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread);

/* Puts work into the stream. It is done when somebody waits, and not before: what reads results too early
 * finds old ones. */
void hw_simt_enqueue(std::function<void()> work);

#endif
