#include <stdio.h>
#include <time.h>

#include "tests/kernels/support.h"

#include "kernels/cpu/pool.h"

Test(device, says_what_it_is)
{
    hw_device *d = open_reference();
    cr_assert_str_eq(d->k->name, "reference");
    hw_device_destroy(d);
    cr_assert_eq(hw_cpu_device_create(&d, 2, "generic", NULL), HW_OK);
    cr_assert_str_eq(hw_device_description(d), "cpu generic, 2 threads");
    cr_assert_eq(d->n_threads, 2);
    cr_assert_eq(d->act, HW_F32);
    hw_device_destroy(d);
    cr_assert_eq(hw_cpu_device_create(&d, 0, "auto", NULL), HW_OK);
    cr_assert(strstr(hw_device_description(d), ", 1 thread"));
    hw_device_destroy(d);
    hw_device_destroy(NULL);
}

Test(device, takes_the_instruction_set_from_the_environment_unless_told)
{
    hw_device *d;
    hw_error err = {.rank = -1};
    setenv("HW_CPU", "generic", 1);
    cr_assert_eq(hw_cpu_device_create(&d, 1, NULL, &err), HW_OK);
    cr_assert_str_eq(hw_device_description(d), "cpu generic, 1 thread");
    hw_device_destroy(d);
    setenv("HW_CPU", "avx9", 1);
    cr_assert_eq(hw_cpu_device_create(&d, 1, NULL, &err), HW_ERR_INVALID);
    cr_assert_str_eq(err.message, "HW_CPU is 'avx9'; use auto, amx, avx512-bf16, avx512, avx2 or generic");
    cr_assert_null(d);
    cr_assert_eq(hw_cpu_device_create(&d, 1, "auto", &err), HW_OK);
    hw_device_destroy(d);
}

Test(device, multiplies_by_terms_where_there_are_matrix_units_and_as_told)
{
    hw_device *d;
    hw_error err = {.rank = -1};
    cr_assert_eq(hw_cpu_device_create(&d, 1, "amx-emulated", NULL), HW_OK);
    cr_assert_eq(d->matmul, HW_MATMUL_BF16X3);
    cr_assert_eq(hw_device_choose_matmul(d, HW_MATMUL_AUTO, NULL), HW_OK);
    cr_assert_eq(d->matmul, HW_MATMUL_BF16X3);
    cr_assert_eq(hw_device_choose_matmul(d, HW_MATMUL_BF16, NULL), HW_OK);
    cr_assert_eq(d->matmul, HW_MATMUL_BF16);
    hw_device_destroy(d);
    cr_assert_eq(hw_cpu_device_create(&d, 1, "generic", NULL), HW_OK);
    cr_assert_eq(d->matmul, HW_MATMUL_FLOAT32);
    d->matmul = HW_MATMUL_AUTO; /* as a device of a plug-in says it */
    cr_assert_eq(hw_device_choose_matmul(d, HW_MATMUL_BF16X3, &err), HW_ERR_UNSUPPORTED);
    cr_assert(strstr(err.message, "bf16x3"), "%s", err.message);
    hw_device_destroy(d);
}

Test(device, refuses_what_its_attention_cannot_do_by_field_and_name)
{
    hw_device *d = open_reference();
    hw_kernels k = *d->k;
    hw_error err = {.rank = -1};
    k.attends = (hw_attn_abilities){.window = true};
    d->k = &k;
    cr_expect_eq(hw_device_check_attn(d, &(hw_attn){.scale = 0.5f, .window = 64}, &err), HW_OK);
    cr_expect_eq(hw_device_check_attn(d, &(hw_attn){.scale = 0.5f, .softcap = 50}, &err), HW_ERR_UNSUPPORTED);
    cr_expect_str_eq(err.message, "device reference: attention with softcap 50 is not supported");
    cr_expect_eq(hw_device_check_attn(d, &(hw_attn){.window = 64, .n_sinks = 4}, &err), HW_ERR_UNSUPPORTED);
    cr_expect_str_eq(err.message, "device reference: attention with n_sinks 4 is not supported");
    k.attends.window = false;
    cr_expect_eq(hw_device_check_attn(d, &(hw_attn){.scale = 0.5f}, &err), HW_OK);
    cr_expect_eq(hw_device_check_attn(d, &(hw_attn){.window = 64, .n_sinks = 4}, &err), HW_ERR_UNSUPPORTED);
    cr_expect_str_eq(err.message, "device reference: attention with window 64 is not supported");
    hw_device_destroy(d);
}

/* The one that is asked for by name exists or is refused by name. */
Test(device, with_matrix_units_is_there_or_says_why_not)
{
    hw_device *d;
    hw_error err = {.rank = -1};
    hw_status st = hw_cpu_device_create(&d, 1, "amx", &err);
    if (st) cr_assert_eq(st, HW_ERR_UNSUPPORTED);
    if (st) cr_assert(strstr(err.message, "'amx'"), "%s", err.message);
    else cr_assert_str_eq(hw_device_description(d), "cpu amx, 1 thread");
    hw_device_destroy(d);
}

Test(device, refuses_impossible_numbers_of_threads)
{
    hw_device *d;
    hw_error err = {.rank = -1};
    cr_assert_eq(hw_cpu_device_create(&d, -1, NULL, &err), HW_ERR_INVALID);
    cr_assert_eq(hw_cpu_device_create(&d, 1 << 20, NULL, &err), HW_ERR_INVALID);
    cr_assert(strstr(err.message, "1048576"), "%s", err.message);
}

Test(alloc, gives_zeroed_aligned_memory)
{
    static const size_t sizes[] = {0, 1, 63, 64, 1000, 3 << 20, (9 << 20) + 5};
    hw_device *d;
    cr_assert_eq(hw_cpu_device_create(&d, 1, NULL, NULL), HW_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *p;
        cr_assert_eq(d->k->alloc(d, (void **)&p, sizes[i], NULL), HW_OK);
        cr_assert_eq((uintptr_t)p % 64, 0);
        for (size_t k = 0; k < sizes[i]; k++) cr_assert_eq(p[k], 0);
        memset(p, 1, sizes[i]);
        d->k->free(d, p);
    }
    d->k->free(d, NULL);
    hw_device_destroy(d);
}

Test(copy, moves_bytes_within_the_device_and_no_others)
{
    hw_device *d;
    char *p, want[8] = {0, 0, 3, 4, 5, 0, 0, 0}, got[8];
    cr_assert_eq(hw_cpu_device_create(&d, 1, NULL, NULL), HW_OK);
    cr_assert_eq(d->k->alloc(d, (void **)&p, 16, NULL), HW_OK);
    cr_assert_eq(d->k->copy_in(d, p, (const char[]){3, 4, 5}, 3), HW_OK);
    cr_assert_eq(d->k->copy(d, p + 10, p, 3), HW_OK);
    cr_assert_eq(d->k->copy_out(d, got, p + 8, 8), HW_OK);
    cr_assert_arr_eq(got, want, 8);
    d->k->free(d, p);
    hw_device_destroy(d);
}

Test(alloc, says_how_much_there_was_not)
{
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX / 2, (size_t)1 << 60};
    hw_device *d;
    cr_assert_eq(hw_cpu_device_create(&d, 1, NULL, NULL), HW_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        hw_error err = {.rank = -1};
        char number[32];
        void *p = &err;
        cr_assert_eq(d->k->alloc(d, &p, sizes[i], &err), HW_ERR_NO_MEMORY);
        cr_assert_null(p);
        snprintf(number, sizeof number, "%zu", sizes[i]);
        cr_assert(strstr(err.message, number), "%s", err.message);
    }
    hw_device_destroy(d);
}

static void count(void *arg, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++) ((unsigned char *)arg)[i]++; /* items are disjoint */
}

/* Many short jobs in a row, with more threads than this machine may have cores. */
Test(pool, passes_every_item_once)
{
    for (int n_threads = 1; n_threads <= 5; n_threads++) {
        hw_pool *pool;
        unsigned char seen[300];
        cr_assert_eq(hw_pool_create(&pool, n_threads, NULL), HW_OK);
        for (size_t n = 0; n <= 300; n += 7)
            for (size_t grain = 1; grain <= 16; grain += 5) {
                memset(seen, 0, sizeof seen);
                hw_pool_for(pool, n, grain, count, seen);
                for (size_t i = 0; i < 300; i++) cr_assert_eq(seen[i], i < n);
            }
        hw_pool_destroy(pool);
    }
    hw_pool_destroy(NULL);
}

/* After a few milliseconds without work the threads sleep; a job must wake them. */
Test(pool, wakes_sleepers)
{
    hw_pool *pool;
    unsigned char seen[64] = {0};
    cr_assert_eq(hw_pool_create(&pool, 3, NULL), HW_OK);
    for (int i = 1; i <= 5; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        hw_pool_for(pool, 64, 1, count, seen);
        for (int k = 0; k < 64; k++) cr_assert_eq(seen[k], i);
    }
    hw_pool_destroy(pool);
}
