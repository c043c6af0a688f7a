/* Handing what a step chose to the next one, and points in the stream that the host can wait for while later
 * work goes on. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/numbers.h"

namespace
{

enum { BLOCK = 256 };

/* One block. The ring is host memory: what is written there can be read once an event behind it is reached. */
__global__ void feed(hw_fed_rows rows)
{
    hw_begin();
    for (int r = (int)threadIdx.x; r < rows.n_rows; r += (int)blockDim.x) {
        const uint64_t key = rows.keys[r];
        const int32_t token = hw_key_token(key);
        rows.ring[(size_t)(rows.positions[r] % rows.n_slots) * (size_t)rows.slot_rows + (size_t)r] = key;
        rows.tokens[r] = token >= 0 && token < rows.vocab_size ? token : 0;
        rows.positions[r]++;
        rows.keys[r] = 0;
    }
}

hw_status feed_keys(hw_device *d, const hw_fed_rows *rows)
{
    if (!rows->n_rows) return HW_OK;
    return hw_cuda_launch(hw_cuda_of(d), "feed_keys", feed, dim3(1), BLOCK, 0, *rows);
}

hw_status event_record(hw_device *d, hw_event **out)
{
    hw_cuda_device *c = hw_cuda_of(d);
    const cudaEvent_t event = c->events[c->next_event];
    c->next_event = (c->next_event + 1) % HW_N_EVENTS;
    *out = reinterpret_cast<hw_event *>(event);
    return hw_cuda_note(&c->failure, cudaEventRecord(event, c->stream), "recording an event");
}

hw_status event_wait(hw_device *d, hw_event *m, hw_error *err)
{
    return hw_cuda_waited(hw_cuda_of(d), cudaEventSynchronize(reinterpret_cast<cudaEvent_t>(m)), err);
}

} // namespace

const hw_device_loop_ops hw_cuda_device_loop = {hw_cuda_choose_keys, feed_keys, event_record, event_wait};
