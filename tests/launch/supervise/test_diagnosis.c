/* What is made of what ranks say of themselves: by hand, rank by rank. */
#include <criterion/criterion.h>
#include <string.h>

#include "launch/supervise/diagnosis.h"

enum { LIMIT = 3500 };

/* Rank 0 and 1 on node1, 2 and 3 on node2, all decoding, in the same all-reduce, heard a moment ago. */
static void make_well(hw_rank_view *r)
{
    for (int i = 0; i < 4; i++) {
        r[i] = (hw_rank_view){.known = true, .pid = 100 + i, .silent_ms = 80, .still_ms = 120};
        strcpy(r[i].host, i < 2 ? "node1" : "node2");
        r[i].beat = (hw_watch_beat){.phase = HW_WATCH_DECODE,
                                    .call = HW_CALL_ALL_REDUCE,
                                    .site = HW_SITE_MLP,
                                    .layer = 3,
                                    .n_calls = 1000,
                                    .n_bytes = 4096};
    }
}

/* All are on their way out, and have not moved for a while. */
static void make_ending(hw_rank_view *r, int still_ms)
{
    make_well(r);
    for (int i = 0; i < 4; i++) {
        r[i].beat.call = HW_CALL_NONE;
        r[i].beat.phase = HW_WATCH_ENDING;
        r[i].still_ms = still_ms;
    }
}

static void works(hw_rank_view *r)
{
    r->beat.call = HW_CALL_NONE;
    r->beat.work = 1000000;
}

static void judged(const hw_rank_view *r, hw_diagnosis_kind kind, int rank, const char *words)
{
    char text[512];
    const hw_diagnosis v = hw_diagnose(r, 4, LIMIT);
    cr_expect_eq(v.kind, kind, "diagnosis %d, wanted %d", v.kind, kind);
    if (!kind) return;
    cr_expect_eq(v.rank, rank, "rank %d, wanted %d", v.rank, rank);
    hw_diagnosis_text(text, sizeof text, v, r, "");
    cr_expect(strstr(text, words), "'%s' is not in: %s", words, text);
}

Test(diagnosis, ranks_that_move_are_well)
{
    hw_rank_view r[4];
    make_well(r);
    judged(r, HW_WELL, 0, "");
    works(&r[2]);
    r[2].still_ms = LIMIT; /* no longer than is allowed */
    judged(r, HW_WELL, 0, "");
    cr_expect_eq(hw_diagnose(NULL, 0, LIMIT).kind, HW_WELL); /* before the first hello */
}

Test(diagnosis, a_silent_process_is_stopped)
{
    hw_rank_view r[4];
    make_well(r);
    r[1].silent_ms = LIMIT + 1;
    r[1].stopped = true;
    judged(r, HW_STOPPED, 1, "rank 1 on node1 (process 101) is stopped by a signal");
    r[1].stopped = false;
    judged(r, HW_STOPPED, 1, "is stopped or its machine is");
}

Test(diagnosis, a_host_that_nothing_reaches_is_cut_off)
{
    hw_rank_view r[4];
    make_well(r);
    r[2].silent_ms = LIMIT + 2, r[3].silent_ms = LIMIT + 1;
    r[2].unreached = r[3].unreached = true;
    judged(r, HW_CUT_OFF, 2, "the link to node2 is down");
    r[3].silent_ms = 50; /* one that is heard on the same host */
    judged(r, HW_STOPPED, 2, "rank 2 on node2");
}

/* On another host somebody goes on in its name until Open MPI's daemon has ended. */
Test(diagnosis, so_is_one_whose_ranks_have_said_good_bye)
{
    hw_rank_view r[4];
    make_well(r);
    for (int i = 0; i < 4; i++) r[i].left = true;
    for (int i = 2; i < 4; i++) r[i].silent_ms = LIMIT + i, r[i].unreached = true;
    judged(r, HW_WELL, 0, "");
    r[2].connected = r[3].connected = true;
    judged(r, HW_CUT_OFF, 3, "the link to node2 is down");
}

/* The link goes down 0.6 s after ranks 1 and 2 began to end; ranks 0 and 3 have ended, and a guard goes on in the name of
 * rank 3. Of those that wait the limit passes first, but it is the silence that tells why. */
Test(diagnosis, a_link_that_goes_down_as_ranks_end_is_not_who_has_ended)
{
    hw_rank_view r[4];
    make_ending(r, LIMIT + 500);
    r[0].left = r[3].left = r[3].connected = true;
    for (int i = 2; i < 4; i++) r[i].unreached = true, r[i].silent_ms = LIMIT - 100;
    judged(r, HW_WELL, 0, "");
    for (int i = 2; i < 4; i++) r[i].silent_ms = LIMIT + i;
    judged(r, HW_CUT_OFF, 3, "the link to node2 is down");
}

/* The same of a collective, and of work: rank 2 was at its long op before it was stopped. */
Test(diagnosis, nobody_is_blamed_while_one_is_silent)
{
    hw_rank_view r[4];
    make_well(r);
    for (int i = 0; i < 4; i++) r[i].still_ms = LIMIT + 200;
    r[2].silent_ms = LIMIT - 100;
    judged(r, HW_WELL, 0, "");
    works(&r[2]);
    judged(r, HW_WELL, 0, "");
    r[2].silent_ms = LIMIT + 1;
    judged(r, HW_STOPPED, 2, "rank 2 on node2");
    r[2].silent_ms = LIMIT / 4; /* late by no more than a busy machine makes it */
    judged(r, HW_STUCK, 2, "rank 2 on node2");
}

/* Whoever has left has seen all others come to the end: they do not wait for it. */
Test(diagnosis, slow_ends_are_no_fault_of_who_has_ended)
{
    hw_rank_view r[4];
    make_ending(r, 10 * LIMIT);
    r[1].left = true;
    r[3].beat.n_calls = 999;
    judged(r, HW_WELL, 0, "");
    for (int i = 0; i < 4; i++) r[i].still_ms++;
    judged(r, HW_STUCK, 3, "it is ending");
    r[2].beat.call = HW_CALL_ALL_REDUCE; /* it waits for all, and one is not there any more */
    judged(r, HW_LEFT, 1, "rank 1 on node1 has ended");
}

Test(diagnosis, who_dies_of_a_link_that_is_down_is_not_to_blame)
{
    hw_rank_view r[4];
    make_well(r);
    for (int i = 0; i < 4; i++) r[i].connected = i > 0;
    r[0].silent_ms = 10 * LIMIT, r[0].unreached = true; /* as it was before its connection ended */
    cr_expect_eq(hw_diagnose_lost(r, 4, 0, LIMIT).kind, HW_DIED);
    cr_expect_eq(hw_diagnose_lost(r, 4, 0, LIMIT).rank, 0);
    r[3].silent_ms = LIMIT / 2 + 1; /* what was sent there has arrived: it is busy, or stopped */
    cr_expect_eq(hw_diagnose_lost(r, 4, 0, LIMIT).kind, HW_DIED);
    r[3].unreached = true;
    cr_expect_eq(hw_diagnose_lost(r, 4, 0, LIMIT).kind, HW_CUT_OFF);
    cr_expect_eq(hw_diagnose_lost(r, 4, 0, LIMIT).rank, 3);
}

Test(diagnosis, who_does_not_move_while_the_others_wait_is_stuck)
{
    hw_rank_view r[4];
    make_well(r);
    for (int i = 0; i < 4; i++) r[i].still_ms = LIMIT + 500;
    works(&r[3]);
    judged(r, HW_STUCK, 3, "rank 3 on node2 (process 103) is stuck");
}

/* 0.2 G operations a second before anything is measured: 2 G may take 10 s. Measured at 8 M a millisecond and twenty
 * times slower: 400 k a millisecond, 5 s. */
Test(diagnosis, large_pieces_of_work_have_more_time)
{
    hw_rank_view r[4];
    make_well(r);
    works(&r[3]);
    r[3].beat.work = 2000000000;
    cr_expect_eq(hw_allowed_ms(&r[3], LIMIT), 10000);
    r[3].rate = 8e6;
    cr_expect_eq(hw_allowed_ms(&r[3], LIMIT), 5000);
    r[3].still_ms = 4900;
    judged(r, HW_WELL, 0, "");
    r[3].still_ms = 5001;
    judged(r, HW_STUCK, 3, "rank 3");
    r[3].slowest_ms = 2000; /* a machine that was slow a moment ago may be so again */
    cr_expect_eq(hw_allowed_ms(&r[3], LIMIT), 8000);
}

Test(diagnosis, loading_has_ten_times_as_long)
{
    hw_rank_view r[4];
    make_well(r);
    works(&r[0]);
    r[0].beat.phase = HW_WATCH_LOADING;
    r[0].still_ms = 10 * LIMIT;
    judged(r, HW_WELL, 0, "");
    r[0].still_ms++;
    judged(r, HW_STUCK, 0, "it is loading");
}

Test(diagnosis, who_waits_for_the_world_may_wait)
{
    hw_rank_view r[4];
    make_well(r);
    for (int i = 0; i < 4; i++) r[i].still_ms = 3600000;
    works(&r[0]);
    r[0].beat.phase = HW_WATCH_IDLE;
    judged(r, HW_WELL, 0, "");
}

static void sleeps_for_work(hw_rank_view *r)
{
    r->beat.phase = HW_WATCH_IDLE;
    r->beat.call = HW_CALL_WAIT_IDLE;
}

/* Rank 0 reads, the others sleep; one that sleeps on when rank 0 waits for it keeps all. */
Test(verdict, who_sleeps_until_there_is_work_may_sleep)
{
    hw_rank_view r[4];
    make_well(r);
    for (int i = 0; i < 4; i++) sleeps_for_work(&r[i]), r[i].still_ms = r[i].asleep_ms = 3600000;
    r[0].beat.call = HW_CALL_NONE;
    judged(r, HW_WELL, 0, "");
    r[3].silent_ms = LIMIT + 1;
    judged(r, HW_STOPPED, 3, "it was idle, waiting for work of rank 0, after 1000 collectives");
    make_well(r);
    for (int i = 0; i < 4; i++) r[i].still_ms = LIMIT + 100;
    sleeps_for_work(&r[2]);
    r[2].beat.n_calls = 999;
    judged(r, HW_ALL_WAIT, 2, "rank 2 on node2, is idle, waiting for work of rank 0");
}

/* But ranks other than 0 have nothing to do with the world, and as long for a file as in loading. */
Test(diagnosis, who_sleeps_in_idle_while_all_others_wait_is_stuck)
{
    hw_rank_view r[4];
    make_well(r);
    for (int i = 0; i < 4; i++) r[i].still_ms = 10 * LIMIT + 1;
    works(&r[2]);
    r[2].beat.phase = HW_WATCH_IDLE;
    judged(r, HW_WELL, 0, ""); /* its thread runs */
    r[2].asleep_ms = 10 * LIMIT;
    judged(r, HW_WELL, 0, "");
    r[2].asleep_ms++;
    judged(r, HW_STUCK, 2, "it is idle");
    works(&r[0]);
    r[0].beat.phase = HW_WATCH_IDLE; /* rank 0 does not wait for it */
    judged(r, HW_WELL, 0, "");
}

Test(diagnosis, when_all_wait_it_is_who_is_furthest_behind)
{
    hw_rank_view r[4];
    make_well(r);
    for (int i = 0; i < 4; i++) r[i].still_ms = LIMIT + 100;
    r[2].beat.n_calls = 999;
    judged(r, HW_ALL_WAIT, 2, "in all-reduce mlp layer 3, after 999 collectives");
    r[2].beat.n_calls = 1000;
    r[1].asleep_ms = LIMIT; /* the others spin */
    judged(r, HW_ALL_WAIT, 1, "rank 1 on node1");
    r[3].still_ms = 100;
    judged(r, HW_WELL, 0, "");
}

Test(diagnosis, who_has_gone_keeps_the_others)
{
    hw_rank_view r[4];
    make_well(r);
    for (int i = 0; i < 4; i++) r[i].still_ms = LIMIT + 100;
    r[1].left = true;
    judged(r, HW_LEFT, 1, "rank 1 on node1 has ended");
}

/* Nothing of theirs is a collective yet. */
Test(diagnosis, who_sleeps_at_the_start_is_stuck)
{
    hw_rank_view r[4];
    make_well(r);
    for (int i = 0; i < 4; i++) {
        works(&r[i]);
        r[i].beat.phase = HW_WATCH_STARTING;
        r[i].still_ms = 10 * LIMIT + 1;
    }
    judged(r, HW_WELL, 0, "");
    r[2].asleep_ms = LIMIT + 1;
    judged(r, HW_STUCK, 2, "it is starting");
    for (int i = 0; i < 4; i++) r[i].asleep_ms = LIMIT + 1; /* all alike: the network, or a slow start */
    judged(r, HW_WELL, 0, "");
    for (int i = 0; i < 4; i++) r[i].still_ms = 121000;
    judged(r, HW_ALL_WAIT, 0, "all ranks wait for each other for 121.0 s");
}

Test(diagnosis, who_was_never_heard_of_is_missed_in_the_end)
{
    hw_rank_view r[4];
    make_well(r);
    memset(&r[3], 0, sizeof r[3]);
    for (int i = 0; i < 3; i++) {
        works(&r[i]);
        r[i].beat.phase = HW_WATCH_STARTING;
        r[i].still_ms = 119000;
    }
    judged(r, HW_WELL, 0, "");
    for (int i = 0; i < 3; i++) r[i].still_ms = 121000;
    judged(r, HW_ABSENT, 3, "rank 3 was never heard of");
}
