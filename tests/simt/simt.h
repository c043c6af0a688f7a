/* The insides of the SIMT layer: who runs a grid, and who runs what was put into a stream. */
#ifndef HW_TESTS_SIMT_SIMT_H
#define HW_TESTS_SIMT_SIMT_H

#include <cuda_runtime.h>

/* Runs all blocks of a grid, one after the other, each with its threads as fibres. Ends the process when
 * threads do not meet at a barrier. */
void hw_simt_run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread);

/* Puts work into the stream, or into the graph that is being captured. It is done when somebody waits, and
 * not before: what reads results too early finds old ones. */
void hw_simt_enqueue(std::function<void()> work);

/* The same for work that waits for others: it is asked again until it says that it is done. */
void hw_simt_enqueue_poll(std::function<bool()> work);

/* Runs what is in the stream until it is empty; false: until something waits for others. */
bool hw_simt_run_some();
void hw_simt_run_all();

/* For calls that a capture does not allow: whether there is one, which is then lost. */
bool hw_simt_spoils_capture();

/* `variable` is "n" or "n@rank": whether this is the n-th, on that rank of the job or on all. Counts. */
bool hw_simt_is_to_fail(const char *variable, long *count);

/* HW_SIMT_LAZY_MS: how long something takes when it is first used; `used` is its own. */
void hw_simt_first_use(bool *used);

/* HW_SIMT_FAIL_AFTER=n or n@rank: the n-th call and all that follow find no GPU any more. Counts a call. */
bool hw_simt_is_lost();
#define HW_SIMT_CALL()                                                                                       \
    do {                                                                                                     \
        if (hw_simt_is_lost()) return cudaErrorUnknown;                                                      \
    } while (0)

/* What the device said when it broke, or cudaSuccess. */
cudaError_t hw_simt_broken();

/* Lets work touch the device's memory, or nobody. */
void hw_simt_open_memory(bool open);

#endif
