#include "parallel/window.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "parallel/comm_mpi.h"
#include "parallel/traffic_model.h"

/* Some processors fetch cache lines in pairs, hence a flag in every second line. */
enum { FLAG_BYTES = 128, PAGE = 4096, SPINS_BEFORE_YIELD = 200, YIELDS_BEFORE_IDLE = 64 };

typedef struct flag {
    _Alignas(FLAG_BYTES) _Atomic uint64_t phase;
} flag;

/* Exchanged between ranks: where each may run, and from the lowest rank of a host, the memory it created. */
typedef struct offer {
    cpu_set_t cpus;
    int pid, fd;
    uint64_t word; /* random, also at the start of the memory, to verify that it is the right one */
} offer;

struct hw_window {
    int me, n;
    int spins; /* polls of a flag before yielding the core */
    size_t n_bytes;
    char *memory; /* a page with the word, flags [n], buffers [n, 2, HW_SHM_PIECE_BYTES] */
    flag *flags;
    char *buffers;
};

static size_t flags_bytes(int n) { return ((size_t)n * sizeof(flag) + PAGE - 1) / PAGE * PAGE; }

static hw_status map(hw_window *w, int fd, hw_error *err)
{
    void *p = mmap(NULL, w->n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return hw_fail(err, HW_ERR_UNSUPPORTED, "shm: %zu bytes shared by the ranks of a host: mmap: %s",
                       w->n_bytes, strerror(errno));
    w->memory = p;
    w->flags = (flag *)(void *)(w->memory + PAGE);
    w->buffers = w->memory + PAGE + flags_bytes(w->n);
    return HW_OK;
}

/* The lowest rank of a host creates the memory. The descriptor stays open until all ranks have mapped it. */
static hw_status make(hw_window *w, offer *o, hw_error *err)
{
    o->pid = getpid();
    o->fd = memfd_create("headway", MFD_CLOEXEC);
    if (o->fd < 0 || ftruncate(o->fd, (off_t)w->n_bytes) ||
        getrandom(&o->word, sizeof o->word, 0) != sizeof o->word)
        return hw_fail(err, HW_ERR_UNSUPPORTED, "shm: %zu bytes shared by the ranks of a host: %s",
                       w->n_bytes, strerror(errno));
    hw_status st = map(w, o->fd, err);
    if (!st) memcpy(w->memory, &o->word, sizeof o->word);
    return st;
}

static hw_status join(hw_window *w, const offer *o, hw_error *err)
{
    char path[64];
    struct stat info;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", o->pid, o->fd);
    int fd = o->fd < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) || (size_t)info.st_size != w->n_bytes) {
        hw_status st = hw_fail(err, HW_ERR_UNSUPPORTED,
                               "shm: memory of another rank of this host, %s: %s; use --comm mpi", path,
                               fd < 0 ? strerror(errno) : "is something else");
        if (fd >= 0) close(fd);
        return st;
    }
    hw_status st = map(w, fd, err);
    close(fd);
    if (!st && memcmp(w->memory, &o->word, sizeof o->word))
        st = hw_fail(err, HW_ERR_UNSUPPORTED, "shm: %s is something else; use --comm mpi", path);
    return st;
}

/* Agrees on the worst status of all ranks. */
static hw_status agree(void *mpi, int n_ranks, hw_status mine, hw_error *err)
{
    hw_status worst = mine, *all = calloc((size_t)n_ranks, sizeof *all);
    if (!all) return hw_fail(err, HW_ERR_NO_MEMORY, "shm: no memory for %d ranks", n_ranks);
    hw_status st = hw_mpi_tell(mpi, &mine, sizeof mine, all, err);
    for (int r = 0; r < n_ranks && !st && !mine; r++)
        if (all[r] > worst) {
            worst = all[r];
            hw_fail(err, worst, "shm: rank %d cannot share memory with the others of its host", r);
        }
    free(all);
    return st ? st : worst;
}

/* If ranks outnumber the processors that they may run on, the rank that this one waits for may need its core. */
static int choose_spins(const hw_window *w, const hw_ranks *r, const offer *all)
{
    cpu_set_t any;
    CPU_ZERO(&any);
    for (int i = 0; i < r->n_ranks; i++)
        if (r->host_of[i] == r->host_of[r->rank]) CPU_OR(&any, &any, &all[i].cpus);
    return w->n > CPU_COUNT(&any) ? 0 : SPINS_BEFORE_YIELD;
}

static hw_status share(hw_window *w, void *mpi, const hw_ranks *r, hw_error *err)
{
    offer mine = {.fd = -1}, *all = calloc((size_t)r->n_ranks, sizeof *all);
    hw_status st = all ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "shm: no memory for %d ranks", r->n_ranks);
    if (!st && sched_getaffinity(0, sizeof mine.cpus, &mine.cpus)) CPU_ZERO(&mine.cpus);
    if (!st && w->me == 0) st = make(w, &mine, err);
    hw_error lost;
    hw_status told = hw_mpi_tell(mpi, &mine, sizeof mine, all, st ? &lost : err);
    if (!st) st = told;
    if (!st) w->spins = choose_spins(w, r, all);
    if (!st && w->me) st = join(w, &all[r->host_of[r->rank]], err);
    st = agree(mpi, r->n_ranks, st, err);
    if (mine.fd >= 0) close(mine.fd);
    free(all);
    return st;
}

hw_status hw_window_create(hw_window **out, void *mpi, const hw_ranks *r, hw_error *err)
{
    *out = NULL;
    hw_window *w = calloc(1, sizeof *w);
    if (!w) return hw_fail(err, HW_ERR_NO_MEMORY, "shm: no memory");
    for (int i = 0; i < r->n_ranks; i++) {
        const bool here = r->host_of[i] == r->host_of[r->rank];
        w->me += here && i < r->rank;
        w->n += here;
    }
    w->n_bytes = PAGE + flags_bytes(w->n) + 2 * (size_t)w->n * HW_SHM_PIECE_BYTES;
    hw_status st = share(w, mpi, r, err);
    if (st) hw_window_destroy(w);
    else *out = w;
    return st;
}

void hw_window_destroy(hw_window *w)
{
    if (!w) return;
    if (w->memory) munmap(w->memory, w->n_bytes);
    free(w);
}

char *hw_window_buffer(const hw_window *w, int i, int buffer)
{
    return w->buffers + (2 * (size_t)i + (size_t)buffer) * HW_SHM_PIECE_BYTES;
}

void hw_window_publish(hw_window *w, uint64_t phase)
{
    atomic_store_explicit(&w->flags[w->me].phase, phase, memory_order_release);
}

static inline void cpu_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void hw_window_await(hw_window *w, int i, uint64_t phase, void (*idle)(void *user), void *user)
{
    const _Atomic uint64_t *theirs = &w->flags[i].phase;
    for (int spins = 0; spins < w->spins; spins++) {
        if (atomic_load_explicit(theirs, memory_order_acquire) >= phase) return;
        cpu_pause();
    }
    for (unsigned yields = 1; atomic_load_explicit(theirs, memory_order_acquire) < phase; yields++) {
        sched_yield();
        if (idle && yields % YIELDS_BEFORE_IDLE == 0) idle(user);
    }
}
