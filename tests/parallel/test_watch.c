/* Messages between ranks and their launcher: what comes in is not trusted. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "parallel/watch.h"
#include "parallel/watch_wire.h"

static hw_watch_message hello(void)
{
    hw_watch_message m = hw_watch_message_of(HW_WATCH_HELLO, 0);
    m.rank = 2;
    m.hello.n_ranks = 3;
    m.hello.pid = 4711;
    strcpy(m.hello.host, "node1");
    return m;
}

Test(watch, messages_are_taken_from_the_right_side_only)
{
    const hw_watch_message h = hello(), ping = hw_watch_message_of(HW_WATCH_PING, 3500);
    cr_expect_null(hw_watch_check(&h, true));
    cr_expect_not_null(hw_watch_check(&h, false));
    cr_expect_null(hw_watch_check(&ping, false));
    cr_expect_not_null(hw_watch_check(&ping, true));
}

#define REFUSES(make, change)                                                                                \
    do {                                                                                                     \
        hw_watch_message m = make;                                                                           \
        cr_expect_null(hw_watch_check(&m, true));                                                            \
        change;                                                                                              \
        cr_expect_not_null(hw_watch_check(&m, true), #change);                                               \
    } while (0)

Test(watch, what_could_not_be_used_as_an_index_is_refused)
{
    const hw_watch_message beat = hw_watch_message_of(HW_WATCH_BEAT, 0);
    const hw_watch_message ring = hw_watch_message_of(HW_WATCH_RING, HW_WATCH_RING_PART);
    REFUSES(hello(), m.magic++);
    REFUSES(hello(), m.type = 0);
    REFUSES(hello(), m.type = 1000);
    REFUSES(hello(), m.rank = -1);
    REFUSES(hello(), m.rank = 3);
    REFUSES(hello(), m.hello.n_ranks = HW_WATCH_MAX_RANKS + 1);
    REFUSES(hello(), m.hello.pid = 1);
    REFUSES(hello(), *m.hello.host = '\0');
    REFUSES(hello(), memset(m.hello.host, 'x', sizeof m.hello.host));
    REFUSES(hello(), m.hello.host[2] = '\n');
    REFUSES(beat, m.beat.phase = HW_N_WATCH_PHASES);
    REFUSES(beat, m.beat.call = HW_N_CALLS);
    REFUSES(beat, m.beat.site = HW_N_SITES);
    REFUSES(beat, m.beat.layer = -1);
    REFUSES(ring, m.value = 0);
    REFUSES(ring, m.value = HW_WATCH_RING_PART + 1);
    REFUSES(ring, m.ring[3].site = HW_N_SITES);
    REFUSES(ring, m.ring[1].phase = HW_N_PHASES);
    REFUSES(hw_watch_message_of(HW_WATCH_LEAVE, 255), m.value = 256);
}

Test(watch, a_message_in_pieces_is_one_message)
{
    int ends[2];
    hw_watch_inbox in = {.n_bytes = 0};
    const hw_watch_message m = hello();
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    cr_expect_eq(hw_watch_receive(ends[0], &in), 0);
    cr_assert_eq(write(ends[1], &m, 50), 50);
    cr_expect_eq(hw_watch_receive(ends[0], &in), 0);
    cr_assert_eq(write(ends[1], (const char *)&m + 50, sizeof m - 50), (ssize_t)sizeof m - 50);
    cr_assert(hw_watch_send(ends[1], &m));
    for (int i = 0; i < 2; i++) {
        cr_expect_eq(hw_watch_receive(ends[0], &in), 1);
        cr_expect_arr_eq(&in.message, &m, sizeof m);
    }
    cr_expect_eq(hw_watch_receive(ends[0], &in), 0);
    close(ends[1]);
    cr_expect_eq(hw_watch_receive(ends[0], &in), -1);
    close(ends[0]);
}

#define SECRET "000102030405060708090a0b0c0d0e0f"

Test(watch, addresses_come_back_as_they_were_printed)
{
    static const char *const good[] = {SECRET ",node1,3500,[127.0.0.1]:4711",
                                       SECRET ",n,1000,[127.0.0.1]:1,[10.77.0.1]:65535",
                                       SECRET ",n,86400000,[127.0.0.1]:4711,[fd00::2]:1"};
    static const char *const bad[] = {"",
                                      SECRET,
                                      SECRET ",n",
                                      SECRET ",n,1",
                                      SECRET ",n,[127.0.0.1]:1",
                                      SECRET ",n,0,[127.0.0.1]:1",
                                      SECRET ",n,1,127.0.0.1:1",
                                      SECRET ",n,1,[127.0.0.1]:65536",
                                      SECRET ",n,1,[1.2.3]:1",
                                      SECRET ",n,1,[127.0.0.1]:1,[127.0.0.1]:2,[127.0.0.1]:3",
                                      SECRET ",n,1,[127.0.0.1]:1x",
                                      "00,n,1,[127.0.0.1]:1",
                                      SECRET ",n,1,[127.0.0.1]:1,"};
    hw_watch_address a;
    char text[HW_WATCH_ADDRESS_TEXT];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        cr_assert(hw_watch_address_parse(&a, good[i]), "%s", good[i]);
        hw_watch_address_print(&a, text);
        cr_expect_str_eq(text, good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_not(hw_watch_address_parse(&a, bad[i]), "%s", bad[i]);
}

/* A rank that was not started by headway launch has no watch, and its marks go nowhere. */
Test(watch, without_a_launcher_there_is_none)
{
    hw_watch *w = (hw_watch *)&w;
    hw_error err;
    unsetenv(HW_WATCH_VARIABLE);
    cr_assert_eq(hw_watch_start(&w, &err), HW_OK);
    cr_assert_null(w);
    cr_expect_eq(hw_watch_enter(w, HW_WATCH_DECODE), HW_WATCH_IDLE);
    hw_watch_progress(w, 1);
    hw_watch_call_begin(w, HW_CALL_BROADCAST, (hw_tag){.site = HW_SITE_LOAD}, 1);
    hw_watch_call_end(w);
    hw_watch_stop(w, 0);
}
