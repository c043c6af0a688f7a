/* How many kernels a decode step of the CUDA device starts, as the SIMT layer counts them. */
#include <criterion/criterion.h>

#include "runtime/engine_state.h"

static uint64_t launches(const hw_engine *e) { return e->device->k->n_launches(e->device); }

/* Of the second step of a sequence: one row. */
static uint64_t launches_of_a_decode_step(const char *folder, int n_seqs)
{
    static const int32_t tokens[] = {3, 1, 4, 1, 5};
    hw_engine_options o = hw_engine_defaults();
    hw_error err = {""};
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
    const uint64_t n = launches(e) - before;
    for (int i = 0; i < n_seqs; i++) hw_sequence_destroy(seqs[i]);
    hw_batch_destroy(batch);
    hw_engine_destroy(e);
    hw_comm_destroy(comm);
    return n;
}

/* docs/architecture.md lists them: six a layer and five around the layers, for any few sequences. */
Test(launches, are_six_a_layer_and_five)
{
    cr_expect_eq(launches_of_a_decode_step(HW_SOURCE_DIR "/tests/vectors/llama-mqa", 1), 6 * 2 + 5);
    cr_expect_eq(launches_of_a_decode_step(HW_SOURCE_DIR "/tests/vectors/llama-gqa", 1), 6 * 3 + 5);
    cr_expect_eq(launches_of_a_decode_step(HW_SOURCE_DIR "/tests/vectors/llama-gqa", 5), 6 * 3 + 5);
    cr_expect_eq(launches_of_a_decode_step(HW_SOURCE_DIR "/tests/vectors/gpt2-tied", 1), 6 * 2 + 5);
}
