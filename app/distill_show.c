/* lookfar distill show: what a trajectory file holds; and of one trajectory, which token was right when,
 * in colours, in plain text or as a picture. */
#include "app.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPT_RECORD = 0x200, OPT_JSON, OPT_COLOUR, CELL_MAX = 14 };

/* When to use colours. */
enum { COLOUR_AUTO, COLOUR_ALWAYS, COLOUR_NEVER };

typedef struct show_options {
    const char *path, *model_path, *json_path, *picture_path;
    int64_t i_record; /* -1: the whole file */
    int colour;
} show_options;

static const struct argp_option options[] = {
    {"record", OPT_RECORD, "I", 0, "show the states of trajectory I, from 0", 0},
    {"model", 'm', "PATH", 0, "with --record: the model, for its tokenizer; without it ids are shown", 0},
    {"output", 'o', "FILE", 0, "with --record: draw it, too: .png or .svg", 0},
    {"colour", OPT_COLOUR, "WHEN", 0, "auto (default: on a terminal), always or never", 0},
    {"json", OPT_JSON, "FILE", 0, "write it as a JSON object (-: standard output)", 0},
    {0},
};

static int parse_colour(struct argp_state *state, const char *text)
{
    static const char *const names[] = {"auto", "always", "never"};
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) return i;
    app_usage_error(state, "--colour: found \"%s\", expected auto, always or never", text);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    show_options *o = state->input;
    switch (key) {
    case OPT_RECORD: o->i_record = app_parse_int(state, "--record", arg, 0, INT32_MAX); return 0;
    case 'm': o->model_path = arg; return 0;
    case 'o':
        if (!app_gnuplot_terminal(arg))
            app_usage_error(state, "-o: found \"%s\", expected a name that ends in .png or .svg", arg);
        o->picture_path = arg;
        return 0;
    case OPT_COLOUR: o->colour = parse_colour(state, arg); return 0;
    case OPT_JSON: o->json_path = arg; return 0;
    case ARGP_KEY_ARG:
        if (o->path) app_usage_error(state, "found argument \"%s\", expected one file", arg);
        o->path = arg;
        return 0;
    case ARGP_KEY_END:
        if (!o->path) app_usage_error(state, "FILE: the trajectories are missing");
        if (o->i_record < 0 && (o->model_path || o->picture_path))
            app_usage_error(state, "-m and -o: expected --record with them");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* ---- the whole file ---- */

static long long int_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static double real_of(const json_t *object, const char *key)
{
    return json_real_value(json_object_get(object, key));
}

void app_print_trajectories(FILE *f, const json_t *c)
{
    const char *key;
    json_t *value;
    (void)fprintf(f, "prompts           %10lld%s\n", int_of(c, "records"),
                  json_is_true(json_object_get(c, "complete")) ? "" : "  (not complete)");
    (void)fprintf(f, "trajectories      %10lld\n", int_of(c, "trajectories"));
    json_object_foreach(json_object_get(c, "dropped"), key, value) if (json_integer_value(value) > 0)(void)
        fprintf(f, "  dropped         %10lld  %s\n", (long long)json_integer_value(value), key);
    (void)fprintf(f, "output tokens     %10lld\n", int_of(c, "output_tokens"));
    (void)fprintf(f, "blocks            %10lld  of %lld tokens\n", int_of(c, "blocks"), int_of(c, "n"));
    (void)fprintf(f, "states            %10lld\n", int_of(c, "states"));
    (void)fprintf(f, "iterations        %10.2f  a block (a pass that only confirms is not counted)\n",
                  real_of(c, "mean_iterations"));
    (void)fprintf(f, "tokens per pass   %10.3f  (every pass is counted)\n", real_of(c, "tokens_per_pass"));
    (void)fprintf(f, "fast-forwarded    %10.3f  tokens an iteration\n", real_of(c, "fast_forwarded"));
    (void)fprintf(f, "stationary        %10.3f  tokens a block\n", real_of(c, "stationary_per_block"));
}

/* ---- one trajectory ---- */

/* What a token is in a state. */
typedef enum mark { MARK_WRONG, MARK_AHEAD, MARK_RIGHT } mark;

typedef struct block {
    json_t *states; /* borrowed */
    int n_states, n;
    int n_count; /* tokens that belong to the output */
} block;

static json_int_t id_at(const block *b, int j, int i)
{
    return json_integer_value(json_array_get(json_array_get(b->states, (size_t)j), (size_t)i));
}

/* marks (n_count): right as far as everything before is right; ahead where something before is wrong. */
static void mark_state(mark *marks, const block *b, int j)
{
    bool reached = true;
    for (int i = 0; i < b->n_count; i++) {
        const bool right = id_at(b, j, i) == id_at(b, b->n_states - 1, i);
        reached = reached && right;
        marks[i] = reached ? MARK_RIGHT : right ? MARK_AHEAD : MARK_WRONG;
    }
}

static block block_at(const json_t *record, size_t b)
{
    json_t *states = json_array_get(json_object_get(record, "blocks"), b);
    const int n = (int)int_of(record, "n"), left = (int)(int_of(record, "output_tokens") - (int)b * n);
    return (block){states, (int)json_array_size(states), n, left < n ? left : n};
}

/* A token's text in at most CELL_MAX columns, with what cannot be seen made visible. */
static void show_token(char *out, size_t size, const lf_engine *engine, json_int_t id)
{
    const int32_t twice[2] = {(int32_t)id, (int32_t)id};
    char *one = NULL, *two = NULL;
    size_t one_len = 0, two_len = 0, n = 0;
    int columns = 0;
    (void)snprintf(out, size, "%lld", (long long)id);
    /* the first token of a text may lose its space, the second does not */
    if (engine && lf_detokenize(engine, twice, 1, true, &one, &one_len, NULL) == LF_OK &&
        lf_detokenize(engine, twice, 2, true, &two, &two_len, NULL) == LF_OK && two_len > one_len) {
        for (const char *at = two + one_len; *at && columns < CELL_MAX && n + 8 < size; at++) {
            const unsigned char c = (unsigned char)*at;
            columns += (c & 0xC0) != 0x80;
            if (c == ' ')
                n += (size_t)snprintf(out + n, size - n, "\xC2\xB7"); /* a dot in the middle */
            else if (c == '\n')
                n += (size_t)snprintf(out + n, size - n, "\\n");
            else if (c < 0x20 || c == 0x7F)
                n += (size_t)snprintf(out + n, size - n, "\\x%02X", c);
            else
                n += (size_t)snprintf(out + n, size - n, "%c", c);
        }
    }
    free(one);
    free(two);
}

/* Code points, which is columns for most text. */
static int width_of(const char *text)
{
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static void print_block(const block *b, size_t i_block, const lf_engine *engine, bool colour)
{
    static const char *const codes[] = {"\033[31m", "\033[1;36m", "\033[32m"};
    char cell[8 * CELL_MAX];
    int widths[64] = {0};
    mark marks[64] = {0};
    for (int j = 0; j < b->n_states; j++)
        for (int i = 0; i < b->n_count; i++) {
            show_token(cell, sizeof cell, engine, id_at(b, j, i));
            if (width_of(cell) > widths[i]) widths[i] = width_of(cell);
        }
    (void)printf("block %zu\n", i_block);
    for (int j = 0; j < b->n_states; j++) {
        mark_state(marks, b, j);
        (void)printf("%4d ", j);
        for (int i = 0; i < b->n_count; i++) {
            show_token(cell, sizeof cell, engine, id_at(b, j, i));
            (void)printf(" %s%c%s%s%*s", colour ? codes[marks[i]] : "", colour ? ' ' : "-+ "[marks[i]], cell,
                         colour ? "\033[0m" : "", widths[i] - width_of(cell), "");
        }
        (void)printf("\n");
    }
}

static void print_record(const json_t *record, const lf_engine *engine, bool colour)
{
    (void)printf(
        "trajectory %lld (prompt %lld): %lld tokens in %lld passes, %.2f fast-forwarded, %lld stationary\n",
        int_of(record, "record"), int_of(record, "prompt_index"), int_of(record, "output_tokens"),
        int_of(record, "passes"), real_of(record, "fast_forwarded"), int_of(record, "stationary"));
    (void)printf("%s\n", colour ? "\033[32mright\033[0m, \033[1;36mright behind a wrong one\033[0m, "
                                  "\033[31mwrong\033[0m"
                                : "no mark: right; +: right behind a wrong one; -: wrong");
    for (size_t b = 0; b < json_array_size(json_object_get(record, "blocks")); b++) {
        const block at = block_at(record, b);
        print_block(&at, b, engine, colour);
    }
}

/* A square for each token of each state: tokens of the output from left to right, states from top to bottom. */
static int draw_record(const json_t *record, const char *path)
{
    static const char *const colours[] = {"0xD95F5F", "0x4FB3D9", "0x5FAE5F"};
    mark marks[64] = {0};
    int n_states = 0;
    FILE *f = app_gnuplot_open(path);
    if (!f) return EXIT_FAIL;
    (void)fprintf(f, "$cells << EOD\n");
    for (size_t b = 0; b < json_array_size(json_object_get(record, "blocks")); b++) {
        const block at = block_at(record, b);
        for (int j = 0; j < at.n_states; j++, n_states++) {
            mark_state(marks, &at, j);
            for (int i = 0; i < at.n_count; i++)
                (void)fprintf(f, "%d %d %s\n", (int)b * at.n + i, n_states, colours[marks[i]]);
        }
    }
    (void)fprintf(f,
                  "EOD\nset xlabel 'token of the output'\n"
                  "set ylabel 'state'\nset title 'trajectory %lld: %lld tokens in %lld passes'\n"
                  "set yrange [%d:-1]\nset xrange [-1:%lld]\nset style fill solid noborder\n"
                  "plot $cells using 1:2:(0.45):(0.45):3 with boxxyerror lc rgb variable notitle, "
                  "NaN with boxes lc rgb '#5FAE5F' title 'right', "
                  "NaN with boxes lc rgb '#4FB3D9' title 'right behind a wrong one', "
                  "NaN with boxes lc rgb '#D95F5F' title 'wrong'\n",
                  int_of(record, "record"), int_of(record, "output_tokens"), int_of(record, "passes"),
                  n_states, int_of(record, "output_tokens"));
    return app_gnuplot_close(f, path);
}

static bool wants_colour(const show_options *o)
{
    return o->colour == COLOUR_ALWAYS ||
           (o->colour == COLOUR_AUTO && isatty(STDOUT_FILENO) && !getenv("NO_COLOR"));
}

static int show_record(const show_options *o, const json_t *record)
{
    app_engine_options engine_options = {0};
    lf_engine *engine = NULL;
    lf_error err;
    int code = 0;
    if (o->model_path && !o->json_path) {
        lf_engine_params_init(&engine_options.params);
        engine_options.params.model_path = o->model_path;
        if (app_open_engine(&engine, &engine_options, &err) != LF_OK) return app_fail(&err);
    }
    if (o->picture_path) code = draw_record(record, o->picture_path);
    if (code == 0 && !o->json_path) print_record(record, engine, wants_colour(o));
    lf_engine_close(engine);
    return code;
}

int app_distill_show(int argc, char **argv)
{
    static const struct argp argp = {
        options, parse_option, "FILE", "Shows what a trajectory file holds, and which token was right when.",
        NULL,    NULL,         NULL};
    show_options o = {.i_record = -1};
    lf_error err;
    char *text;
    int code = 0;
    app_parse_args(&argp, argc, argv, &o);
    if (lf_distill_inspect(o.path, o.i_record, &text, &err) != LF_OK) return app_fail(&err);
    json_t *object = json_loads(text, 0, NULL);
    free(text);
    if (!object) return app_fail(&(lf_error){.text = "out of memory"});
    if (o.json_path) {
        FILE *f = app_open_json(o.json_path);
        code = f ? app_write_json(f, o.json_path, json_incref(object)) : EXIT_FAIL;
        code = app_close_json(f, o.json_path, code);
    }
    if (code == 0 && o.i_record >= 0)
        code = show_record(&o, object);
    else if (code == 0 && !o.json_path)
        app_print_trajectories(stdout, object);
    json_decref(object);
    return code;
}
