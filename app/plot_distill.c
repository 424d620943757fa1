/* The logs of distillations as curves over steps: above, tokens per pass of the held-out prompts, with a mark where the model was
 * kept; below, both losses, in training (means over some steps) and held out. */
#include "plot.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { LOGS_MAX = 16, POINTS_MAX = 500 };

typedef struct curves {
    char title[128];
    lf_bytes speed, kept;   /* "step tokens_per_pass" a line */
    lf_bytes train, judged; /* "step consistency ar" a line */
    /* training points are means over `stride` steps */
    int stride, n_pending;
    double consistency, ar;
} curves;

bool plot_is_distill(const json_t *object)
{
    return json_object_get(json_object_get(object, "run"), "recipe") != NULL;
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static bool add_judgement(curves *c, const json_t *object)
{
    const double step = number(object, "step"), speed = number(object, "tokens_per_pass");
    const bool is_best = json_is_true(json_object_get(object, "best"));
    return (speed <= 0 || lf_bytes_printf(&c->speed, "%.17g %.9g\n", step, speed)) &&
           (speed <= 0 || !is_best || lf_bytes_printf(&c->kept, "%.17g %.9g\n", step, speed)) &&
           lf_bytes_printf(&c->judged, "%.17g %.9g %.9g\n", step, number(object, "valid_consistency"),
                           number(object, "valid_ar"));
}

static bool add_line(void *cookie, const json_t *object)
{
    curves *c = cookie;
    if (json_object_get(object, "valid_loss")) return add_judgement(c, object);
    if (!json_object_get(object, "consistency")) return true;
    c->consistency += number(object, "consistency");
    c->ar += number(object, "ar");
    if (++c->n_pending < c->stride) return true;
    const bool ok = lf_bytes_printf(&c->train, "%.17g %.9g %.9g\n", number(object, "step"),
                                    c->consistency / c->n_pending, c->ar / c->n_pending);
    c->consistency = c->ar = c->n_pending = 0;
    return ok;
}

static int read_log(curves *c, const char *path)
{
    const int n_lines = plot_count_lines(path);
    if (n_lines < 0) return EXIT_FAIL;
    c->stride = 1 + n_lines / POINTS_MAX;
    plot_set_title(c->title, sizeof c->title, path);
    if (plot_read_lines(path, add_line, c) < 0) return EXIT_FAIL;
    if (c->train.len > 0 || c->judged.len > 0) return 0;
    (void)fprintf(stderr, "lookfar: %s: found no step of a distillation\n", path);
    return EXIT_FAIL;
}

static void write_block(FILE *f, const char *name, int i, const lf_bytes *points)
{
    (void)fprintf(f, "$%s%d << EOD\n%sEOD\n", name, i, points->data ? points->data : "");
}

static void write_speed(FILE *f, const curves *list, int n)
{
    const char *separator = "";
    (void)fprintf(f, "set key bottom right\nset ylabel 'tokens per pass, held out'\nplot ");
    for (int i = 0; i < n; i++) {
        if (list[i].speed.len == 0) continue;
        (void)fprintf(f, "%s$speed%d with linespoints lw 2 pt 6 lc %d title '%s'", separator, i, i + 1,
                      list[i].title);
        separator = ", ";
        if (list[i].kept.len > 0)
            (void)fprintf(f, ", $kept%d with points pt 7 ps 1.2 lc %d title 'kept'", i, i + 1);
    }
    (void)fprintf(f, "%s\n", *separator ? "" : "NaN notitle"); /* prompts were not decoded */
}

static void write_losses(FILE *f, const curves *list, int n)
{
    static const char *const names[] = {"consistency", "autoregressive"};
    const char *separator = "";
    (void)fprintf(f, "set key top right\nset ylabel 'loss, nats per token'\nplot ");
    for (int i = 0; i < n; i++)
        for (int k = 0; k < 2; k++) {
            const int colour = 2 * i + k + 1;
            if (list[i].train.len > 0)
                (void)fprintf(f, "%s$train%d using 1:%d with lines lc %d title '%s'", separator, i, k + 2,
                              colour, names[k]);
            if (list[i].train.len > 0) separator = ", ";
            if (list[i].judged.len > 0)
                (void)fprintf(f,
                              "%s$judged%d using 1:%d with linespoints lw 2 dt 2 lc %d title '%s, held out'",
                              separator, i, k + 2, colour, names[k]);
            separator = ", ";
        }
    (void)fprintf(f, "\n");
}

int plot_distill(const char *const *paths, int n_paths, const char *output)
{
    curves list[LOGS_MAX] = {0};
    int code = 0;
    for (int i = 0; code == 0 && i < n_paths; i++) code = read_log(&list[i], paths[i]);
    FILE *f = code == 0 ? app_gnuplot_open(output) : NULL;
    if (f) {
        for (int i = 0; i < n_paths; i++) {
            write_block(f, "speed", i, &list[i].speed);
            write_block(f, "kept", i, &list[i].kept);
            write_block(f, "train", i, &list[i].train);
            write_block(f, "judged", i, &list[i].judged);
        }
        (void)fprintf(f, "set grid\nset xlabel 'steps'\nset multiplot layout 2,1\n");
        write_speed(f, list, n_paths);
        write_losses(f, list, n_paths);
        (void)fprintf(f, "unset multiplot\n");
        code = app_gnuplot_close(f, output);
    }
    for (int i = 0; i < n_paths; i++) {
        lf_bytes_free(&list[i].speed);
        lf_bytes_free(&list[i].kept);
        lf_bytes_free(&list[i].train);
        lf_bytes_free(&list[i].judged);
    }
    return f || code ? code : EXIT_FAIL;
}
