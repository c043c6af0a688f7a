/* Configurations: what is written arrives where it belongs, what is wrong is refused where it stands, and
 * configs/reference.yaml holds what the table of settings holds. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/settings/config.h"

#define REFERENCE HW_SOURCE_DIR "/configs/reference.yaml"

#define IS_GIVEN(c, field)                                                                                   \
    hw_setting_is_given(&hw_request_group, &(c)->request, offsetof(hw_request_settings, sampling.field))

static hw_config parse(const char *text)
{
    hw_config c = hw_config_defaults();
    hw_error err = {.rank = -1};
    cr_assert_eq(hw_config_parse(&c, text, strlen(text), "a.yaml", &err), HW_OK, "%s\nin\n%s", err.message,
                 text);
    return c;
}

/* The message begins with the place, and has both words. */
static void refused_bytes(const char *text, size_t n, const char *place, const char *word, const char *other)
{
    hw_config c = hw_config_defaults();
    hw_error err = {.rank = -1};
    char start[64];
    snprintf(start, sizeof start, "a.yaml:%s: ", place);
    cr_expect_eq(hw_config_parse(&c, text, n, "a.yaml", &err), HW_ERR_INVALID, "taken:\n%s", text);
    cr_expect(!strncmp(err.message, start, strlen(start)), "wanted %s, message: %s", start, err.message);
    cr_expect(strstr(err.message, word) && strstr(err.message, other), "'%s' and '%s' are not both in: %s",
              word, other, err.message);
    hw_config_free(&c);
}

static void refused(const char *text, const char *place, const char *word, const char *other)
{
    refused_bytes(text, strlen(text), place, word, other);
}

/* What is wrong, where, and two words of what is said of it. */
typedef struct refusal {
    const char *text, *place, *word, *other;
} refusal;

static void refuse_all(const refusal *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) refused(rows[i].text, rows[i].place, rows[i].word, rows[i].other);
}

/* ---- what is taken */

Test(config, every_kind_of_setting_arrives)
{
    hw_config c =
        parse("model: {path: /m/x, load_format: dummy, dummy_seed: 9007199254740993, dtype: bfloat16,\n"
              "        matmul: bf16x3}\n"
              "parallelism:\n  ranks: 3\n  threads: 5\n"
              "cache: {policy: \n  dynamic, memory: 3M, prefix_sharing: false}\n"
              "sampling:\n  temperature: 0.75\n  top_k: 0\n  stop: [\"\\n\", ' no ']\n"
              "device: {kind: cuda}\n"
              "cluster:\n  launcher: srun\n  hosts:\n  - name: a1\n    slots: 2\n  - name: 10.0.0.7\n"
              "  interface: 10.1.0.0/16\n  oversubscribe: true\n  environment: [A, B=c d]\n");
    cr_expect_str_eq(c.model.folder, "/m/x");
    cr_expect(c.engine.load_format == HW_LOAD_DUMMY && c.engine.options.dummy_seed == 9007199254740993u);
    cr_expect_eq(c.engine.options.dtype, HW_BF16);
    cr_expect_eq(c.engine.options.matmul, HW_MATMUL_BF16X3);
    cr_expect_eq(c.engine.options.n_threads, 5);
    cr_expect_eq(c.engine.options.kv_policy, HW_KV_DYNAMIC);
    cr_expect_eq(c.engine.options.kv_bytes, 3u << 20);
    cr_expect_not(c.engine.options.prefix_sharing);
    cr_expect(IS_GIVEN(&c, temperature) && c.request.sampling.temperature == 0.75f);
    cr_expect(IS_GIVEN(&c, top_k) && !IS_GIVEN(&c, top_p));
    cr_expect_eq(c.request.n_stops, 2);
    cr_expect_str_eq(c.request.stops[0], "\n");
    cr_expect_str_eq(c.request.stops[1], " no ");
    cr_expect_str_eq(c.engine.options.device, "cuda");
    cr_expect(c.cluster.ranks == 3 && c.cluster.launcher == HW_SRUN && c.cluster.n_hosts == 2);
    cr_expect_str_eq(c.cluster.hosts[0].name, "a1");
    cr_expect_eq(c.cluster.hosts[0].slots, 2);
    cr_expect_str_eq(c.cluster.hosts[1].name, "10.0.0.7");
    cr_expect_eq(c.cluster.hosts[1].slots, 1);
    cr_expect_str_eq(c.cluster.interface, "10.1.0.0/16");
    cr_expect_eq(c.cluster.oversubscribe, HW_YES);
    cr_expect_eq(c.cluster.n_environment, 2);
    cr_expect_str_eq(c.cluster.environment[1], "B=c d");
    hw_config_free(&c);
}

Test(config, nothing_or_empty_sections_change_nothing)
{
    static const char *const texts[] = {"", "# a comment\n", "---\n", "model:\ncache:\n  # policy: off\n",
                                        "{}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        hw_config c = parse(texts[i]);
        cr_expect_null(c.model.folder);
        cr_expect_eq(c.engine.options.kv_policy, HW_KV_PAGED);
        cr_expect_eq(c.cluster.n_hosts, 0);
        hw_config_free(&c);
    }
}

Test(config, auto_is_as_if_it_were_not_written)
{
    hw_config c = parse("sampling: {temperature: auto, top_k: auto}\nlimits: {max_seq_len: auto}\n"
                        "cluster: {interface: auto}");
    cr_expect(!IS_GIVEN(&c, temperature) && !IS_GIVEN(&c, top_k) && !c.engine.options.max_seq_len);
    cr_expect_null(c.cluster.interface);
    hw_config_free(&c);
}

Test(config, quotes_make_a_text_of_any_word)
{
    hw_config c = parse("model: {path: \"no\"}\ncluster: {interface: '10'}\nsampling: {stop: ['3', \"~\"]}");
    cr_expect_str_eq(c.model.folder, "no");
    cr_expect_str_eq(c.cluster.interface, "10");
    cr_expect_str_eq(c.request.stops[1], "~");
    hw_config_free(&c);
}

/* ---- what is refused */

Test(config, a_policy_is_known_by_its_former_name)
{
    hw_config c = parse("cache: {policy: growing}\n");
    cr_expect_eq(c.engine.options.kv_policy, HW_KV_DYNAMIC);
    hw_config_free(&c);
}

Test(config, unknown_keys_name_the_nearest)
{
    static const refusal rows[] = {
        {"cache:\n  polcy: paged\n", "2:3", "cache.polcy", "did you mean cache.policy?"},
        {"cache:\n  polciy: paged\n", "2:3", "cache.polciy", "did you mean cache.policy?"},
        {"model: {threads: 3}", "1:9", "model.threads", "did you mean parallelism.threads?"},
        {"\n\nmodle: {}", "3:1", "modle", "did you mean model?"},
        {"cluster:\n  hosts:\n    - {nmae: a}\n", "3:8", "nmae", "did you mean cluster.hosts[].name?"},
        {"cache: {zzzzzzzz: 1}", "1:9", "cache.zzzzzzzz", "there are policy, memory"},
        {"weather: 1", "1:1", "weather", "there are model, parallelism"},
        {"cache.policy: paged", "1:1", "there is no setting cache.policy", ""},
        {"cluster: {'hosts[]': 1}", "1:11", "no setting", ""},
        {"cluster.hosts[]: {name: a}", "1:1", "no setting", ""},
        {"'': 1", "1:1", "no setting", ""},
        {"<<: {model: 1}", "1:1", "no setting", ""},
    };
    refuse_all(rows, sizeof rows / sizeof *rows);
}

Test(config, wrong_types)
{
    static const refusal rows[] = {
        {"parallelism:\n  threads: four", "2:12", "'four'", "1 to 1024 threads"},
        {"parallelism: {threads: 1.0}", "1:24", "'1.0'", "wanted"},
        {"parallelism: {threads: \"4\"}", "1:24", "\"4\"", "leave the quotes out"},
        {"parallelism: {threads: [4]}", "1:24", "a list", "wanted"},
        {"parallelism: {threads: }", "1:24", "empty", "wanted"},
        {"model: {path: {a: b}}", "1:15", "a mapping", "wanted"},
        {"model: {path: 12}", "1:15", "'12'", "quotes"},
        {"model: {path: ''}", "1:15", "\"\"", "text"},
        {"cache: paged", "1:8", "cache has settings below it", "policy: paged"},
        {"cache: [policy]", "1:8", "cache has settings below it", ""},
        {"[1, 2]", "1:1", "wanted sections", "model:"},
        {"cache: {policy: ring}", "1:17", "'ring'", "paged, dynamic, contiguous or off"},
        {"cache: {memory: 12X}", "1:17", "'12X'", "1024M"},
        {"sampling: {stop: word}", "1:18", "'word'", "a list"},
        {"sampling: {stop: [a, [b]]}", "1:22", "a list", "texts"},
        {"cluster: {hosts: a}", "1:18", "'a'", "a list of 1 to"},
        {"cluster: {hosts: []}", "1:18", "an empty list", "a list of 1 to"},
        {"cluster: {hosts: [a]}", "1:19", "each as", "{name: node1, slots: 4}"},
        {"cluster: {environment: [\"1A\"]}", "1:25", "\"1A\"", "NAME=VALUE"},
    };
    refuse_all(rows, sizeof rows / sizeof *rows);
}

Test(config, numbers_that_readers_of_yaml_disagree_about)
{
    static const char *const numbers[] = {"010", "0x10", "0o7", "1_0", "1:30", "+4", "1e1", "4 ", " 04"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char text[64];
        snprintf(text, sizeof text, "parallelism: {threads: \"%s\"}", numbers[i]);
        refused(text, "1:24", "threads", "wanted");
        if (strchr(numbers[i], ' ')) continue;
        snprintf(text, sizeof text, "parallelism:\n  threads: %s", numbers[i]);
        refused(text, "2:12", "threads", "wanted");
    }
    refused("sampling: {temperature: .inf}", "1:25", "temperature", "wanted");
    refused("sampling: {temperature: .nan}", "1:25", "temperature", "wanted");
    refused("sampling: {temperature: 0x1p3}", "1:25", "temperature", "wanted");
}

Test(config, values_outside_their_range)
{
    static const refusal rows[] = {
        {"parallelism: {threads: 0}", "1:24", "'0'", "1 to 1024"},
        {"parallelism: {threads: 1025}", "1:24", "'1025'", "1 to 1024"},
        {"parallelism: {threads: -1}", "1:24", "'-1'", "1 to 1024"},
        {"parallelism: {threads: 99999999999999999999}", "1:24", "threads", "1 to 1024"},
        {"sampling: {top_p: 0}", "1:19", "'0'", "1e-06 to 1"},
        {"sampling: {top_p: 1.01}", "1:19", "'1.01'", "1e-06 to 1"},
        {"model: {dummy_seed: -1}", "1:21", "'-1'", "from 0 on"},
        {"model: {dummy_seed: 9223372036854775808}", "1:21", "seed", "from 0 on"},
        {"sampling: {seed: -9223372036854775809}", "1:18", "seed", "a whole number"},
        {"sampling: {temperature: 1e-60}", "1:25", "'1e-60'", "wanted"},
        {"cache: {memory: 0}", "1:17", "'0'", "bytes"},
        {"cache: {memory: 99999999999T}", "1:17", "memory", "bytes"},
        {"sampling: {stop: [a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,b]}", "1:51", "stop", "more than 16"},
    };
    refuse_all(rows, sizeof rows / sizeof *rows);
}

Test(config, truth_values_in_odd_places)
{
    static const char *const words[] = {"yes", "no", "on", "off", "True", "FALSE", "y", "N"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char text[64];
        snprintf(text, sizeof text, "cache: {prefix_sharing: %s}", words[i]);
        refused(text, "1:25", words[i], "wanted true or false");
        snprintf(text, sizeof text, "model: {path: %s}", words[i]);
        refused(text, "1:15", words[i], "put it in quotes");
        snprintf(text, sizeof text, "parallelism: {threads: %s}", words[i]);
        refused(text, "1:24", words[i], "1 to 1024");
        snprintf(text, sizeof text, "cluster: {hosts: [{name: %s}]}", words[i]);
        refused(text, "1:26", words[i], "put it in quotes");
    }
    /* The policy "off" is a word of the list and needs no quotes. */
    hw_config c = parse("cache: {policy: off}");
    cr_expect_eq(c.engine.options.kv_policy, HW_KV_OFF);
    hw_config_free(&c);
}

Test(config, the_same_twice)
{
    static const refusal rows[] = {
        {"cache:\n  policy: off\n  policy: paged\n", "3:3", "duplicate key \"policy\"", "line 2"},
        {"model: {}\ncache: {}\n'model': {}\n", "3:1", "duplicate key \"model\"", "line 1"},
        {"cluster: {hosts: [{name: a}, {name: b}, {name: a}]}", "1:41", "\"a\"", "duplicate"},
        {"--- {model: {}}\n--- {model: {}}\n", "2:1", "second document", ""},
    };
    refuse_all(rows, sizeof rows / sizeof *rows);
}

Test(config, host_names_that_are_options_or_lists)
{
    static const refusal rows[] = {
        {"cluster: {hosts: [{name: '-x'}]}", "1:19", "\"-x\"", "host name"},
        {"cluster: {hosts: [{name: 'a,b'}]}", "1:19", "\"a,b\"", "host name"},
        {"cluster: {hosts: [{name: 'a b'}]}", "1:19", "\"a b\"", "host name"},
    };
    refuse_all(rows, sizeof rows / sizeof *rows);
}

Test(config, aliases_anchors_and_tags)
{
    static const refusal rows[] = {
        {"model: &a {path: x}\n", "1:8", "anchors", "write the value out"},
        {"model: *a\n", "1:8", "aliases", "write the value out"},
        {"model: {path: !!str x}", "1:15", "tags", ""},
        {"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n", "1:4", "anchors", ""},
        {"model: {path: &a [x,x]}\ncache: &b [*a,*a]\n", "1:15", "anchors", ""},
    };
    refuse_all(rows, sizeof rows / sizeof *rows);
}

Test(config, too_deep_and_too_large)
{
    char deep[64];
    memset(deep, '[', sizeof deep);
    refused_bytes(deep, sizeof deep, "1:18", "more than 16 deep", "");
    char *large = malloc(HW_YAML_MAX_BYTES + 1);
    cr_assert_not_null(large);
    memset(large, ' ', HW_YAML_MAX_BYTES + 1);
    refused_bytes(large, HW_YAML_MAX_BYTES + 1, "1:1", "262145 bytes", "262144");
    free(large);
}

Test(config, bytes_that_are_no_text)
{
    refused("model:\n  path: \"\xc3\xa4\xff\"\n", "2:11", "not UTF-8", "0xff");
    refused("model:\n  path: \xc0\xaf\n", "2:9", "not UTF-8", "");
    refused("# \xed\xa0\x80\n", "1:3", "not UTF-8", "");
    refused("model: {path: \"\x01\"}", "1:16", "not UTF-8", "control");
    refused("\xff\xfem\0o\0", "1:1", "not UTF-8", "");
    refused_bytes("model: \0", 8, "1:8", "not UTF-8", "control");
    refused("model: {path: \"a\\0b\"}", "1:15", "zero byte", "");
}

Test(config, text_that_is_no_yaml)
{
    static const refusal rows[] = {
        {"model: {path: x", "2:1", "not YAML", ""},
        {"model:\n\tpath: x", "2:1", "not YAML", ""},
        {"model: \"x", "1:10", "not YAML", ""},
        {"? [a]\n: 1\n", "1:3", "a key must be a word", ""},
        {"{a: 1}: 1\n", "1:1", "a key must be a word", ""},
    };
    refuse_all(rows, sizeof rows / sizeof *rows);
}

/* ---- files */

Test(config, files_that_cannot_be_read)
{
    char *text;
    size_t n;
    hw_error err;
    cr_expect_eq(hw_config_read(&text, &n, "/nowhere/a.yaml", &err), HW_ERR_INVALID);
    cr_expect(strstr(err.message, "/nowhere/a.yaml: No such file"), "%s", err.message);
    cr_expect_eq(hw_config_read(&text, &n, "/tmp", &err), HW_ERR_INVALID);
    cr_expect(strstr(err.message, "/tmp: not a file"), "%s", err.message);
    cr_expect_eq(hw_config_read(&text, &n, "/dev/zero", &err), HW_ERR_INVALID);
    cr_expect_null(text);
}

/* ---- configs/reference.yaml */

static char *read_reference(size_t *n)
{
    char *text = NULL;
    hw_error err;
    cr_assert_eq(hw_config_read(&text, n, REFERENCE, &err), HW_OK, "%s", err.message);
    return text;
}

enum { MOST = 128 };

/* The index of a setting among those that a file can have; -1: there is none of this path. */
static int find(const char *path)
{
    const hw_setting_group *g;
    const hw_setting *s;
    for (int i = 0; (s = hw_config_setting(i, &g)); i++)
        if (!strcmp(s->path, path)) return i;
    return -1;
}

static void visit(int *count, const hw_yaml_node *n, const char *inside);

/* The setting that a node of the reference stands for has its default there, and is counted. */
static void visit_entry(int *count, const hw_yaml_node *n, const char *inside)
{
    const hw_setting_group *g;
    char path[128];
    snprintf(path, sizeof path, "%s%s", inside, n->key);
    const int i = find(path);
    const hw_setting *s = i < 0 ? NULL : hw_config_setting(i, &g);
    if (s) count[i]++;
    if (s && (s->type == HW_SETTING_TEXTS || s->type == HW_SETTING_VARIABLES))
        cr_expect(n->kind == HW_YAML_SEQUENCE && !n->first && !strcmp(s->fallback, "[]"), "%s", path);
    else if (s && n->kind == HW_YAML_SCALAR) cr_expect_str_eq(n->text, s->fallback, "%s", path);
    strcat(path, n->kind == HW_YAML_SEQUENCE ? "[]." : ".");
    visit(count, n->kind == HW_YAML_SEQUENCE && n->first ? n->first : n, path);
}

static void visit(int *count, const hw_yaml_node *n, const char *inside)
{
    for (const hw_yaml_node *c = n->first; c; c = c->next) visit_entry(count, c, inside);
}

Test(config, the_reference_has_every_setting_once_with_its_default)
{
    size_t n;
    char *text = read_reference(&n);
    hw_yaml *y = NULL;
    hw_error err;
    int count[MOST] = {0};
    const hw_setting_group *g;
    const hw_setting *s;
    cr_assert_eq(hw_yaml_parse(&y, text, n, "reference.yaml", &err), HW_OK, "%s", err.message);
    visit(count, hw_yaml_root(y), "");
    for (int i = 0; (s = hw_config_setting(i, &g)) && i < MOST; i++)
        cr_expect_eq(count[i], 1, "%s is in configs/reference.yaml %d times", s->path, count[i]);
    hw_yaml_close(y);
    free(text);
}

/* As the reference has what the table calls a default, so also: defaults are what the program has without a file. */
Test(config, the_reference_changes_nothing)
{
    static const hw_setting_group *const groups[] = {&hw_model_group, &hw_engine_group, &hw_request_group,
                                                     &hw_cluster_group};
    size_t n;
    char *text = read_reference(&n);
    hw_config fresh = hw_config_defaults(), c = hw_config_defaults();
    hw_error err;
    cr_assert_eq(hw_config_parse(&c, text, n, "reference.yaml", &err), HW_OK, "%s", err.message);
    cr_expect(c.cluster.n_hosts == 1 && c.cluster.hosts[0].slots == 1);
    cr_expect_str_eq(c.cluster.hosts[0].name, "localhost");
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < groups[k]->n; i++) {
            const hw_setting *s = &groups[k]->rows[i];
            const char *was = (const char *)hw_config_values(&fresh, groups[k]) + s->offset,
                       *is = (const char *)hw_config_values(&c, groups[k]) + s->offset;
            const bool is_pointer = s->type <= HW_SETTING_WORD;
            const char *a = is_pointer ? *(const char *const *)(const void *)was : NULL,
                       *b = is_pointer ? *(const char *const *)(const void *)is : NULL;
            if (is_pointer) cr_expect(a == b || (a && b && !strcmp(a, b)), "%s", s->path);
            else if (s->type != HW_SETTING_HOSTS)
                cr_expect_arr_eq(was, is, s->type == HW_SETTING_FLAG ? sizeof(bool) : sizeof(int), "%s",
                                 s->path);
        }
    hw_config_free(&c);
    free(text);
}

/* Looks at the file as text: behind each setting stands what may be written there, and above it a sentence. */
Test(config, the_reference_tells_unit_range_and_meaning)
{
    size_t n;
    char *text = read_reference(&n), last[160] = "", section[64] = "";
    text[n < HW_YAML_MAX_BYTES ? n : HW_YAML_MAX_BYTES] = '\0';
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        const char *key = line + strspn(line, " -");
        const hw_setting_group *g;
        const int length = (int)strcspn(key, ":");
        if (key == line && *key != '#') snprintf(section, sizeof section, "%.*s", length, key);
        else if (*key != '#') {
            char path[160], wanted[200];
            snprintf(path, sizeof path, "%s%s.%.*s", section, key - line > 2 ? ".hosts[]" : "", length, key);
            cr_assert_geq(find(path), 0, "there is no setting %s", path);
            hw_setting_wanted(hw_config_setting(find(path), &g), HW_WORD_PLAIN, wanted, sizeof wanted);
            const char *comment = strstr(key, " # ");
            cr_expect(comment && !strcmp(comment + 3, wanted), "%s: wanted the comment \"%s\"", line, wanted);
            cr_expect(strchr(last, '#') && strchr(last, '.'), "no sentence above %s", line);
        }
        snprintf(last, sizeof last, "%s", line);
    }
    free(text);
}
