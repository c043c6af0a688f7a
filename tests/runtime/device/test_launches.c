/* How many kernels a decode step of the CUDA device starts, as the SIMT layer counts them. */
#include <criterion/criterion.h>

#include "runtime/device/device_loop.h"
#include "runtime/engine_state.h"

static uint64_t launches(const hw_engine *e) { return e->device->k->counters->n_launches(e->device); }

/* Kernels of the last of three steps whose tokens stay on the device. */
static uint64_t launches_of_a_fed_step(hw_engine *e, hw_sequence *const *seqs, int n_seqs)
{
    static const hw_sampling settings[8] = {{.temperature = 0}, {.temperature = 1, .seed = 3}};
    int32_t tokens[8] = {3, 1, 4, 1, 5, 9, 2, 6};
    int n_discarded;
    hw_error err = {.rank = -1};
    hw_device_loop *loop;
    uint64_t before = 0;
    cr_assert_eq(hw_device_loop_create(&loop, e, &err), HW_OK, "%s", err.message);
    cr_assert_eq(hw_device_loop_begin(loop, seqs, tokens, settings, n_seqs, 0, 3, &err), HW_OK, "%s",
                 err.message);
    for (int step = 0; step < 2; step++) { /* the first call begins two steps, the second one */
        before = launches(e);
        cr_assert_eq(hw_device_loop_next(loop, tokens, &err), HW_OK, "%s", err.message);
    }
    const uint64_t n = launches(e) - before;
    cr_assert_eq(hw_device_loop_end(loop, &n_discarded, &err), HW_OK, "%s", err.message);
    hw_device_loop_destroy(loop);
    return n;
}

typedef struct launched {
    uint64_t step, fed; /* kernels of a decode step, by itself and in the device loop */
} launched;

/* Of the second step of a sequence: one row. */
static launched launches_of_a_decode_step(const char *folder, int n_seqs)
{
    static const int32_t tokens[] = {3, 1, 4, 1, 5};
    hw_engine_options o = hw_engine_defaults();
    hw_error err = {.rank = -1};
    hw_comm *comm;
    hw_engine *e;
    hw_batch *batch;
    hw_sequence *seqs[8];
    o.device = HW_TEST_PLUGIN;
    o.dtype = HW_BF16;
    o.max_seqs = n_seqs;
    cr_assert_eq(hw_comm_create_alone(&comm, &err), HW_OK, "%s", err.message);
    cr_assert_eq(hw_engine_create(&e, comm, folder, &o, &err), HW_OK, "%s", err.message);
    cr_assert_eq(hw_batch_create(&batch, e, &err), HW_OK, "%s", err.message);
    uint64_t before = 0;
    for (int step = 0; step < 2; step++) {
        hw_batch_clear(batch);
        for (int i = 0; i < n_seqs; i++) {
            if (!step) cr_assert_eq(hw_sequence_create(&seqs[i], e, 0, &err), HW_OK, "%s", err.message);
            cr_assert_eq(hw_batch_add(batch, seqs[i], tokens, step ? 1 : 5, HW_LOGITS_LAST, &err), HW_OK,
                         "%s", err.message);
        }
        before = launches(e);
        cr_assert_eq(hw_engine_step(e, batch, &err), HW_OK, "%s", err.message);
    }
    launched n = {.step = launches(e) - before};
    n.fed = launches_of_a_fed_step(e, seqs, n_seqs);
    for (int i = 0; i < n_seqs; i++) hw_sequence_destroy(seqs[i]);
    hw_batch_destroy(batch);
    hw_engine_destroy(e);
    hw_comm_destroy(comm);
    return n;
}

static void expect_launches(const char *folder, int n_seqs, uint64_t n_layers)
{
    const launched n = launches_of_a_decode_step(folder, n_seqs);
    cr_expect_eq(n.step, 6 * n_layers + 5);
    cr_expect_eq(n.fed, 6 * n_layers + 5 + 2);
}

/* docs/devices.md lists them: six a layer and five around the layers, for any few sequences, and two where the
 * device chooses the next tokens. */
Test(launches, are_six_a_layer_and_five)
{
    expect_launches(HW_SOURCE_DIR "/tests/vectors/llama-mqa", 1, 2);
    expect_launches(HW_SOURCE_DIR "/tests/vectors/llama-gqa", 1, 3);
    expect_launches(HW_SOURCE_DIR "/tests/vectors/llama-gqa", 5, 3);
    expect_launches(HW_SOURCE_DIR "/tests/vectors/gpt2-tied", 1, 2);
}
