/* weights: scatter. The model is on rank 0's host alone, and every rank gets its part from there. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/net/hosts.h"

#define COPY  "mkdir model && cp " TALES "/* model && "
#define ALONE "! $HW_NET_AGENT node2 ls $HW_NET/here/model 2>/dev/null || exit 1"
static const hosts scattered = {
    .n_hosts = 2, .slots = 2, .model = "HERE/model", .weights = "scatter", .before = COPY ALONE};

/* The bytes of a file that rank 0 wrote into /tmp, which hosts share. */
static char *logits_of(hosts where)
{
    enum { N = 128 + 7 * 1279 * 4 }; /* numpy's header, and a row of the vocabulary for each token */
    char path[] = "/tmp/headway-logits-XXXXXX", *bytes = malloc(N + 1);
    const int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    hosts_result r = ON_HOSTS(where, "logits", "--tokens", "5,300,17,1200,4,9,88", "-o", path);
    cr_assert_eq(r.run.exit_code, 0, "%s", r.run.err);
    hw_run_free(&r.run);
    cr_assert_eq(read(fd, bytes, N + 1), N);
    close(fd);
    unlink(path);
    return bytes;
}

Test(scatter, gives_the_bits_that_reading_from_a_path_gives)
{
    const hosts from_path = {.n_hosts = 2, .slots = 2, .model = TALES};
    char *sent = logits_of(scattered), *read = logits_of(from_path);
    cr_expect(!memcmp(sent, read, 128 + 7 * 1279 * 4));
    free(sent), free(read);
}

static json_t *report_of(hw_run_result *r)
{
    cr_assert_eq(r->exit_code, 0, "%s", r->err);
    json_t *report = json_loads(r->out, 0, NULL);
    cr_assert_not_null(report, "%s", r->out);
    hw_run_free(r);
    return report;
}

static json_int_t get(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    cr_assert(json_is_integer(value), "no %s", key);
    return json_integer_value(value);
}

/* What the plan says without opening the weights, what rank 0 counts, and what crosses the network: three
 * of four parts of about 1.6 MB, two of them to the other host. */
Test(scatter, sends_what_is_planned)
{
    hw_run_result planning = hw_run((const char *const[]){HEADWAY, "plan", "-m", TALES, "--ranks", "4",
                                                          "--weights", "scatter", "--json", NULL},
                                    NULL, HOSTS_TIMEOUT_S);
    json_t *plan = report_of(&planning);
    const json_int_t planned = get(json_array_get(json_object_get(plan, "plans"), 0), "load_sent_bytes");
    hosts_result r = ON_HOSTS(scattered, "generate", "-p", "Once upon a time", "-n", "4", "--json");
    json_t *report = report_of(&r.run), *load = json_object_get(report, "load");
    cr_expect_str_eq(json_string_value(json_object_get(report, "text")), " there was a brave");
    cr_expect_eq(get(load, "bytes_sent"), planned);
    cr_expect_gt(planned, 4500000);
    const json_t *read = json_object_get(load, "bytes_read");
    for (size_t i = 1; i < 4; i++) cr_expect_eq(json_integer_value(json_array_get(read, i)), 0);
    cr_expect_gt((double)r.sent_bytes, 0.6 * (double)planned);
    cr_expect_lt((double)r.sent_bytes, 0.8 * (double)planned);
    json_decref(plan), json_decref(report);
}

static void fails_with(hosts where, int exit_code, const char *word)
{
    hosts_result r = ON_HOSTS(where, "generate", "-p", "Once upon a time", "-n", "4");
    cr_expect_eq(r.run.exit_code, exit_code, "exit code %d: %s", r.run.exit_code, r.run.err);
    const char *said = strstr(r.run.err, "headway: ");
    cr_assert(said && strstr(said, word), "'%s' is not in: %s", word, r.run.err);
    cr_expect_null(strstr(said + 1, "headway: "), "more than one message: %s", r.run.err);
    cr_expect_str_eq(r.run.out, "");
    hw_run_free(&r.run);
}

Test(scatter, what_is_wrong_with_the_model_is_told_by_rank_0)
{
    hosts where = scattered;
    where.before = COPY "rm model/config.json";
    fails_with(where, 3, "model/config.json");
    where.before = "true";
    fails_with(where, 3, "wanted the path of a downloaded Hugging Face model folder");
    where.before = COPY "truncate -s 3000000 model/model.safetensors";
    fails_with(where, 3, "truncated");
    where.weights = NULL;
    where.before = COPY ALONE;
    fails_with(where, 3, "No such file or directory");
}
