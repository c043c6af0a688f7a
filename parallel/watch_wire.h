/* What ranks and their launcher say to each other about being alive, beside MPI: fixed-size messages over a
 * TCP connection that each rank opens to `headway launch`. The first one carries the run's secret; after it
 * nothing that comes is trusted either (hw_watch_check). All functions are Local. */
#ifndef HW_PARALLEL_WATCH_WIRE_H
#define HW_PARALLEL_WATCH_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "parallel/meter.h"

/* What a rank is doing, as far as it decides how long it may take. */
typedef enum hw_watch_phase {
    HW_WATCH_STARTING, /* until all ranks have found each other */
    HW_WATCH_IDLE,     /* waits for the world, or has nothing to do */
    HW_WATCH_LOADING,
    HW_WATCH_PREFILL,
    HW_WATCH_DECODE,
    HW_WATCH_ENDING,
    HW_N_WATCH_PHASES
} hw_watch_phase;

typedef enum hw_watch_call {
    HW_CALL_NONE,
    HW_CALL_ALL_REDUCE,
    HW_CALL_ALL_GATHER,
    HW_CALL_BROADCAST,
    HW_CALL_SEND,
    HW_CALL_RECEIVE,
    HW_N_CALLS
} hw_watch_call;

typedef enum hw_watch_type {
    HW_WATCH_HELLO = 1, /* from a rank: who it is */
    HW_WATCH_BEAT,      /* ten times a second: how far it is */
    HW_WATCH_RECENT,    /* with each beat: its last few collectives, newest first */
    HW_WATCH_RING,      /* more of them, in several messages, when it is told to end */
    HW_WATCH_LEAVE,     /* it ends of its own will */
    HW_WATCH_PING,      /* from the launcher: it is there */
    HW_WATCH_END,       /* send your ring, then end */
} hw_watch_type;

enum {
    HW_WATCH_SECRET_BYTES = 16,
    HW_WATCH_HOST_BYTES = 64,
    HW_WATCH_RING_PART = 4,  /* collectives of a message */
    HW_WATCH_RING_LAST = 64, /* that a rank sends */
    HW_WATCH_MAX_RANKS = 65536,
    HW_WATCH_BEAT_MS = 100,
};
/* Where ranks find hw_watch_address as text. What has its own prefix, Open MPI hands on to every host. */
#define HW_WATCH_VARIABLE "OMPI_HEADWAY_WATCH"

typedef struct hw_watch_hello {
    uint8_t secret[HW_WATCH_SECRET_BYTES];
    int32_t pid, n_ranks;
    uint32_t job; /* Open MPI's number of the job, 0 when there is none: its files in shared memory have it */
    char host[HW_WATCH_HOST_BYTES];
} hw_watch_hello;

typedef struct hw_watch_beat {
    uint64_t progress; /* grows with every piece of work */
    uint64_t work;     /* operations of the piece that is under way */
    uint64_t done;     /* operations of all before */
    uint64_t n_bytes;  /* of the collective that is under way */
    uint64_t n_calls;  /* collectives done */
    uint64_t
        cpu_us; /* that the rank's own thread has had: one that waits for messages spins, one that hangs sleeps */
    uint32_t phase, call, site;
    int32_t layer;
} hw_watch_beat;

/* One kind of machine on both ends, as MPI's own start-up wants it. */
typedef struct hw_watch_message {
    uint32_t magic, type;
    int32_t rank;  /* of a rank's hello; 0 in others: a connection is one rank's */
    int32_t value; /* ring: entries; leave: exit code; ping: milliseconds of silence that are too many */
    union {
        hw_watch_hello hello;
        hw_watch_beat beat;
        hw_ring_entry ring[HW_WATCH_RING_PART];
    };
} hw_watch_message;

hw_watch_message hw_watch_message_of(hw_watch_type type, int value);

/* What is wrong with a message, NULL when nothing is. Afterwards every field can be used as an index, and
 * texts end. */
const char *hw_watch_check(const hw_watch_message *m, bool from_rank);

/* A message that comes in pieces. */
typedef struct hw_watch_inbox {
    hw_watch_message message;
    uint32_t n_bytes;
} hw_watch_inbox;

/* Reads what there is, at most to the end of a message, without waiting. 1: the message is whole; 0: not
 * yet; -1: closed or broken. */
int hw_watch_receive(int fd, hw_watch_inbox *in);

/* Whole or not at all, without waiting. */
bool hw_watch_send(int fd, const hw_watch_message *m);

/* ---- where the launcher is found */

typedef struct hw_watch_address {
    uint8_t secret[HW_WATCH_SECRET_BYTES];
    char host[HW_WATCH_HOST_BYTES]; /* the launcher's own name: ranks there take the first address */
    int32_t limit_ms;               /* limits.stuck_after */
    struct sockaddr_storage at[2];  /* on its own machine; from others, or family 0 */
} hw_watch_address;

enum { HW_WATCH_ADDRESS_TEXT = 256 };
void hw_watch_address_print(const hw_watch_address *a, char text[HW_WATCH_ADDRESS_TEXT]);
bool hw_watch_address_parse(hw_watch_address *a, const char *text);

const char *hw_watch_phase_name(uint32_t phase); /* "decoding" */
const char *hw_watch_call_name(uint32_t call);   /* "all-reduce" */

#endif
