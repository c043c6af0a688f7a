/* hw_config_parse on any bytes. Beyond not crashing: what is refused is refused at a place in the text, and
 * what is taken is within its range. */
#include <string.h>

#include "launch/settings/config.h"
#include "tests/fuzz/fuzz.h"

/* "a.yaml:line:column: ", with a line that the text has. */
static void check_place(const char *message, const uint8_t *data, size_t n_bytes)
{
    int line = 0, column = 0, n = 0;
    size_t n_lines = 2; /* the end of a text without a newline is after its last line */
    HW_FUZZ_CHECK(sscanf(message, "a.yaml:%d:%d: %n", &line, &column, &n) == 2 && n);
    for (size_t i = 0; i < n_bytes; i++) n_lines += data[i] == '\n' || data[i] == '\r' || data[i] >= 0x80;
    HW_FUZZ_CHECK(line >= 1 && (size_t)line <= n_lines);
    HW_FUZZ_CHECK(column >= 1 && (size_t)column <= n_bytes + 1);
}

static void check_settings(hw_config *c)
{
    const hw_setting_group *g;
    const hw_setting *s;
    for (int i = 0; (s = hw_config_setting(i, &g)); i++) {
        const char *values = hw_config_values(c, g);
        if (!values || s->type != HW_SETTING_WHOLE) continue;
        const int value = *(const int *)(const void *)(values + s->offset);
        /* 0 is what auto leaves. */
        HW_FUZZ_CHECK((!strcmp(s->fallback, "auto") && !value) || (value >= s->min && value <= s->max));
    }
    HW_FUZZ_CHECK(c->request.n_stops >= 0 && c->request.n_stops <= HW_MAX_STOPS);
    HW_FUZZ_CHECK(c->cluster.n_hosts >= 0 && c->cluster.n_hosts <= HW_MAX_HOSTS);
    for (int i = 0; i < c->cluster.n_hosts; i++)
        HW_FUZZ_CHECK(c->cluster.hosts[i].slots >= 1 && *c->cluster.hosts[i].name &&
                      *c->cluster.hosts[i].name != '-' && !strpbrk(c->cluster.hosts[i].name, ", :'\n"));
    for (int i = 0; i < c->cluster.n_environment; i++)
        HW_FUZZ_CHECK(!strchr("-=0123456789", *c->cluster.environment[i]));
}

/* What launch makes of it. */
static void compose(const hw_config *c)
{
    char *const args[] = {(char[]){"generate"}};
    const hw_here here = {"here", "/bin/headway", "/c.yaml", 4, false};
    hw_command_line line;
    hw_error err = {.rank = -1};
    hw_status st = hw_cluster_command(&line, &c->cluster, &here, c->engine.options.n_threads, args, 1, &err);
    HW_FUZZ_CHECK(st == HW_OK || st == HW_ERR_INVALID);
    if (st) check_message(&err);
    else HW_FUZZ_CHECK(line.n > 3 && !line.words[line.n] && !strcmp(line.words[line.n - 1], "/c.yaml"));
    hw_command_line_free(&line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    hw_config c = hw_config_defaults();
    hw_error err = {.rank = -1};
    hw_status st = hw_config_parse(&c, (const char *)data, n_bytes, "a.yaml", &err);
    HW_FUZZ_CHECK(st == HW_OK || st == HW_ERR_INVALID);
    if (st) {
        check_message(&err);
        check_place(err.message, data, n_bytes);
    } else {
        check_settings(&c);
        compose(&c);
    }
    hw_config_free(&c);
    return 0;
}
