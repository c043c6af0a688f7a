#include "launch/settings/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch/settings/suggest.h"

enum { LONGEST_PATH = 96 };

/* ---- which settings there are */

static const struct {
    const hw_setting_group *group;
    size_t offset; /* in hw_config; of hosts: in hw_host */
} parts[] = {{&hw_model_group, offsetof(hw_config, model)},
             {&hw_engine_group, offsetof(hw_config, engine)},
             {&hw_request_group, offsetof(hw_config, request)},
             {&hw_cluster_group, offsetof(hw_config, cluster)},
             {&hw_host_group, 0}};
enum { N_PARTS = sizeof parts / sizeof *parts };

void *hw_config_values(hw_config *c, const hw_setting_group *g)
{
    for (int i = 0; i < N_PARTS; i++)
        if (parts[i].group == g && g != &hw_host_group) return (char *)c + parts[i].offset;
    return NULL;
}

const hw_setting *hw_config_setting(int i, const hw_setting_group **g)
{
    for (int p = 0; p < N_PARTS; p++) {
        *g = parts[p].group;
        for (int row = 0; row < (*g)->n; row++)
            if ((*g)->rows[row].path && !i--) return &(*g)->rows[row];
    }
    return NULL;
}

hw_config hw_config_defaults(void)
{
    hw_config c;
    memset(&c, 0, sizeof c);
    for (int p = 0; p < N_PARTS; p++)
        if (parts[p].group != &hw_host_group)
            hw_settings_defaults(parts[p].group, (char *)&c + parts[p].offset);
    return c;
}

/* Where a value goes, and what to call the file. */
typedef struct place {
    const hw_yaml *y;
    hw_config *config;
    hw_host *host;      /* the one that is being read; else NULL */
    const char *inside; /* what comes before the keys: "", "cache.", "cluster.hosts[]." */
    hw_error *err;
} place;

static void *values_at(const place *p, const hw_setting_group *g)
{
    return g == &hw_host_group ? (void *)p->host : hw_config_values(p->config, g);
}

/* ---- values */

static hw_word_kind kind_of(const hw_yaml_node *n) { return n->plain ? HW_WORD_PLAIN : HW_WORD_QUOTED; }

static hw_status refuse_value(const place *p, const hw_setting_group *g, const hw_setting *s,
                              const hw_yaml_node *n)
{
    char where[4200];
    const char *found = n->kind == HW_YAML_MAPPING ? "a mapping" : n->first ? "a list" : "an empty list";
    snprintf(where, sizeof where, "%s:%d:%d: ", hw_yaml_name(p->y), n->line, n->column);
    return hw_setting_refuse(s, values_at(p, g), where, s->path, n->kind == HW_YAML_SCALAR ? n->text : NULL,
                             kind_of(n), found, p->err);
}

static hw_status read_word(const place *p, const hw_setting_group *g, const hw_setting *s,
                           const hw_yaml_node *n)
{
    const bool taken =
        n->kind == HW_YAML_SCALAR && hw_setting_take(g, s, values_at(p, g), n->text, kind_of(n));
    return taken ? HW_OK : refuse_value(p, g, s, n);
}

static hw_status read_texts(const place *p, const hw_setting_group *g, const hw_setting *s,
                            const hw_yaml_node *n)
{
    hw_status st = n->kind == HW_YAML_SEQUENCE ? HW_OK : refuse_value(p, g, s, n);
    for (const hw_yaml_node *c = n->first; c && !st; c = c->next) st = read_word(p, g, s, c);
    return st;
}

static hw_status read_mapping(const place *p, const hw_yaml_node *n);

static hw_status check_host(const place *p, const hw_yaml_node *n)
{
    const hw_cluster *cluster = &p->config->cluster;
    const char *name = p->host->name;
    /* A comma would be another host to mpirun, a dash in front an option. */
    if (name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")] ||
        *name == '-')
        return hw_fail(p->err, HW_ERR_INVALID,
                       "%s:%d:%d: \"%.60s\" is no host name: wanted letters, digits, dots and dashes",
                       hw_yaml_name(p->y), n->line, n->column, name);
    for (const hw_host *h = cluster->hosts; h < p->host; h++)
        if (!strcmp(h->name, name))
            return hw_fail(p->err, HW_ERR_INVALID,
                           "%s:%d:%d: duplicate host \"%.60s\"; give it more slots instead",
                           hw_yaml_name(p->y), n->line, n->column, name);
    return HW_OK;
}

static hw_status read_hosts(const place *p, const hw_setting *s, const hw_yaml_node *n)
{
    hw_cluster *cluster = &p->config->cluster;
    hw_status st = HW_OK;
    if (n->kind != HW_YAML_SEQUENCE || !n->first) return refuse_value(p, &hw_cluster_group, s, n);
    for (const hw_yaml_node *c = n->first; c && !st; c = c->next) {
        if (cluster->n_hosts >= (int)s->max || c->kind != HW_YAML_MAPPING)
            return hw_fail(p->err, HW_ERR_INVALID,
                           "%s:%d:%d: %s: wanted at most %d hosts, each as \"- {name: node1, slots: 4}\"",
                           hw_yaml_name(p->y), c->line, c->column, s->path, (int)s->max);
        const place host = {p->y, p->config, &cluster->hosts[cluster->n_hosts++], "cluster.hosts[].", p->err};
        hw_settings_defaults(&hw_host_group, host.host);
        st = read_mapping(&host, c);
        if (!st) st = check_host(&host, c);
    }
    return st;
}

static hw_status read_value(const place *p, const hw_setting_group *g, const hw_setting *s,
                            const hw_yaml_node *n)
{
    switch (s->type) {
    case HW_SETTING_TEXTS:
    case HW_SETTING_VARIABLES: return read_texts(p, g, s, n);
    case HW_SETTING_HOSTS: return read_hosts(p, s, n);
    default: return read_word(p, g, s, n);
    }
}

/* ---- keys */

/* The first setting of a section; NULL: there is no such section. */
static const hw_setting *first_of(const char *section)
{
    const hw_setting_group *g;
    const hw_setting *s;
    const size_t n = strlen(section);
    for (int i = 0; (s = hw_config_setting(i, &g)); i++)
        if (!strncmp(s->path, section, n) && s->path[n] == '.') return s;
    return NULL;
}

enum { MOST = 128 }; /* settings, and keys of a section */

/* The keys that there are in `inside`, each once, in `text`; how many. */
static int list_keys(const char *inside, char text[MOST][LONGEST_PATH], const char *keys[MOST])
{
    const hw_setting_group *g;
    const hw_setting *s;
    const size_t length = strlen(inside);
    int n = 0;
    for (int i = 0; (s = hw_config_setting(i, &g)) && n < MOST; i++) {
        bool new = !strncmp(s->path, inside, length);
        if (new)
            snprintf(text[n], LONGEST_PATH, "%.*s", (int)strcspn(s->path + length, ".["), s->path + length);
        for (int k = 0; k < n && new; k++) new = strcmp(keys[k], text[n]) != 0;
        if (new) keys[n] = text[n], n++;
    }
    return n;
}

/* Names a setting or section that may have been meant, else the keys that there are. */
static hw_status no_such_setting(const place *p, const hw_yaml_node *n, const char *path)
{
    char text[MOST][LONGEST_PATH], hint[400];
    const char *known[2 * MOST];
    const hw_setting_group *g;
    const hw_setting *s;
    int n_known = list_keys("", text, known);
    for (int i = 0; (s = hw_config_setting(i, &g)) && n_known < 2 * MOST; i++) known[n_known++] = s->path;
    const int best = hw_suggest(path, known, n_known);
    if (best >= 0) snprintf(hint, sizeof hint, "did you mean %s?", known[best]);
    else hw_suggest_list(known, list_keys(p->inside, text, known), hint, sizeof hint);
    return hw_fail(p->err, HW_ERR_INVALID, "%s:%d:%d: there is no setting %s; %s", hw_yaml_name(p->y),
                   n->key_line, n->key_column, path, hint);
}

static hw_status read_entry(const place *p, const hw_yaml_node *n)
{
    char path[LONGEST_PATH];
    const hw_setting_group *g;
    const hw_setting *s, *example;
    /* No key is that long; a longer one is cut and then not known. */
    snprintf(path, sizeof path, "%s%.60s", p->inside, n->key);
    const bool one_word = !strpbrk(n->key, ".[");
    for (int i = 0; one_word && (s = hw_config_setting(i, &g)); i++)
        if (!strcmp(s->path, path)) return read_value(p, g, s, n);
    if (!one_word || !(example = first_of(path))) return no_such_setting(p, n, path);
    /* All its settings are comments. */
    if (n->kind == HW_YAML_SCALAR && n->plain && hw_yaml_is_null(n->text)) return HW_OK;
    if (n->kind != HW_YAML_MAPPING)
        return hw_fail(p->err, HW_ERR_INVALID, "%s:%d:%d: %s has settings below it, as in \"%s: {%s: %s}\"",
                       hw_yaml_name(p->y), n->line, n->column, path, path, example->path + strlen(path) + 1,
                       example->fallback);
    strcat(path, ".");
    const place inside = {p->y, p->config, p->host, path, p->err};
    return read_mapping(&inside, n);
}

static hw_status read_mapping(const place *p, const hw_yaml_node *n)
{
    hw_status st = HW_OK;
    for (const hw_yaml_node *c = n->first; c && !st; c = c->next) st = read_entry(p, c);
    return st;
}

/* ---- the whole */

hw_status hw_config_parse(hw_config *c, const char *text, size_t n_bytes, const char *name, hw_error *err)
{
    hw_status st = hw_yaml_parse(&c->document, text, n_bytes, name, err);
    if (st) return st;
    const hw_yaml_node *root = hw_yaml_root(c->document);
    const place top = {c->document, c, NULL, "", err};
    if (!root) return HW_OK;
    if (root->kind != HW_YAML_MAPPING)
        return hw_fail(err, HW_ERR_INVALID, "%s:%d:%d: wanted sections with settings, as in \"model:\"", name,
                       root->line, root->column);
    return read_mapping(&top, root);
}

void hw_config_free(hw_config *c)
{
    hw_yaml_close(c->document);
    c->document = NULL;
}

/* ---- files */

static hw_status read_all(char *text, size_t *n_bytes, int fd, const char *path, hw_error *err)
{
    ssize_t got = 1;
    *n_bytes = 0;
    while (got && *n_bytes <= HW_YAML_MAX_BYTES) {
        got = read(fd, text + *n_bytes, HW_YAML_MAX_BYTES + 1 - *n_bytes);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return hw_fail(err, HW_ERR_INVALID, "configuration %s: cannot read: %s", path, strerror(errno));
        *n_bytes += (size_t)got;
    }
    return HW_OK;
}

hw_status hw_config_read(char **text, size_t *n_bytes, const char *path, hw_error *err)
{
    struct stat info;
    *text = NULL;
    *n_bytes = 0;
    /* Not waiting for the other end of a pipe that somebody named. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return hw_fail(err, HW_ERR_INVALID, "configuration %s: %s", path, strerror(errno));
    hw_status st = HW_OK;
    if (fstat(fd, &info) || !S_ISREG(info.st_mode))
        st = hw_fail(err, HW_ERR_INVALID, "configuration %s: not a file; wanted a YAML file", path);
    /* One byte more than is allowed: the parser then says that it is too many. */
    if (!st && !(*text = malloc(HW_YAML_MAX_BYTES + 1)))
        st = hw_fail(err, HW_ERR_NO_MEMORY, "configuration %s: no memory", path);
    if (!st) st = read_all(*text, n_bytes, fd, path, err);
    close(fd);
    if (!st) return HW_OK;
    free(*text);
    *text = NULL;
    return st;
}
