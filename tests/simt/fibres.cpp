/* The threads of a block as fibres on one thread of the host. A fibre runs until it waits at a barrier of
 * its block or of its warp, or ends; then the next one that can run does. Every second grid goes through
 * its threads backwards, so that code that only works in one order is noticed. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "tests/simt/simt.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#else
static void __sanitizer_start_switch_fiber(void **, const void *, size_t) {}
static void __sanitizer_finish_switch_fiber(void *, const void **, size_t *) {}
#endif

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace
{

enum { MOST_THREADS = 1024, WARP = 32, STACK_BYTES = 256 << 10 };
enum state { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, ENDED };

struct fibre {
    char *stack;
    void *fake_stack; /* of the address sanitizer */
    state is;
    unsigned n_shuffles;
    bool has_waited; /* for the kernel before */
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
};

struct warp {
    unsigned n_waiting;
    uint64_t lanes[2][WARP]; /* taken in turn, so that nobody writes what somebody still reads */
};

fibre fibres[MOST_THREADS];
warp warps[MOST_THREADS / WARP];
unsigned n_threads, n_at_block_barrier, current;
const std::function<void()> *body;
unsigned char *shared;
size_t n_grids;
const void *host_stack; /* as the address sanitizer knows it */
size_t host_stack_bytes;

#if defined(__x86_64__)
void *host_sp;
extern "C" void hw_simt_switch(void **from, void *to) __attribute__((visibility("hidden")));
/* What a function call has to keep goes onto the one stack, and comes back from the other. */
asm(".text\n"
    ".hidden hw_simt_switch\n"
    ".globl hw_simt_switch\n"
    ".type hw_simt_switch, @function\n"
    "hw_simt_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size hw_simt_switch, . - hw_simt_switch\n");

void switch_in(fibre *f) { hw_simt_switch(&host_sp, f->sp); }
void switch_out(fibre *f) { hw_simt_switch(&f->sp, host_sp); }
#else
ucontext_t host_context;
void switch_in(fibre *f) { swapcontext(&host_context, &f->context); }
void switch_out(fibre *f) { swapcontext(&f->context, &host_context); }
#endif

void leave()
{
    fibre *f = &fibres[current];
    __sanitizer_start_switch_fiber(&f->fake_stack, host_stack, host_stack_bytes);
    switch_out(f);
    __sanitizer_finish_switch_fiber(f->fake_stack, &host_stack, &host_stack_bytes);
}

/* A fibre never ends: it takes a thread of the next block. So its stack is always as the sanitizer thinks
 * it is. */
void live()
{
    __sanitizer_finish_switch_fiber(nullptr, &host_stack, &host_stack_bytes);
    for (;;) {
        (*body)();
        fibres[current].is = ENDED;
        leave();
    }
}

void enter(unsigned i)
{
    void *fake_stack = nullptr;
    current = i;
    threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    __sanitizer_start_switch_fiber(&fake_stack, fibres[i].stack, STACK_BYTES);
    switch_in(&fibres[i]);
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

[[noreturn]] void give_up(const char *what)
{
    fprintf(stderr, "SIMT layer: block (%u, %u, %u), thread %u: %s\n", blockIdx.x, blockIdx.y, blockIdx.z,
            current, what);
    abort();
}

void make_fibre(fibre *f)
{
    if (f->stack) return;
    void *p = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) give_up("no memory for its stack");
    f->stack = (char *)p;
#if defined(__x86_64__)
    /* As if `live` were about to return into: six registers, then its address on a 16-byte boundary. */
    void **sp = (void **)(void *)(f->stack + STACK_BYTES - 64);
    *sp = (void *)live;
    f->sp = sp - 6;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&f->context, live, 0);
#endif
}

void explain_deadlock()
{
    for (unsigned i = 0; i < n_threads; i++) {
        current = i;
        if (fibres[i].is == AT_WARP_BARRIER)
            give_up("waits for its warp in a shuffle that other lanes do not take part in");
        if (fibres[i].is == AT_BLOCK_BARRIER)
            give_up("waits in __syncthreads, which other threads do not reach");
    }
}

void run_block(bool backwards)
{
    n_at_block_barrier = 0;
    for (unsigned i = 0; i < n_threads; i++)
        fibres[i].is = READY, fibres[i].n_shuffles = 0, fibres[i].has_waited = false;
    for (unsigned i = 0; i < n_threads / WARP; i++) warps[i].n_waiting = 0;
    for (unsigned n_ended = 0; n_ended < n_threads;) {
        bool ran = false;
        for (unsigned k = 0; k < n_threads; k++) {
            const unsigned i = backwards ? n_threads - 1 - k : k;
            if (fibres[i].is != READY) continue;
            ran = true;
            enter(i);
            n_ended += fibres[i].is == ENDED;
            if (fibres[i].is == ENDED && !fibres[i].has_waited)
                give_up("ends without having waited for the kernel before (hw_begin)");
        }
        if (!ran) explain_deadlock();
    }
}

} // namespace

void __syncthreads()
{
    fibres[current].is = AT_BLOCK_BARRIER;
    if (++n_at_block_barrier == n_threads) {
        n_at_block_barrier = 0;
        for (unsigned i = 0; i < n_threads; i++) fibres[i].is = READY;
    }
    leave();
}

uint64_t hw_simt_shuffle_xor(unsigned lanes, uint64_t x, int lane_mask)
{
    return hw_simt_shuffle(lanes, x, (int)(current % WARP) ^ lane_mask);
}

uint64_t hw_simt_shuffle(unsigned lanes, uint64_t x, int from)
{
    const unsigned lane = current % WARP, first = current - lane;
    warp *w = &warps[current / WARP];
    uint64_t *values = w->lanes[fibres[current].n_shuffles++ % 2];
    if (lanes != 0xffffffffu) give_up("shuffles among some lanes only; this layer knows whole warps");
    values[lane] = x;
    if (++w->n_waiting == WARP) { /* the last lane goes on at once */
        w->n_waiting = 0;
        for (unsigned i = first; i < first + WARP; i++) fibres[i].is = READY;
    } else {
        fibres[current].is = AT_WARP_BARRIER;
        leave();
    }
    return values[(unsigned)from % WARP];
}

unsigned char *hw_simt_dynamic_shared() { return shared; }
void hw_simt_wait_for_previous() { fibres[current].has_waited = true; }

void hw_simt_run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread)
{
    const bool backwards = n_grids++ % 2;
    n_threads = block.x * block.y * block.z;
    gridDim = grid, blockDim = block, body = &thread;
    for (unsigned i = 0; i < n_threads; i++) make_fibre(&fibres[i]);
    /* Of its own size, so that the address sanitizer sees who goes past it. */
    shared = (unsigned char *)malloc(shared_bytes ? shared_bytes : 1); /* on a 16-byte boundary */
    if (!shared) give_up("no memory for what its block shares");
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = {x, y, z};
                memset(shared, 0xff, shared_bytes); /* NaN where nothing was written */
                run_block(backwards);
            }
    free(shared);
    shared = nullptr;
}
