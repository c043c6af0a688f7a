/* What a rank takes of the host's memory, on as many ranks as it is started on. test_steady.c starts it;
 * release builds only, since the sanitizers have an allocator of their own.
 *
 *   steady_worker allocations FOLDER   twenty decode steps with sampling allocate nothing
 *   steady_worker peak FOLDER          the peak resident size is near weights and cache
 *
 * On one rank every call of the C library's allocator counts, whoever makes it. On several, MPI may allocate
 * as it likes, so only calls from the program itself count: Headway is linked into it, MPI is a shared
 * library. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/device/host_memory.h"
#include "runtime/engine.h"
#include "tests/support/rank.h"

enum { N_STEPS = 20 };

/* ---- the allocator, watched */

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);

extern const char __executable_start[], etext[]; /* of this program, from the linker */

static bool watching, only_own;
static int n_allocations;

static void note(const void *caller)
{
    const char *c = caller;
    if (watching && (!only_own || (c >= __executable_start && c < etext))) n_allocations++;
}

/* Not inlined: the return address is then the caller's. */
__attribute__((noinline)) void *malloc(size_t n)
{
    note(__builtin_return_address(0));
    return __libc_malloc(n);
}
__attribute__((noinline)) void *calloc(size_t n, size_t size)
{
    note(__builtin_return_address(0));
    return __libc_calloc(n, size);
}
__attribute__((noinline)) void *realloc(void *p, size_t n)
{
    note(__builtin_return_address(0));
    return __libc_realloc(p, n);
}
__attribute__((noinline)) void *aligned_alloc(size_t alignment, size_t n)
{
    note(__builtin_return_address(0));
    return __libc_memalign(alignment, n);
}

/* ---- */

static hw_engine *open_engine(const char *folder)
{
    hw_engine *e;
    hw_error err;
    hw_engine_options o = hw_engine_defaults();
    o.dummy = true;
    o.dtype = HW_BF16;
    must(hw_engine_create(&e, comm, folder, &o, &err), &err);
    return e;
}

static void step(hw_engine *e, hw_batch *b, hw_sequence *s, int32_t *tokens, int n, const hw_sampling *set)
{
    hw_error err;
    hw_batch_clear(b);
    must(hw_batch_add(b, s, tokens, n, HW_LOGITS_LAST, &err), &err);
    must(hw_engine_step(e, b, &err), &err);
    must(hw_engine_sample(e, b, set, 0, tokens, &err), &err);
}

/* The first step of each setting may still make room. */
static void count_allocations(hw_engine *e)
{
    static const hw_sampling settings[] = {
        {.repetition_penalty = 1.2f},
        {.temperature = 0.8f, .seed = 1},
        {.temperature = 0.8f, .top_k = 200, .seed = 1},
        {.temperature = 0.8f, .top_p = 0.9f, .seed = 1},
        {.temperature = 0.8f, .min_p = 0.1f, .seed = 1},
        {.temperature = 0.8f,
         .top_k = 50,
         .top_p = 0.9f,
         .min_p = 0.01f,
         .repetition_penalty = 1.1f,
         .seed = 1},
    };
    hw_error err;
    only_own = n_ranks > 1;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        hw_sequence *s;
        hw_batch *b;
        int32_t tokens[5] = {1, 2, 3, 4, 5};
        must(hw_batch_create(&b, e, &err), &err);
        must(hw_sequence_create(&s, e, 0, &err), &err);
        step(e, b, s, tokens, 5, &settings[i]);
        step(e, b, s, tokens, 1, &settings[i]);
        n_allocations = 0;
        watching = true;
        for (int j = 0; j < N_STEPS; j++) step(e, b, s, tokens, 1, &settings[i]);
        watching = false;
        if (n_allocations) fprintf(stderr, "setting %zu: %d allocations\n", i, n_allocations);
        n_wrong += n_allocations;
        hw_sequence_destroy(s);
        hw_batch_destroy(b);
    }
    /* Or the watch sees nothing. Through a pointer: of malloc itself the compiler believes that it reads none
     * of our variables. */
    void *(*volatile allocate)(size_t) = malloc;
    n_allocations = 0;
    watching = true;
    void *p = allocate(10);
    watching = false;
    free(p);
    n_wrong += n_allocations != 1;
}

static void check_peak(hw_engine *e)
{
    hw_sequence *s;
    hw_batch *b;
    hw_error err;
    int32_t tokens[5] = {1, 2, 3, 4, 5};
    const hw_sampling greedy = {0};
    must(hw_batch_create(&b, e, &err), &err);
    must(hw_sequence_create(&s, e, 0, &err), &err);
    step(e, b, s, tokens, 5, &greedy);
    for (int j = 0; j < N_STEPS; j++) step(e, b, s, tokens, 1, &greedy);
    hw_sequence_destroy(s);
    hw_batch_destroy(b);
    hw_engine_info info = hw_engine_info_get(e);
    double allowed = 1.15 * (double)(info.weight_bytes + info.kv_bytes) + 64e6,
           peak = (double)hw_memory_peak();
    fprintf(stderr, "rank %d: peak %.0f MB, weights %.0f, cache %.0f, buffers %.0f, allowed %.0f\n",
            info.rank, peak * 1e-6, (double)info.weight_bytes * 1e-6, (double)info.kv_bytes * 1e-6,
            (double)info.buffer_bytes * 1e-6, allowed * 1e-6);
    n_wrong += peak == 0 || peak > allowed;
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    start("auto");
    hw_engine *e = open_engine(argv[2]);
    if (strcmp(argv[1], "peak")) count_allocations(e);
    else check_peak(e);
    hw_engine_destroy(e);
    return finish();
}
