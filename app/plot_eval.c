/* The results of lookfar eval as curves: tokens per pass above, speed-up below, over the rows of a Jacobi pass; a curve for each
 * model and domain, and a level for what `auto` made of it. */
#include "plot.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { CURVES_MAX = 32 };

typedef struct curve {
    char title[160];
    lf_bytes points;   /* "n tokens_per_pass speedup" a line */
    double of_auto[2]; /* tokens per pass, speed-up; 0: not known */
} curve;

typedef struct curves {
    curve list[CURVES_MAX];
    int n;
} curves;

bool plot_is_eval(const json_t *object)
{
    return json_object_get(object, "domain") && json_object_get(object, "tokens_per_pass");
}

static curve *find_curve(curves *c, const char *title)
{
    for (int i = 0; i < c->n; i++)
        if (strcmp(c->list[i].title, title) == 0) return &c->list[i];
    if (c->n == CURVES_MAX) return NULL;
    curve *new = &c->list[c->n++];
    (void)snprintf(new->title, sizeof new->title, "%s", title);
    return new;
}

static bool add_point(void *cookie, const json_t *object)
{
    char text[160], title[160];
    const char *model = json_string_value(json_object_get(object, "model")),
               *domain = json_string_value(json_object_get(object, "domain"));
    const char *slash = model ? strrchr(model, '/') : NULL;
    (void)snprintf(text, sizeof text, "%.100s, %.40s",
                   slash   ? slash + 1
                   : model ? model
                           : "?",
                   domain ? domain : "?");
    plot_set_title(title, sizeof title, text);
    curve *c = find_curve(cookie, title);
    const double values[] = {json_number_value(json_object_get(object, "tokens_per_pass")),
                             json_number_value(json_object_get(object, "speedup"))};
    if (c && json_is_null(json_object_get(object, "n"))) {
        memcpy(c->of_auto, values, sizeof values);
        return true;
    }
    return c &&
           lf_bytes_printf(&c->points, "%lld %.9g %.9g\n",
                           (long long)json_integer_value(json_object_get(object, "n")), values[0], values[1]);
}

static void write_plot(FILE *f, const curves *c, int column, const char *label)
{
    (void)fprintf(f, "set ylabel '%s'\nplot ", label);
    for (int i = 0; i < c->n; i++) {
        const double level = c->list[i].of_auto[column - 2];
        (void)fprintf(f, "%s$curve%d using 1:%d with linespoints lw 2 lc %d title '%s'", i ? ", " : "", i,
                      column, i + 1, c->list[i].title);
        if (level > 0) (void)fprintf(f, ", %.9g with lines dt 2 lc %d title 'auto'", level, i + 1);
    }
    (void)fprintf(f, "\n");
}

int plot_eval(const char *const *paths, int n_paths, const char *output)
{
    curves c = {.n = 0};
    int code = 0;
    for (int i = 0; i < n_paths && code == 0; i++)
        code = plot_read_lines(paths[i], add_point, &c) < 0 ? EXIT_FAIL : 0;
    FILE *f = code == 0 ? app_gnuplot_open(output) : NULL;
    if (f) {
        for (int i = 0; i < c.n; i++) (void)fprintf(f, "$curve%d << EOD\n%sEOD\n", i, c.list[i].points.data);
        (void)fprintf(f, "set grid\nset key left top\nset logscale x 2\n"
                         "set xlabel 'rows of a Jacobi pass'\nset multiplot layout 2,1\n");
        write_plot(f, &c, 2, "tokens per pass");
        write_plot(f, &c, 3, "speed-up over plain decoding");
        (void)fprintf(f, "unset multiplot\n");
        code = app_gnuplot_close(f, output);
    }
    for (int i = 0; i < c.n; i++) lf_bytes_free(&c.list[i].points);
    return f || code ? code : EXIT_FAIL;
}
