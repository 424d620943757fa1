/* A cost as text: "pass SECONDS..." and "attend SECONDS...", a number for each point measured. Written in hexadecimal, so that the
 * same numbers come back. A text comes from a file that anything may have happened to: it is taken whole or not at all. */
#include "decode/cost.h"

#include <stdlib.h>
#include <string.h>

static bool write_points(lf_bytes *out, const char *name, const double *points, int n)
{
    bool ok = lf_bytes_printf(out, "%s", name);
    for (int i = 0; i < n; i++) ok = ok && lf_bytes_printf(out, " %a", points[i]);
    return ok && lf_bytes_printf(out, "\n");
}

bool lf_cost_write(const lf_cost *c, lf_bytes *out)
{
    return write_points(out, "pass", c->pass, c->n_pass) &&
           write_points(out, "attend", c->attend, c->n_attend);
}

/* Reads the line `name` into points; returns what follows it, or NULL. A day is more than any pass takes. */
static const char *read_points(double points[LF_COST_POINTS], int *n, const char *text, const char *name)
{
    const size_t len = strlen(name);
    if (strncmp(text, name, len) != 0) return NULL;
    text += len;
    for (*n = 0; *n < LF_COST_POINTS && *text == ' '; (*n)++) {
        char *end;
        points[*n] = strtod(text + 1, &end);
        if (end == text + 1 || !(points[*n] >= 0.0 && points[*n] < 86400.0)) return NULL;
        text = end;
    }
    return *n > 0 && *text == '\n' ? text + 1 : NULL;
}

const char *lf_cost_read(lf_cost *out, const char *text)
{
    lf_cost c = {0};
    lf_cost_reset(&c);
    text = read_points(c.pass, &c.n_pass, text, "pass");
    if (text) text = read_points(c.attend, &c.n_attend, text, "attend");
    if (!text || !(c.pass[0] > 0.0)) return NULL;
    *out = c;
    return text;
}
