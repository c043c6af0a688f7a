/* The heartbeat protocol between ranks and launcher, independent of MPI: fixed-size messages over a TCP
 * connection that each rank opens to `headway launch`. The first message carries the run's secret; all later
 * ones are still checked (hw_watch_check). All functions are Local. */
#ifndef HW_PARALLEL_WATCH_WIRE_H
#define HW_PARALLEL_WATCH_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "parallel/meter.h"

/* What a rank is doing, as far as it affects how long it may take. */
typedef enum hw_watch_phase {
    HW_WATCH_STARTING, /* until all ranks have found each other */
    HW_WATCH_IDLE,     /* waits for input or output, or has nothing to do */
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
    HW_CALL_WAIT_IDLE, /* sleeps until rank 0 has work */
    HW_N_CALLS
} hw_watch_call;

typedef enum hw_watch_type {
    HW_WATCH_HELLO = 1, /* from a rank: its identity */
    HW_WATCH_BEAT,      /* ten times a second: its progress */
    HW_WATCH_RECENT,    /* with each beat: its last few collectives, newest first */
    HW_WATCH_RING,      /* more of them, in several messages, when it is told to end */
    HW_WATCH_LEAVE,     /* it ends on its own */
    HW_WATCH_PING,      /* from the launcher: it is alive */
    HW_WATCH_END,       /* send your ring, then end */
} hw_watch_type;

enum {
    HW_WATCH_SECRET_BYTES = 16,
    HW_WATCH_HOST_BYTES = 64,
    HW_WATCH_RING_PART = 4,  /* collectives in one message */
    HW_WATCH_RING_LAST = 64, /* collectives that a rank sends when it is told to end */
    HW_WATCH_MAX_RANKS = 65536,
    HW_WATCH_BEAT_MS = 100,
};
/* The environment variable with hw_watch_address as text. Open MPI passes variables with its own prefix to every
 * host. */
#define HW_WATCH_VARIABLE "OMPI_HEADWAY_WATCH"

typedef struct hw_watch_hello {
    uint8_t secret[HW_WATCH_SECRET_BYTES];
    int32_t pid, n_ranks;
    uint32_t job; /* Open MPI's job number, which is in the names of its shared memory files; 0: none */
    char host[HW_WATCH_HOST_BYTES];
} hw_watch_hello;

typedef struct hw_watch_beat {
    uint64_t progress; /* grows with every piece of work */
    uint64_t work;     /* operations of the current piece */
    uint64_t done;     /* operations of all pieces before it */
    uint64_t n_bytes;  /* of the current collective */
    uint64_t n_calls;  /* collectives done */
    uint64_t
        cpu_us; /* CPU time of the rank's main thread: a rank that waits for messages spins, one that hangs sleeps */
    uint32_t phase, call, site;
    int32_t layer;
} hw_watch_beat;

/* In native byte order: MPI's own start-up also requires the same kind of machine on both ends. */
typedef struct hw_watch_message {
    uint32_t magic, type;
    int32_t rank;  /* in hello; 0 in other messages, since each rank has its own connection */
    int32_t value; /* ring: entries; leave: exit code; ping: limit of silence in milliseconds */
    union {
        hw_watch_hello hello;
        hw_watch_beat beat;
        hw_ring_entry ring[HW_WATCH_RING_PART];
    };
} hw_watch_message;

hw_watch_message hw_watch_message_of(hw_watch_type type, int value);

/* What is wrong with a message; NULL when it is valid. Then every field can be used as an index, and strings are
 * terminated. */
const char *hw_watch_check(const hw_watch_message *m, bool from_rank);

/* A partially received message. */
typedef struct hw_watch_inbox {
    hw_watch_message message;
    uint32_t n_bytes;
} hw_watch_inbox;

/* Reads the available bytes, at most to the end of a message, without blocking. 1: the message is complete; 0: not
 * yet; -1: closed or broken. */
int hw_watch_receive(int fd, hw_watch_inbox *in);

/* Sends the whole message or nothing, without blocking. */
bool hw_watch_send(int fd, const hw_watch_message *m);

/* ---- the address of the launcher */

typedef struct hw_watch_address {
    uint8_t secret[HW_WATCH_SECRET_BYTES];
    char host[HW_WATCH_HOST_BYTES]; /* the launcher's host: ranks on it use the first address */
    int32_t limit_ms;               /* limits.stuck_after */
    struct sockaddr_storage at[2];  /* for ranks on its host; for others, or family 0 */
} hw_watch_address;

enum { HW_WATCH_ADDRESS_TEXT = 256 };
void hw_watch_address_print(const hw_watch_address *a, char text[HW_WATCH_ADDRESS_TEXT]);
bool hw_watch_address_parse(hw_watch_address *a, const char *text);

const char *hw_watch_phase_name(uint32_t phase); /* "decoding" */
const char *hw_watch_call_name(uint32_t call);   /* "all-reduce" */

#endif
