/* lookfar plot of results of `bench acceptance`: for every task, context and temperature a row of two panels, a curve for each
 * selection. Left, acceptance over the budget, of rounds of the most candidates that were measured; right, the acceptance of each
 * place of such rounds, with the middle one of the budgets. */
#include "plot.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { GROUPS_MAX = 12, SELECTIONS_MAX = 4, TITLE_MAX = 96, BUDGETS_MAX = 32 };

/* The curves of one task, context and temperature. */
typedef struct group {
    char title[TITLE_MAX];
    int g_max;
    int n_budgets, budgets[BUDGETS_MAX]; /* ascending */
    lf_bytes by_budget[SELECTIONS_MAX];  /* "budget acceptance" a line */
    lf_bytes by_place[SELECTIONS_MAX];   /* "place acceptance" a line */
} group;

typedef struct picture {
    group groups[GROUPS_MAX];
    int n_groups;
    char selections[SELECTIONS_MAX][TITLE_MAX];
    int n_selections;
    bool draws; /* the second reading: what there is is known */
} picture;

bool plot_is_acceptance(const json_t *object)
{
    return json_object_get(object, "tokens_per_round") && json_object_get(object, "acceptance_at");
}

/* ---- reading ---- */

static int int_of(const json_t *object, const char *key)
{
    return (int)json_integer_value(json_object_get(object, key));
}

/* The group of a result; NULL when there are too many. */
static group *find_group(picture *p, const json_t *object)
{
    char task[TITLE_MAX], title[TITLE_MAX];
    plot_set_title(task, sizeof task, json_string_value(json_object_get(object, "task")));
    (void)snprintf(title, sizeof title, "%.40s, context %d, temperature %g", task, int_of(object, "context"),
                   json_number_value(json_object_get(object, "temperature")));
    for (int i = 0; i < p->n_groups; i++)
        if (strcmp(p->groups[i].title, title) == 0) return &p->groups[i];
    if (p->n_groups == GROUPS_MAX) return NULL;
    group *g = &p->groups[p->n_groups++];
    memcpy(g->title, title, sizeof title);
    return g;
}

static int find_selection(picture *p, const json_t *object)
{
    char name[TITLE_MAX];
    plot_set_title(name, sizeof name, json_string_value(json_object_get(object, "selection")));
    for (int i = 0; i < p->n_selections; i++)
        if (strcmp(p->selections[i], name) == 0) return i;
    if (p->n_selections == SELECTIONS_MAX) return -1;
    memcpy(p->selections[p->n_selections], name, sizeof name);
    return p->n_selections++;
}

static void add_budget(group *g, int budget)
{
    int i = g->n_budgets;
    for (int j = 0; j < g->n_budgets; j++)
        if (g->budgets[j] == budget) return;
    if (g->n_budgets == BUDGETS_MAX) return;
    for (; i > 0 && g->budgets[i - 1] > budget; i--) g->budgets[i] = g->budgets[i - 1];
    g->budgets[i] = budget;
    g->n_budgets++;
}

static bool add_points(group *g, int selection, const json_t *object)
{
    size_t i;
    const json_t *at;
    const int budget = int_of(object, "budget");
    if (int_of(object, "g") != g->g_max) return true;
    if (!lf_bytes_printf(&g->by_budget[selection], "%d %.9g\n", budget,
                         json_number_value(json_object_get(object, "acceptance"))))
        return false;
    if (budget != g->budgets[g->n_budgets / 2]) return true;
    json_array_foreach(json_object_get(object, "acceptance_at"), i, at)
    {
        if (!lf_bytes_printf(&g->by_place[selection], "%zu %.9g\n", i + 1, json_number_value(at)))
            return false;
    }
    return true;
}

/* First what there is, then its points. false: no memory. */
static bool add_result(void *cookie, const json_t *object)
{
    picture *p = cookie;
    if (!plot_is_acceptance(object)) return true;
    group *g = find_group(p, object);
    const int selection = find_selection(p, object), candidates = int_of(object, "g");
    if (!g || selection < 0) return true; /* no room in the picture */
    if (p->draws) return add_points(g, selection, object);
    if (candidates > g->g_max) g->g_max = candidates;
    add_budget(g, int_of(object, "budget"));
    return true;
}

/* ---- drawing ---- */

static void write_panel(FILE *f, const picture *p, const lf_bytes *curves, const char *name)
{
    int n = 0;
    for (int i = 0; i < p->n_selections; i++)
        if (curves[i].len > 0) (void)fprintf(f, "$%s%d << EOD\n%sEOD\n", name, i, curves[i].data);
    (void)fprintf(f, "plot ");
    for (int i = 0; i < p->n_selections; i++)
        if (curves[i].len > 0)
            (void)fprintf(f, "%s$%s%d using 1:2 smooth unique with linespoints lw 2 lc %d title '%s'",
                          n++ ? ", " : "", name, i, i + 1, p->selections[i]);
    (void)fprintf(f, "\n");
}

static void write_picture(FILE *f, const picture *p)
{
    (void)fprintf(f,
                  "set multiplot layout %d,2\nset grid\nset yrange [0:1]\nset ylabel 'acceptance'\n"
                  "set key outside right\n",
                  p->n_groups);
    for (int i = 0; i < p->n_groups; i++) {
        const group *g = &p->groups[i];
        (void)fprintf(f, "set title '%s: %d candidates'\nset logscale x 2\nset xlabel 'budget'\n", g->title,
                      g->g_max);
        write_panel(f, p, g->by_budget, "budgets");
        (void)fprintf(f, "set title '%s: budget %d'\nunset logscale x\nset xlabel 'place in the round'\n",
                      g->title, g->budgets[g->n_budgets / 2]);
        write_panel(f, p, g->by_place, "places");
    }
    (void)fprintf(f, "unset multiplot\n");
}

int plot_acceptance(const char *const *paths, int n_paths, const char *output)
{
    picture p = {.n_groups = 0};
    int code = 0;
    for (int pass = 0; pass < 2; pass++, p.draws = true)
        for (int i = 0; i < n_paths && code == 0; i++)
            if (plot_read_lines(paths[i], add_result, &p) < 0) code = EXIT_FAIL;
    FILE *f = code == 0 ? app_gnuplot_open(output) : NULL;
    if (f) {
        write_picture(f, &p);
        code = app_gnuplot_close(f, output);
    } else {
        code = EXIT_FAIL;
    }
    for (int i = 0; i < p.n_groups; i++)
        for (int s = 0; s < SELECTIONS_MAX; s++) {
            lf_bytes_free(&p.groups[i].by_budget[s]);
            lf_bytes_free(&p.groups[i].by_place[s]);
        }
    return code;
}
