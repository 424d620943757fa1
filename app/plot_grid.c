/* lookfar plot of results of `bench magicdec`: the speed-up of every cell as a heat map over batch and context, one map for `auto` (or the
 * best there is) and one for the published method; acceptance over the budget, and tokens per pass over the number of candidates, by
 * selection. A cell that was measured again counts as it was measured last. */
#include "plot.h"

#include "base/mem.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES_MAX = 64, SERIES_MAX = 16, SERIES_NAME_MAX = 48 };

/* A setting in a cell. */
typedef struct record {
    char series[SERIES_NAME_MAX]; /* proposer, selection, and how it drafts, as far as it has them */
    char proposer[SERIES_NAME_MAX];
    bool selects; /* has a selection */
    int batch, context, budget, g;
    double speedup, acceptance, tokens_per_pass;
} record;

typedef struct grid {
    record *records; /* (n), room for cap */
    size_t n, cap;
} grid;

/* Distinct numbers, ascending. */
typedef struct numbers {
    int n, v[VALUES_MAX];
} numbers;

/* ---- reading ---- */

bool plot_is_result(const json_t *object)
{
    return json_object_get(object, "speedup") && json_object_get(object, "context") &&
           json_object_get(object, "proposer");
}

static double number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static int int_of(const json_t *object, const char *key)
{
    return (int)json_integer_value(json_object_get(object, key));
}

static bool same_setting(const record *a, const record *b)
{
    return a->batch == b->batch && a->context == b->context && a->budget == b->budget && a->g == b->g &&
           strcmp(a->series, b->series) == 0;
}

/* Adds a result, or replaces the one of the same setting; false without memory. Another engine's has no place in the picture. */
static bool add_record(void *cookie, const json_t *object)
{
    grid *m = cookie;
    const char *engine = json_string_value(json_object_get(object, "engine")),
               *proposer = json_string_value(json_object_get(object, "proposer")),
               *selection = json_string_value(json_object_get(object, "selection")),
               *drafting = json_string_value(json_object_get(object, "drafting"));
    const bool iterates = drafting && strcmp(drafting, "jacobi") == 0;
    if (!plot_is_result(object) || !proposer || (engine && strcmp(engine, "lookfar") != 0)) return true;
    record r = {.selects = selection != NULL,
                .batch = int_of(object, "batch"),
                .context = int_of(object, "context"),
                .budget = int_of(object, "budget"),
                .g = int_of(object, "g"),
                .speedup = number_of(object, "speedup"),
                .acceptance = number_of(object, "acceptance"),
                .tokens_per_pass = number_of(object, "tokens_per_pass")};
    (void)snprintf(r.proposer, sizeof r.proposer, "%s", proposer);
    (void)snprintf(r.series, sizeof r.series, "%.19s%s%.19s%s", proposer, selection ? " " : "",
                   selection ? selection : "", iterates ? " jacobi" : "");
    for (char *at = r.series; *at; at++)
        if (*at == '\'' || *at == '"' || *at == '\n') *at = ' '; /* it is quoted */
    for (size_t i = 0; i < m->n; i++)
        if (same_setting(&m->records[i], &r)) {
            m->records[i] = r;
            return true;
        }
    if (m->n == m->cap) {
        const size_t cap = m->cap ? 2 * m->cap : 256;
        record *records = realloc(m->records, cap * sizeof *records);
        if (!records) return false;
        m->records = records;
        m->cap = cap;
    }
    m->records[m->n++] = r;
    return true;
}

/* ---- what there is ---- */

static void add_number(numbers *s, int value)
{
    int i = s->n;
    for (int j = 0; j < s->n; j++)
        if (s->v[j] == value) return;
    if (s->n == VALUES_MAX) return;
    for (; i > 0 && s->v[i - 1] > value; i--) s->v[i] = s->v[i - 1];
    s->v[i] = value;
    s->n++;
}

static int middle_of(const numbers *s)
{
    return s->n > 0 ? s->v[s->n / 2] : 0;
}

/* Of the records with candidates and a budget. */
static void collect(const grid *m, numbers *budgets, numbers *gs)
{
    for (size_t i = 0; i < m->n; i++) {
        const record *r = &m->records[i];
        if (r->g == 0 || !r->selects) continue;
        add_number(budgets, r->budget);
        add_number(gs, r->g);
    }
}

static bool has_proposer(const grid *m, const char *proposer)
{
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->records[i].proposer, proposer) == 0) return true;
    return false;
}

/* ---- the maps ---- */

static double best_speedup(const grid *m, const char *proposer, int batch, int context)
{
    double best = NAN;
    for (size_t i = 0; i < m->n; i++) {
        const record *r = &m->records[i];
        if (r->batch == batch && r->context == context && strcmp(r->proposer, proposer) == 0 &&
            !(r->speedup <= best))
            best = r->speedup;
    }
    return best;
}

static void write_axis(FILE *f, char axis, const numbers *s)
{
    (void)fprintf(f, "set %ctics (", axis);
    for (int i = 0; i < s->n; i++) (void)fprintf(f, "%s'%d' %d", i ? ", " : "", s->v[i], i);
    (void)fprintf(f, ")\nset %crange [-0.5:%d.5]\n", axis, s->n - 1);
}

static void write_map(FILE *f, const grid *m, const char *proposer)
{
    numbers batches = {0}, contexts = {0};
    for (size_t i = 0; i < m->n; i++) {
        add_number(&batches, m->records[i].batch);
        add_number(&contexts, m->records[i].context);
    }
    (void)fprintf(f, "$map << EOD\n");
    for (int b = 0; b < batches.n; b++)
        for (int c = 0; c < contexts.n; c++) {
            const double speedup = best_speedup(m, proposer, batches.v[b], contexts.v[c]);
            if (isfinite(speedup)) (void)fprintf(f, "%d %d %.4g\n", c, b, speedup);
        }
    (void)fprintf(
        f,
        "EOD\nset title 'speed-up over plain decoding: %s'\nset xlabel 'context'\nset ylabel 'batch'\n"
        "unset key\nunset logscale\nset format x '%%g'\nset cbrange [0.5:4]\n"
        "set palette defined (0.5 '#b2182b', 1 '#f7f7f7', 4 '#2166ac')\n",
        proposer);
    write_axis(f, 'x', &contexts);
    write_axis(f, 'y', &batches);
    (void)fprintf(f,
                  "plot $map using 1:2:($1-0.5):($1+0.5):($2-0.5):($2+0.5):3 with boxxyerror fillstyle solid "
                  "fillcolor palette, $map using 1:2:(sprintf('%%.2f', $3)) with labels\n");
}

/* ---- the curves ---- */

typedef struct curve {
    const char *title, *xlabel, *ylabel, *logscale;
    const numbers *xs;
    int fixed;      /* the number of candidates, or the budget, of all of it */
    bool by_budget; /* x is the budget, y acceptance; otherwise candidates, and tokens per pass */
} curve;

/* The mean over cells. */
static double mean_at(const grid *m, const curve *c, const char *series, int x)
{
    double sum = 0.0;
    int n = 0;
    for (size_t i = 0; i < m->n; i++) {
        const record *r = &m->records[i];
        const double y = c->by_budget ? r->acceptance : r->tokens_per_pass;
        if (strcmp(r->series, series) != 0 || !isfinite(y)) continue;
        if (x != (c->by_budget ? r->budget : r->g) || c->fixed != (c->by_budget ? r->g : r->budget)) continue;
        sum += y;
        n++;
    }
    return n > 0 ? sum / n : NAN;
}

static int list_series(const grid *m, const char *names[SERIES_MAX])
{
    int n = 0;
    for (size_t i = 0; i < m->n && n < SERIES_MAX; i++) {
        const record *r = &m->records[i];
        int j = 0;
        if (r->g == 0 || !r->selects) continue;
        while (j < n && strcmp(names[j], r->series) != 0) j++;
        if (j == n) names[n++] = r->series;
    }
    return n;
}

static void write_curves(FILE *f, const grid *m, const curve *c)
{
    const char *names[SERIES_MAX];
    const int n = list_series(m, names);
    for (int i = 0; i < n; i++) {
        (void)fprintf(f, "$curve%d << EOD\n", i);
        for (int j = 0; j < c->xs->n; j++) {
            const double y = mean_at(m, c, names[i], c->xs->v[j]);
            if (isfinite(y)) (void)fprintf(f, "%d %.5g\n", c->xs->v[j], y);
        }
        (void)fprintf(f, "EOD\n");
    }
    (void)fprintf(
        f,
        "set title '%s %d, mean over cells'\nset xlabel '%s'\nset ylabel '%s'\nset key bottom right\n"
        "set xtics auto\nset ytics auto\nset autoscale\nunset logscale\n%s\nplot ",
        c->title, c->fixed, c->xlabel, c->ylabel, c->logscale);
    for (int i = 0; i < n; i++)
        (void)fprintf(f, "%s$curve%d with linespoints title '%s'", i ? ", " : "", i, names[i]);
    (void)fprintf(f, "\n");
}

/* ---- the picture ---- */

static const char *first_of(const grid *m)
{
    static const char *const order[] = {"auto", "sparse", "ngram", "jacobi"};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (has_proposer(m, order[i])) return order[i];
    return "none";
}

static void write_picture(FILE *f, const grid *m)
{
    numbers budgets = {0}, gs = {0};
    collect(m, &budgets, &gs);
    const curve acceptance = {.title = "acceptance; candidates:",
                              .xlabel = "budget",
                              .ylabel = "acceptance",
                              .logscale = "set logscale x 2",
                              .xs = &budgets,
                              .fixed = middle_of(&gs),
                              .by_budget = true},
                tokens = {.title = "tokens per pass; budget:",
                          .xlabel = "candidates of a round",
                          .ylabel = "tokens per pass",
                          .logscale = "",
                          .xs = &gs,
                          .fixed = middle_of(&budgets)};
    const bool has_baseline = has_proposer(m, "magicdec");
    const int n = 1 + has_baseline + (budgets.n > 1) + (gs.n > 1);
    (void)fprintf(f, "set multiplot layout %d,%d\nset grid\n", n > 2 ? 2 : 1, n > 1 ? 2 : 1);
    write_map(f, m, first_of(m));
    if (has_baseline) write_map(f, m, "magicdec");
    if (budgets.n > 1) write_curves(f, m, &acceptance);
    if (gs.n > 1) write_curves(f, m, &tokens);
    (void)fprintf(f, "unset multiplot\n");
}

int plot_grid(const char *const *paths, int n_paths, const char *output)
{
    grid m = {0};
    int code = 0;
    for (int i = 0; code == 0 && i < n_paths; i++)
        if (plot_read_lines(paths[i], add_record, &m) < 0) code = EXIT_FAIL;
    if (code == 0 && m.n == 0) {
        (void)fprintf(stderr, "lookfar: %s: found no result of bench magicdec\n", paths[0]);
        code = EXIT_FAIL;
    }
    FILE *f = code == 0 ? app_gnuplot_open(output) : NULL;
    if (f) {
        write_picture(f, &m);
        code = app_gnuplot_close(f, output);
    } else {
        code = EXIT_FAIL;
    }
    free(m.records);
    return code;
}
