#include "launch/nearest.h"

#include <stdio.h>
#include <string.h>

#include "launch/config.h"

enum { LONGEST = 96, FAR = 1000 };

static int smaller(int a, int b) { return a < b ? a : b; }

int hw_nearest_distance(const char *a, const char *b)
{
    int rows[3][LONGEST + 1];
    const int n = (int)strlen(a), m = (int)strlen(b);
    if (n > LONGEST || m > LONGEST) return FAR;
    for (int j = 0; j <= m; j++) rows[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = rows[i % 3], *before = rows[(i + 2) % 3], *first = rows[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            now[j] = smaller(before[j - 1] + (a[i - 1] != b[j - 1]), smaller(before[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = smaller(now[j], first[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}

static const char *last_word(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* The way a path is near another one: letters of the whole; or the right word in the wrong section. */
static int path_distance(const char *found, const char *known)
{
    return smaller(hw_nearest_distance(found, known),
                   1 + 2 * hw_nearest_distance(last_word(found), last_word(known)));
}

/* Calls for each section and setting in turn: `path` [LONGEST] gets the i-th of them. */
static int known_path(int i, char *path)
{
    if (i < hw_n_settings) return snprintf(path, LONGEST, "%s", hw_settings[i].path);
    const char *of = hw_settings[i - hw_n_settings].path; /* its section, as often as it has settings */
    return snprintf(path, LONGEST, "%.*s", (int)strcspn(of, "."), of);
}

/* The keys of a section, with commas; each outermost one once. */
static void list_keys(const char *inside, char *text, size_t size)
{
    char last[LONGEST] = "";
    size_t n = (size_t)snprintf(text, size, "there are");
    for (int i = 0; i < hw_n_settings && n < size; i++) {
        const char *path = hw_settings[i].path, *rest = path + strlen(inside);
        char key[LONGEST];
        if (strncmp(path, inside, strlen(inside))) continue;
        snprintf(key, sizeof key, "%.*s", (int)strcspn(rest, ".["), rest);
        if (strcmp(key, last)) n += (size_t)snprintf(text + n, size - n, "%s %s", *last ? "," : "", key);
        snprintf(last, sizeof last, "%s", key);
    }
}

char *hw_nearest_setting(const char *path, const char *inside, char *text, size_t size)
{
    char best[LONGEST] = "", known[LONGEST];
    int least = FAR;
    for (int i = 0; i < 2 * hw_n_settings; i++) {
        known_path(i, known);
        const int d = path_distance(path, known);
        if (d < least) least = d, memcpy(best, known, sizeof best);
    }
    /* Two slips, or one in a short word: beyond that it is a guess. */
    if (least <= 1 + (strlen(last_word(path)) > 4)) snprintf(text, size, "did you mean %s?", best);
    else list_keys(inside, text, size);
    return text;
}

char *hw_nearest_example(const char *section, char *text, size_t size)
{
    const size_t n = strlen(section);
    *text = '\0';
    for (int i = 0; i < hw_n_settings; i++)
        if (!strncmp(hw_settings[i].path, section, n) && hw_settings[i].path[n] == '.') {
            snprintf(text, size, "%s: %s", hw_settings[i].path + n + 1, hw_settings[i].fallback);
            break;
        }
    return text;
}
