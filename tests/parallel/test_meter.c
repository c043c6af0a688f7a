#include <criterion/criterion.h>

#include "parallel/meter.h"

static hw_meter *make(int n_layers)
{
    hw_meter *m;
    hw_error err;
    cr_assert_eq(hw_meter_create(&m, 2, &err), HW_OK);
    cr_assert_eq(hw_meter_set_layers(m, n_layers, &err), HW_OK);
    return m;
}

static void record(hw_meter *m, hw_tag tag, uint64_t payload, uint64_t sent)
{
    hw_meter_record(m, tag, (hw_traffic){.calls = 1, .payload_bytes = payload, .sent_bytes = sent}, 0);
}

static void expect_traffic(hw_traffic t, uint64_t calls, uint64_t payload, uint64_t sent)
{
    cr_expect_eq(t.calls, calls);
    cr_expect_eq(t.payload_bytes, payload);
    cr_expect_eq(t.sent_bytes, sent);
}

Test(meter, counts_by_site_layer_and_phase)
{
    hw_meter *m = make(3);
    record(m, (hw_tag){HW_SITE_ATTN, 0, 5, 0}, 100, 10);
    record(m, (hw_tag){HW_SITE_ATTN, 2, 5, 0}, 200, 20);
    record(m, (hw_tag){HW_SITE_ATTN, 2, 0, 1}, 40, 4);
    record(m, (hw_tag){HW_SITE_MLP, 2, 0, 1}, 7, 1);
    expect_traffic(hw_meter_layer(m, HW_SITE_ATTN, 0, HW_PREFILL), 1, 100, 10);
    expect_traffic(hw_meter_layer(m, HW_SITE_ATTN, 1, HW_PREFILL), 0, 0, 0);
    expect_traffic(hw_meter_layer(m, HW_SITE_ATTN, 2, HW_DECODE), 1, 40, 4);
    expect_traffic(hw_meter_site(m, HW_SITE_ATTN, HW_PREFILL), 2, 300, 30);
    expect_traffic(hw_meter_site(m, HW_SITE_MLP, HW_DECODE), 1, 7, 1);
    expect_traffic(hw_meter_layer(m, HW_SITE_ATTN, 3, HW_DECODE), 0, 0, 0); /* there is no such layer */
    expect_traffic(hw_meter_layer(m, HW_SITE_ATTN, -1, HW_DECODE), 0, 0, 0);
    hw_meter_reset(m);
    expect_traffic(hw_meter_site(m, HW_SITE_ATTN, HW_PREFILL), 0, 0, 0);
    hw_meter_destroy(m);
}

/* By hand: 2 of 7 rows are decode, so 2/7 of 100 bytes rounded down are 28; what is rounded off stays with
 * the prefill. */
Test(meter, divides_a_mixed_step_by_rows_and_loses_no_byte)
{
    hw_meter *m = make(1);
    record(m, (hw_tag){HW_SITE_MLP, 0, 5, 2}, 100, 50);
    expect_traffic(hw_meter_site(m, HW_SITE_MLP, HW_PREFILL), 1, 72, 36);
    expect_traffic(hw_meter_site(m, HW_SITE_MLP, HW_DECODE), 0, 28, 14);
    hw_meter_destroy(m);
}

Test(meter, counts_what_has_no_rows_as_prefill_and_too_high_layers_under_the_last)
{
    hw_meter *m = make(2);
    record(m, (hw_tag){.site = HW_SITE_CONTROL}, 8, 8);
    record(m, (hw_tag){HW_SITE_ATTN, 9, 0, 1}, 3, 2);
    expect_traffic(hw_meter_site(m, HW_SITE_CONTROL, HW_PREFILL), 1, 8, 8);
    expect_traffic(hw_meter_layer(m, HW_SITE_ATTN, 1, HW_DECODE), 1, 3, 2);
    hw_error err;
    cr_assert_eq(hw_meter_set_layers(m, 4, &err), HW_OK); /* what was counted stays */
    expect_traffic(hw_meter_layer(m, HW_SITE_ATTN, 1, HW_DECODE), 1, 3, 2);
    expect_traffic(hw_meter_layer(m, HW_SITE_ATTN, 3, HW_DECODE), 0, 0, 0);
    hw_meter_destroy(m);
}

Test(meter, names_sites_and_phases)
{
    cr_expect_str_eq(hw_site_name(HW_SITE_EMBED), "embed");
    cr_expect_str_eq(hw_site_name(HW_SITE_LOAD), "load");
    cr_expect_str_eq(hw_phase_name(HW_PREFILL), "prefill");
    cr_expect_str_eq(hw_phase_name(HW_DECODE), "decode");
}

/* Ranks that went different ways are lined up by it, so it must be in order and forget the oldest first. */
Test(meter, the_ring_keeps_the_last_collectives_in_order)
{
    hw_meter *m = make(2);
    hw_ring_entry e;
    const uint64_t n = HW_METER_RING + 5;
    cr_expect_not(hw_meter_last(m, 0, &e), "an empty ring had an entry");
    for (uint64_t i = 0; i < n; i++)
        record(m, (hw_tag){i % 2 ? HW_SITE_MLP : HW_SITE_ATTN, (int)(i % 2), 0, 1}, 10 * i, 0);
    cr_expect_eq(hw_meter_n_calls(m), n);
    for (uint64_t back = 0; back < HW_METER_RING; back++) {
        uint64_t number = n - 1 - back;
        cr_assert(hw_meter_last(m, back, &e));
        cr_assert_eq(e.number, number);
        cr_assert_eq(e.payload_bytes, 10 * number);
        cr_assert_eq(e.site, number % 2 ? HW_SITE_MLP : HW_SITE_ATTN);
        cr_assert_eq(e.layer, (int)(number % 2));
        cr_assert_eq(e.phase, HW_DECODE);
    }
    cr_expect_not(hw_meter_last(m, HW_METER_RING, &e), "the oldest was not forgotten");
    hw_meter_destroy(m);
}

/* Those of the model are what a plan can compute; agreement and set-up depend on what happens. */
Test(meter, tells_which_sites_are_predicted)
{
    static const bool want[HW_N_SITES] = {
        [HW_SITE_EMBED] = true, [HW_SITE_ATTN] = true, [HW_SITE_MLP] = true, [HW_SITE_SAMPLE] = true};
    for (int site = 0; site < HW_N_SITES; site++)
        cr_expect_eq(hw_site_is_predicted((hw_site)site), want[site], "%s", hw_site_name((hw_site)site));
}
