#include "launch/settings/suggest.h"

#include <stdio.h>
#include <string.h>

enum { LONGEST = 96, FAR = 1000 };

static int smaller(int a, int b) { return a < b ? a : b; }

/* How many letters have to be put in, taken out, changed or swapped with their neighbour to make one word of the other;
 * FAR for words of a hundred letters. */
static int distance_of(const char *a, const char *b)
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
    return smaller(distance_of(found, known), 1 + 2 * distance_of(last_word(found), last_word(known)));
}

int hw_suggest(const char *found, const char *const *known, int n)
{
    int least = FAR, best = -1;
    for (int i = 0; i < n; i++) {
        const int d = path_distance(found, known[i]);
        if (d < least) least = d, best = i;
    }
    /* Two slips, or one in a short word. */
    return least <= 1 + (strlen(last_word(found)) > 4) ? best : -1;
}

char *hw_suggest_list(const char *const *known, int n, char *text, size_t size)
{
    size_t length = (size_t)snprintf(text, size, "there are");
    for (int i = 0; i < n && length < size; i++)
        length += (size_t)snprintf(text + length, size - length, "%s %s", i ? "," : "", known[i]);
    return text;
}

char *hw_suggest_hint(const char *found, const char *const *known, int n, char *text, size_t size)
{
    const int best = hw_suggest(found, known, n);
    if (best < 0) return hw_suggest_list(known, n, text, size);
    snprintf(text, size, "did you mean %s?", known[best]);
    return text;
}
