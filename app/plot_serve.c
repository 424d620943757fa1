/* lookfar plot of results of `bench serve`: throughput, times to the first token and times of those after it, over the rate at which
 * requests arrive; a column for each workload, a curve for each proposer and for a peer. Where all came at once, a level says what the
 * throughput was. A cell that was measured again counts as it was measured last. */
#include "plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CURVES_MAX = 16, WORKLOADS_MAX = 4, RATES_MAX = 64, TITLE_MAX = 48 };

typedef enum quantity { THROUGHPUT, TTFT_P50, TTFT_P95, TPOT_P50, TPOT_P95, QUANTITIES } quantity;

/* Of a rate; INFINITY: all at once. */
typedef struct point {
    double rate, values[QUANTITIES]; /* 0: not known */
} point;

typedef struct curve {
    char workload[TITLE_MAX], title[TITLE_MAX];
    point points[RATES_MAX]; /* (n_points) ascending */
    int n_points;
} curve;

typedef struct sweep {
    curve curves[CURVES_MAX];
    int n_curves;
    const char *workloads[WORKLOADS_MAX]; /* those that have finite rates */
    int n_workloads;
} sweep;

bool plot_is_serve(const json_t *object)
{
    return json_object_get(object, "workload") && json_object_get(object, "ttft_p50");
}

/* ---- reading ---- */

static curve *find_curve(sweep *s, const char *workload, const char *title)
{
    for (int i = 0; i < s->n_curves; i++)
        if (strcmp(s->curves[i].workload, workload) == 0 && strcmp(s->curves[i].title, title) == 0)
            return &s->curves[i];
    if (s->n_curves == CURVES_MAX) return NULL;
    curve *new = &s->curves[s->n_curves++];
    (void)snprintf(new->workload, sizeof new->workload, "%s", workload);
    (void)snprintf(new->title, sizeof new->title, "%s", title);
    return new;
}

/* The point of a rate, which is put in its place if it is new; NULL: there is no room. */
static point *find_point(curve *c, double rate)
{
    int i = 0;
    while (i < c->n_points && c->points[i].rate < rate) i++;
    if (i < c->n_points && c->points[i].rate == rate) return &c->points[i];
    if (c->n_points == RATES_MAX) return NULL;
    memmove(&c->points[i + 1], &c->points[i], (size_t)(c->n_points++ - i) * sizeof *c->points);
    return &c->points[i];
}

static bool add_result(void *cookie, const json_t *object)
{
    static const char *const keys[QUANTITIES] = {[THROUGHPUT] = "throughput",
                                                 [TTFT_P50] = "ttft_p50",
                                                 [TTFT_P95] = "ttft_p95",
                                                 [TPOT_P50] = "tpot_p50",
                                                 [TPOT_P95] = "tpot_p95"};
    char workload[TITLE_MAX], title[TITLE_MAX];
    const char *proposer = json_string_value(json_object_get(object, "proposer"));
    const double rate = json_number_value(json_object_get(object, "rate"));
    if (!plot_is_serve(object)) return true;
    plot_set_title(workload, sizeof workload, json_string_value(json_object_get(object, "workload")));
    plot_set_title(title, sizeof title,
                   proposer ? proposer : json_string_value(json_object_get(object, "engine")));
    curve *c = find_curve(cookie, workload, title);
    point *p = c ? find_point(c, rate > 0 ? rate : INFINITY) : NULL;
    if (!p) {
        (void)fprintf(stderr, "lookfar: plot: found more than %d curves or %d rates\n", CURVES_MAX,
                      RATES_MAX);
        return false;
    }
    p->rate = rate > 0 ? rate : INFINITY;
    for (int i = 0; i < QUANTITIES; i++) p->values[i] = json_number_value(json_object_get(object, keys[i]));
    return true;
}

static void list_workloads(sweep *s)
{
    for (int i = 0; i < s->n_curves; i++) {
        const curve *c = &s->curves[i];
        bool is_new = c->n_points > 0 && isfinite(c->points[0].rate) && s->n_workloads < WORKLOADS_MAX;
        for (int k = 0; k < s->n_workloads; k++) is_new = is_new && strcmp(s->workloads[k], c->workload) != 0;
        if (is_new) s->workloads[s->n_workloads++] = c->workload;
    }
}

/* ---- drawing ---- */

static void write_number(FILE *f, double value)
{
    if (value > 0)
        (void)fprintf(f, " %.9g", value);
    else
        (void)fprintf(f, " NaN");
}

/* A block for each curve: "rate tokens/s ms ms ms ms" a line. */
static void write_blocks(FILE *f, const sweep *s)
{
    for (int i = 0; i < s->n_curves; i++) {
        const curve *c = &s->curves[i];
        (void)fprintf(f, "$curve%d << EOD\n", i);
        for (int k = 0; k < c->n_points && isfinite(c->points[k].rate); k++) {
            (void)fprintf(f, "%.9g", c->points[k].rate);
            for (int q = 0; q < QUANTITIES; q++)
                write_number(f, c->points[k].values[q] * (q == THROUGHPUT ? 1 : 1e3));
            (void)fprintf(f, "\n");
        }
        (void)fprintf(f, "EOD\n");
    }
}

/* One quantity of a workload: thick lines; dashed ones for another, or QUANTITIES for none. */
static void write_panel(FILE *f, const sweep *s, const char *workload, quantity q, quantity dashed)
{
    const char *separator = "plot ";
    for (int i = 0, colour = 0; i < s->n_curves; i++) {
        const curve *c = &s->curves[i];
        if (strcmp(c->workload, workload) != 0) continue;
        const point *last = &c->points[c->n_points - 1];
        colour++;
        if (q == THROUGHPUT && isinf(last->rate) && last->values[q] > 0) {
            (void)fprintf(f, "%s%.9g with lines dt 3 lc %d title '%s, all at once'", separator,
                          last->values[q], colour, c->title);
            separator = ", ";
        }
        if (isinf(c->points[0].rate)) continue;
        (void)fprintf(f, "%s$curve%d using 1:%d with linespoints lw 2 lc %d title '%s'", separator, i,
                      2 + (int)q, colour, c->title);
        separator = ", ";
        if (dashed != QUANTITIES)
            (void)fprintf(f, ", $curve%d using 1:%d with lines dt 2 lc %d notitle", i, 2 + (int)dashed,
                          colour);
    }
    (void)fprintf(f, "\n");
}

static void write_script(FILE *f, const sweep *s)
{
    write_blocks(f, s);
    (void)fprintf(f,
                  "set grid\nset logscale x 2\nset format x '%%g'\nset multiplot layout 3,%d columnsfirst\n",
                  s->n_workloads);
    for (int i = 0; i < s->n_workloads; i++) {
        const char *workload = s->workloads[i];
        (void)fprintf(
            f, "set title '%s'\nset key right bottom\nset yrange [0:*]\nset ylabel 'tokens a second'\n",
            workload);
        write_panel(f, s, workload, THROUGHPUT, QUANTITIES);
        (void)fprintf(f, "unset title\nset key off\nset yrange [*:*]\nset logscale y\n"
                         "set ylabel 'TTFT, ms: median and p95'\n");
        write_panel(f, s, workload, TTFT_P50, TTFT_P95);
        (void)fprintf(f, "set ylabel 'TPOT, ms: median and p95'\nset xlabel 'requests a second'\n");
        write_panel(f, s, workload, TPOT_P50, TPOT_P95);
        (void)fprintf(f, "unset xlabel\nunset logscale y\n");
    }
    (void)fprintf(f, "unset multiplot\n");
}

int plot_serve(const char *const *paths, int n_paths, const char *output)
{
    int code = EXIT_FAIL;
    FILE *f = NULL;
    sweep *s = calloc(1, sizeof *s);
    bool ok = s != NULL;
    for (int i = 0; ok && i < n_paths; i++) ok = plot_read_lines(paths[i], add_result, s) >= 0;
    if (ok) list_workloads(s);
    if (ok && s->n_workloads == 0)
        (void)fprintf(stderr, "lookfar: %s: found no result with a rate\n", paths[0]);
    else if (ok)
        f = app_gnuplot_open(output);
    if (f) {
        write_script(f, s);
        code = app_gnuplot_close(f, output);
    }
    free(s);
    return code;
}
