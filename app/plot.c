/* lookfar plot: pictures by gnuplot. Of the logs of training runs: above, training and validation loss over tokens; below, the loss by
 * position in the last validation of each run. Of results of `bench magicdec`: plot_grid.c; of `bench acceptance`:
 * plot_acceptance.c; of `bench serve`: plot_serve.c; of `eval`: plot_eval.c; of logs of distillations: plot_distill.c. */
#include "plot.h"

#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LOGS_MAX = 16, LINE_MAX_BYTES = 1 << 20, POINTS_MAX = 1000 };

/* What a log gives, as lines that gnuplot reads. */
typedef struct curves {
    char title[128];
    lf_bytes train, valid, buckets; /* "tokens loss"; "tokens loss"; "position loss" */
    int n_points;                   /* of training */
    /* training points are means over `stride` steps */
    int stride, n_pending;
    double pending_loss;
} curves;

typedef struct plot_options {
    const char *paths[LOGS_MAX];
    int n_paths;
    const char *output;
} plot_options;

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    plot_options *o = state->input;
    switch (key) {
    case 'o': o->output = arg; return 0;
    case ARGP_KEY_ARG:
        if (o->n_paths == LOGS_MAX) app_usage_error(state, "found more than %d logs", LOGS_MAX);
        o->paths[o->n_paths++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (o->n_paths == 0) app_usage_error(state, "LOG: the log of a run is missing");
        if (!o->output) app_usage_error(state, "-o FILE: the picture's name is missing");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* ---- logs ---- */

static bool add_step(curves *c, double tokens, double loss)
{
    c->pending_loss += loss;
    if (++c->n_pending < c->stride) return true;
    const bool ok = lf_bytes_printf(&c->train, "%.17g %.17g\n", tokens, c->pending_loss / c->n_pending);
    c->pending_loss = c->n_pending = 0;
    c->n_points++;
    return ok;
}

static bool add_validation(curves *c, double tokens, const json_t *object)
{
    size_t i;
    json_t *bucket;
    c->buckets.len = 0;
    json_array_foreach(json_object_get(object, "buckets"), i, bucket)
    {
        const double from = json_number_value(json_object_get(bucket, "from"));
        const double to = json_number_value(json_object_get(bucket, "to"));
        const double loss = json_number_value(json_object_get(bucket, "loss"));
        if (!lf_bytes_printf(&c->buckets, "%.17g %.17g\n", (from + to) / 2.0 + 1.0, loss)) return false;
    }
    return lf_bytes_printf(&c->valid, "%.17g %.17g\n", tokens,
                           json_number_value(json_object_get(object, "valid_loss")));
}

/* A line of a log; lines of other kinds are passed over. false: no memory. */
static bool add_line(void *cookie, const json_t *object)
{
    curves *c = cookie;
    const double tokens = json_number_value(json_object_get(object, "tokens"));
    if (json_object_get(object, "valid_loss")) return add_validation(c, tokens, object);
    const json_t *loss = json_object_get(object, "loss");
    return !loss || add_step(c, tokens, json_number_value(loss));
}

int plot_read_lines(const char *path, plot_line_fn *on_line, void *cookie)
{
    char *line = NULL;
    size_t cap = 0;
    int n_lines = 0;
    bool ok = true;
    FILE *f = fopen(path, "r");
    if (!f) {
        (void)fprintf(stderr, "lookfar: %s: cannot open: %s\n", path, strerror(errno));
        return -1;
    }
    while (ok && getline(&line, &cap, f) > 0) {
        n_lines++;
        json_error_t error;
        json_t *object = json_loads(line, JSON_ALLOW_NUL, &error);
        if (object && !on_line(cookie, object)) ok = false;
        if (!object && !feof(f) && fgetc(f) != EOF) {
            (void)fprintf(stderr, "lookfar: %s: line %d: %s\n", path, n_lines, error.text);
            ok = false;
        }
        json_decref(object);
    }
    free(line);
    (void)fclose(f);
    return ok ? n_lines : -1;
}

static bool count_line(void *cookie, const json_t *object)
{
    (void)cookie, (void)object;
    return true;
}

int plot_count_lines(const char *path)
{
    return plot_read_lines(path, count_line, NULL);
}

void plot_set_title(char *title, size_t size, const char *text)
{
    (void)snprintf(title, size, "%s", text ? text : "?");
    for (char *at = title; *at; at++)
        if (strchr("'\"\n", *at)) *at = ' ';
}

static int read_curves(curves *c, const char *path)
{
    const int n_lines = plot_count_lines(path);
    if (n_lines < 0) return EXIT_FAIL;
    c->stride = 1 + n_lines / POINTS_MAX;
    plot_set_title(c->title, sizeof c->title, path);
    if (plot_read_lines(path, add_line, c) < 0) return EXIT_FAIL;
    if (c->n_points > 0) return 0;
    (void)fprintf(stderr, "lookfar: %s: found no step of a training run\n", path);
    return EXIT_FAIL;
}

/* ---- gnuplot ---- */

static void write_blocks(FILE *f, const curves *c, int i)
{
    (void)fprintf(f, "$train%d << EOD\n%sEOD\n$valid%d << EOD\n%sEOD\n$buckets%d << EOD\n%sEOD\n", i,
                  c->train.data, i, c->valid.data ? c->valid.data : "", i,
                  c->buckets.data ? c->buckets.data : "");
}

static void write_script(FILE *f, const plot_options *o, const curves *list)
{
    bool has_buckets = false;
    for (int i = 0; i < o->n_paths; i++) {
        write_blocks(f, &list[i], i);
        has_buckets = has_buckets || list[i].buckets.len > 0;
    }
    (void)fprintf(f, "set grid\nset ylabel 'loss, nats per token'\n");
    if (has_buckets) (void)fprintf(f, "set multiplot layout 2,1\n");
    (void)fprintf(f, "set xlabel 'tokens'\nset format x '%%.0s%%c'\nplot ");
    for (int i = 0; i < o->n_paths; i++) {
        (void)fprintf(f, "%s$train%d with lines lc %d title '%s'", i ? ", " : "", i, i + 1, list[i].title);
        if (list[i].valid.len > 0)
            (void)fprintf(f, ", $valid%d with linespoints lw 2 lc %d dt 2 title 'validation'", i, i + 1);
    }
    if (!has_buckets) return;
    (void)fprintf(f, "\nset xlabel 'position in the context'\nset logscale x 2\nset format x '%%.0f'\nplot ");
    for (int i = 0, n = 0; i < o->n_paths; i++)
        if (list[i].buckets.len > 0)
            (void)fprintf(f, "%s$buckets%d with linespoints lc %d title '%s'", n++ ? ", " : "", i, i + 1,
                          list[i].title);
    (void)fprintf(f, "\nunset multiplot\n");
}

static int draw(const plot_options *o, const curves *list)
{
    FILE *f = app_gnuplot_open(o->output);
    if (!f) return EXIT_FAIL;
    write_script(f, o, list);
    return app_gnuplot_close(f, o->output);
}

/* What a file begins with; NULL when that is no object. What cannot be read is told of when it is drawn. */
static json_t *read_first(const char *path)
{
    char *line = NULL;
    size_t cap = 0;
    FILE *f = fopen(path, "r");
    json_t *object = f && getline(&line, &cap, f) > 0 ? json_loads(line, JSON_ALLOW_NUL, NULL) : NULL;
    free(line);
    if (f) (void)fclose(f);
    return object;
}

/* Draws the curves of training runs. */
static int plot_runs(const plot_options *o)
{
    curves list[LOGS_MAX] = {0};
    int code = 0;
    for (int i = 0; code == 0 && i < o->n_paths; i++) code = read_curves(&list[i], o->paths[i]);
    if (code == 0) code = draw(o, list);
    for (int i = 0; i < o->n_paths; i++) {
        lf_bytes_free(&list[i].train);
        lf_bytes_free(&list[i].valid);
        lf_bytes_free(&list[i].buckets);
    }
    return code;
}

int app_plot(int argc, char **argv)
{
    static const struct argp_option options[] = {{"output", 'o', "FILE", 0, "the picture: .png or .svg", 0},
                                                 {0}};
    static const struct argp argp = {
        options,
        parse_option,
        "LOG...",
        "Draws the curves of training runs and distillations from their log.jsonl, or the results that `bench magicdec --json`, `bench acceptance --json`, `bench serve --json` or `eval --json` wrote.",
        NULL,
        NULL,
        NULL};
    plot_options o = {0};
    app_parse_args(&argp, argc, argv, &o);
    if (!app_gnuplot_terminal(o.output)) {
        (void)fprintf(stderr, "lookfar: plot: -o: found \"%s\", expected a name that ends in .png or .svg\n",
                      o.output);
        return EXIT_USAGE;
    }
    json_t *first = read_first(o.paths[0]);
    const int code = plot_is_result(first)       ? plot_grid(o.paths, o.n_paths, o.output)
                     : plot_is_acceptance(first) ? plot_acceptance(o.paths, o.n_paths, o.output)
                     : plot_is_serve(first)      ? plot_serve(o.paths, o.n_paths, o.output)
                     : plot_is_eval(first)       ? plot_eval(o.paths, o.n_paths, o.output)
                     : plot_is_distill(first)    ? plot_distill(o.paths, o.n_paths, o.output)
                                                 : plot_runs(&o);
    json_decref(first);
    return code;
}
