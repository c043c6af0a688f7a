/* Paths that prove themselves, on a processor that is broken on request (tests/support/faulty_paths.h): real products
 * with a bit turned over, and real instructions that end in a signal. */
#include <criterion/criterion.h>
#include <fenv.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/cpu/guard.h"
#include "kernels/cpu/prove.h"
#include "tests/support/faulty_paths.h"

/* Paths that this processor can take unasked, best first. */
static int list_paths(const char *names[8])
{
    int n = 0;
    for (const hw_cpu_path *p = __real_hw_cpu_paths(); p->name; p++)
        if (!p->by_name_only && p->announced() && (!p->allowed || p->allowed())) names[n++] = p->name;
    return n;
}

static void set_fault(const char *path, const char *fault)
{
    char text[64];
    snprintf(text, sizeof text, "%s:%s", path, fault);
    setenv("HW_TEST_FAULT", text, 1);
}

static hw_device *open_path(const char *isa, int n_threads)
{
    hw_device *d = NULL;
    hw_error err = {.rank = -1};
    cr_assert_eq(hw_cpu_device_create(&d, n_threads, isa, &err), HW_OK, "%s", err.message);
    return d;
}

/* ---- giving way */

Test(prove, every_path_of_this_processor_passes)
{
    for (const hw_cpu_path *p = __real_hw_cpu_paths(); p->name; p++) {
        if (!p->announced() || (p->allowed && !p->allowed())) continue;
        hw_device *d = open_path(p->name, 2);
        char want[64];
        snprintf(want, sizeof want, "cpu %s, 2 threads", p->name);
        cr_expect_str_eq(hw_device_description(d), want);
        cr_expect_str_eq(hw_device_path(d), p->name);
        cr_expect_null(hw_device_warning(d));
        cr_expect_null(hw_device_note(d));
        hw_device_destroy(d);
    }
}

static const struct fault {
    const char *name, *reason;
} faults[] = {{"bits", "wrong bits"},
              {"sigill", "SIGILL"},
              {"sigsegv", "SIGSEGV"},
              {"sigbus", "SIGBUS"},
#if defined(__x86_64__)
              {"sigfpe", "SIGFPE"},
#endif
              {NULL, NULL}};

Test(prove, a_path_that_fails_gives_way_to_the_next_and_says_so)
{
    const char *names[8];
    const int n = list_paths(names);
    for (const struct fault *f = faults; f->name; f++)
        for (int i = 0; i + 1 < n; i++) {
            char want[128];
            /* those before it are broken in another way */
            char all[256] = "", shown[256] = "";
            for (int k = 0; k < i; k++) {
                snprintf(all + strlen(all), sizeof all - strlen(all), "%s:sigill,", names[k]);
                snprintf(shown + strlen(shown), sizeof shown - strlen(shown), "%s: SIGILL, ", names[k]);
            }
            snprintf(all + strlen(all), sizeof all - strlen(all), "%s:%s", names[i], f->name);
            setenv("HW_TEST_FAULT", all, 1);
            hw_device *d = open_path(NULL, 2);
            snprintf(want, sizeof want, "cpu %s (%s%s: %s), 2 threads", names[i + 1], shown, names[i],
                     f->reason);
            cr_expect_str_eq(hw_device_description(d), want);
            cr_expect_str_eq(hw_device_path(d), names[i + 1]);
            snprintf(want, sizeof want, "%s: %s (", names[i], f->reason);
            const char *warning = hw_device_warning(d);
            cr_assert_not_null(warning);
            cr_expect(strstr(warning, want), "%s", warning);
            cr_expect(strstr(warning, names[i + 1]) == warning, "%s", warning);
            cr_expect_null(strchr(warning, '\n'));
            hw_device_destroy(d);
        }
}

Test(prove, a_path_that_is_slower_than_multiply_adds_is_taken_by_name_only)
{
    const char *names[8];
    list_paths(names);
    set_fault(names[0], "slow");
    hw_device *d = open_path(NULL, 1);
    cr_expect_str_eq(hw_device_path(d), names[1]);
    cr_expect_null(hw_device_warning(d));
    char want[96];
    snprintf(want, sizeof want, "%s: left alone, multiply-adds do 2.0 times as much here", names[0]);
    cr_expect_str_eq(hw_device_note(d), want);
    hw_device_destroy(d);
    d = open_path(names[0], 1);
    cr_expect_str_eq(hw_device_path(d), names[0]);
    cr_expect_null(hw_device_note(d));
    hw_device_destroy(d);
}

/* What is measured is a rate of work that is there. */
Test(prove, gains_are_measured)
{
    for (const hw_cpu_path *p = __real_hw_cpu_paths(); p->name; p++)
        if (p->gain && p->announced() && (!p->allowed || p->allowed())) {
            const double gain = p->gain();
            cr_expect(gain > 0.01 && gain < 100, "%s: %g", p->name, gain);
        }
}

/* The last of 37 outputs. */
Test(prove, says_which_number_is_wrong)
{
    const char *names[8];
    list_paths(names);
    set_fault(names[0], "bits");
    hw_device *d = open_path(NULL, 1);
    cr_expect(strstr(hw_device_warning(d), "bfloat16 weights in bf16x3, 3 rows: [2, 36] is "), "%s",
              hw_device_warning(d));
    hw_device_destroy(d);
}

Test(prove, a_path_that_was_asked_for_and_fails_is_refused)
{
    const char *names[8];
    list_paths(names);
    for (const struct fault *f = faults; f->name; f++) {
        hw_device *d;
        hw_error err = {.rank = -1};
        set_fault(names[0], f->name);
        setenv("HW_CPU", names[0], 1);
        cr_assert_eq(hw_cpu_device_create(&d, 1, NULL, &err), HW_ERR_DEVICE);
        cr_expect_null(d);
        cr_expect(strstr(err.message, "HW_CPU is '"), "%s", err.message);
        cr_expect(strstr(err.message, names[0]), "%s", err.message);
        cr_expect(strstr(err.message, f->reason), "%s", err.message);
    }
}

/* The emulation is not even tried. */
Test(prove, without_a_path_that_passes_there_is_no_device)
{
    const char *names[8];
    char all[256] = "";
    hw_device *d;
    hw_error err = {.rank = -1};
    for (int i = 0, n = list_paths(names); i < n; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s:bits", i ? "," : "", names[i]);
    setenv("HW_TEST_FAULT", all, 1);
    cr_assert_eq(hw_cpu_device_create(&d, 1, NULL, &err), HW_ERR_DEVICE);
    cr_expect_null(d);
    cr_expect(strstr(err.message, "generic: wrong bits"), "%s", err.message);
    cr_expect(strstr(err.message, "HW_PROVE=off"), "%s", err.message);
    cr_expect_null(strstr(err.message, "emulated"), "%s", err.message);
}

Test(prove, is_left_out_when_the_environment_says_so)
{
    const char *names[8];
    hw_device *d;
    hw_error err = {.rank = -1};
    list_paths(names);
    set_fault(names[0], "bits");
    setenv("HW_PROVE", "off", 1);
    d = open_path(NULL, 1);
    cr_expect_str_eq(hw_device_path(d), names[0]);
    cr_expect_null(hw_device_warning(d));
    cr_expect_eq(hw_faulty.n_products, 0);
    cr_expect(strstr(hw_device_note(d), "HW_PROVE=off"), "%s", hw_device_note(d));
    hw_device_destroy(d);
    setenv("HW_PROVE", "on", 1);
    d = open_path(NULL, 1);
    cr_expect_str_neq(hw_device_path(d), names[0]);
    hw_device_destroy(d);
    setenv("HW_PROVE", "no", 1);
    cr_expect_eq(hw_cpu_device_create(&d, 1, NULL, &err), HW_ERR_INVALID);
    cr_expect_str_eq(err.message, "HW_PROVE is 'no'; use on or off");
}

/* As many multiply-adds as one step of a model of a few hundred kilobytes. */
Test(prove, is_small_and_comes_before_the_threads)
{
    const char *names[8];
    list_paths(names);
    set_fault(names[0], "count");
    const int n_threads = hw_count_threads();
    hw_device *d = open_path(NULL, 4);
    cr_expect_eq(hw_count_threads(), n_threads + 3);
    cr_expect_str_eq(hw_device_path(d), names[0]);
    cr_expect_geq(hw_faulty.n_products, 10);
    cr_expect_leq(hw_faulty.n_multiply_adds, 400000);
    cr_expect_eq(hw_faulty.most_threads, n_threads);
    hw_device_destroy(d);
}

#if defined(__x86_64__)
/* As a container's filter of system calls does, or an old kernel: the request for tiles is refused. */
Test(prove, matrix_units_that_the_kernel_refuses_are_passed_over_in_silence)
{
    enum { REQUEST_PERMISSION = 0x1023 };
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_arch_prctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, REQUEST_PERMISSION, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    const hw_cpu_path *amx = __real_hw_cpu_paths();
    hw_device *d;
    hw_error err = {.rank = -1};
    const char *names[8];
    cr_assert_str_eq(amx->name, "amx");
    if (!amx->announced()) return;
    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
    d = open_path(NULL, 1);
    list_paths(names);
    cr_expect_str_neq(names[0], "amx");
    cr_expect_str_eq(hw_device_path(d), names[0]);
    cr_expect_null(hw_device_warning(d));
    cr_assert_not_null(hw_device_note(d));
    cr_expect(strstr(hw_device_note(d), "amx: the processor has it"), "%s", hw_device_note(d));
    hw_device_destroy(d);
    cr_expect_eq(hw_cpu_device_create(&d, 1, "amx", &err), HW_ERR_UNSUPPORTED);
    cr_expect(strstr(err.message, "the kernel does not let this process use"), "%s", err.message);
}
#endif

/* ---- what the process had before */

static atomic_int n_before;
static void count_signal(int signal) { n_before += signal != 0; }
static void count_info(int signal, siginfo_t *info, void *context)
{
    n_before += signal == info->si_signo && context;
}

Test(guard, handlers_masks_and_rounding_are_what_they_were)
{
    const char *names[8];
    list_paths(names);
    struct sigaction plain = {.sa_handler = count_signal}, rich = {.sa_sigaction = count_info}, now;
    rich.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaddset(&rich.sa_mask, SIGUSR1);
    sigaction(SIGILL, &plain, NULL);
    sigaction(SIGSEGV, &rich, NULL);
    sigset_t blocked, mask;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGILL); /* a blocked fault would end the process */
    sigaddset(&blocked, SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    fesetround(FE_UPWARD); /* matrix units round to nearest all the same */
    feclearexcept(FE_ALL_EXCEPT);
    static const char *const each[] = {"count", "sigill", "sigsegv", "bits", NULL};
    for (const char *const *f = each; *f; f++) {
        set_fault(names[0], *f);
        hw_device *d = open_path(NULL, 1);
        cr_expect_eq(!hw_device_warning(d), !strcmp(*f, "count"), "%s", *f);
        hw_device_destroy(d);
        sigaction(SIGILL, NULL, &now);
        cr_expect_eq(now.sa_handler, count_signal, "%s", *f);
        sigaction(SIGSEGV, NULL, &now);
        cr_expect_eq(now.sa_sigaction, count_info, "%s", *f);
        cr_expect_eq(now.sa_flags & (SA_SIGINFO | SA_RESTART), SA_SIGINFO | SA_RESTART);
        cr_expect(sigismember(&now.sa_mask, SIGUSR1));
        pthread_sigmask(SIG_SETMASK, NULL, &mask);
        cr_expect(sigismember(&mask, SIGILL) && sigismember(&mask, SIGUSR2) && !sigismember(&mask, SIGSEGV));
        cr_expect_eq(fegetround(), FE_UPWARD, "%s", *f);
        cr_expect_eq(fetestexcept(FE_ALL_EXCEPT & ~FE_INEXACT), 0, "%s", *f);
        volatile float tiny = 0x1p-126f; /* still kept, not flushed */
        cr_expect_gt((double)(tiny * 0.5f), 0.0, "%s", *f);
    }
    cr_expect_eq(n_before, 0);
    raise(SIGSEGV);
    cr_expect_eq(n_before, 1);
}

static void fault(void *arg)
{
    (void)arg;
    fesetround(FE_DOWNWARD);
    hw_fault_sigill();
}

/* The jump leaves a handler, in which the processor computes in another way than before. */
Test(guard, numbers_are_rounded_as_before_the_fault)
{
    fesetround(FE_UPWARD);
    cr_expect_eq(hw_guarded(fault, NULL), SIGILL);
    cr_expect_eq(fegetround(), FE_UPWARD);
}

static void return_at_once(void *arg) { *(int *)arg = 7; }
static void send_to_itself(void *arg)
{
    raise(SIGSEGV);
    *(int *)arg = 7;
}

Test(guard, lets_what_works_work_and_passes_on_what_was_sent)
{
    int done = 0;
    cr_expect_eq(hw_guarded(return_at_once, &done), 0);
    cr_expect_eq(done, 7);
    struct sigaction mine = {.sa_handler = count_signal};
    sigaction(SIGSEGV, &mine, NULL);
    done = 0;
    cr_expect_eq(hw_guarded(send_to_itself, &done), 0);
    cr_expect_eq(done, 7);
    cr_expect_eq(n_before, 1);
    mine.sa_handler = SIG_IGN;
    sigaction(SIGSEGV, &mine, NULL);
    done = 0;
    cr_expect_eq(hw_guarded(send_to_itself, &done), 0);
    cr_expect_eq(done, 7);
}

static atomic_int inside, handled;
static char *page;

/* What a garbage collector does with its pages: mends the cause, and the instruction runs again. */
static void mend(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    if (info->si_addr == page) mprotect(page, 4096, PROT_READ | PROT_WRITE);
    handled++;
}

static void *write_to_page(void *arg)
{
    (void)arg;
    while (!inside) usleep(100);
    *(volatile char *)page = 5;
    return NULL;
}

static void wait_for_the_other(void *arg)
{
    (void)arg;
    inside = 1;
    while (!handled) usleep(100);
}

Test(guard, a_fault_of_another_thread_goes_to_the_handler_that_was_there)
{
    pthread_t other;
    struct sigaction mine = {.sa_sigaction = mend};
    mine.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &mine, NULL);
    page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_eq(pthread_create(&other, NULL, write_to_page, NULL), 0);
    cr_expect_eq(hw_guarded(wait_for_the_other, NULL), 0);
    pthread_join(other, NULL);
    cr_expect_eq(handled, 1);
    cr_expect_eq(*page, 5);
}

/* Nothing is swallowed: the process ends as it does without the guard. */
Test(guard, a_fault_of_another_thread_that_nobody_handles_ends_the_process, .signal = SIGSEGV, .timeout = 60)
{
    pthread_t other;
    signal(SIGSEGV, SIG_DFL);
    page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_eq(pthread_create(&other, NULL, write_to_page, NULL), 0);
    hw_guarded(wait_for_the_other, NULL);
}

static void *open_many(void *arg)
{
    for (int i = 0; i < 20; i++) {
        hw_device *d = NULL;
        if (hw_cpu_device_create(&d, 1, NULL, NULL) || !hw_device_warning(d)) ++*(int *)arg;
        hw_device_destroy(d);
    }
    return NULL;
}

/* Handlers belong to the process: those that prove themselves at the same time take turns. */
Test(guard, several_threads_create_devices_at_once)
{
    const char *names[8];
    pthread_t threads[3];
    int n_wrong[3] = {0};
    struct sigaction before, after;
    list_paths(names);
    set_fault(names[0], "sigill");
    open_many(&n_wrong[0]);
    sigaction(SIGILL, NULL, &before);
    for (int i = 0; i < 3; i++) cr_assert_eq(pthread_create(&threads[i], NULL, open_many, &n_wrong[i]), 0);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        cr_expect_eq(n_wrong[i], 0);
    }
    sigaction(SIGILL, NULL, &after);
    cr_expect_eq(before.sa_handler, after.sa_handler);
}
