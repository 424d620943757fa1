/* lookfar train: a model from text. One library call; this file is its options, and train_run.c what all
 * runs have. */
#include "train_run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OPT_INIT = 0x200,
    OPT_TOKENIZER,
    OPT_ROPE_BASE,
    OPT_VALID,
    OPT_SEPARATOR,
    OPT_TEMPLATE,
    OPT_RESPONSE,
    OPT_PREPARE,
};

typedef struct train_options {
    app_train_run run;
    lf_train_params params;
    lf_train_input data[APP_TRAIN_INPUTS_MAX], valid[APP_TRAIN_INPUTS_MAX];
    bool has_shape;
} train_options;

static const struct argp_option options[] = {
    {"prepare", OPT_PREPARE, NULL, 0, "turn the inputs into token files under DIR/data and stop", 1},

    {"init", OPT_INIT, "SHAPE", 0,
     "begin with random weights: dim=384,layers=8,heads=6,kv=6,ffn=1024[,head-dim=64][,rope=10000][,tied]",
     2},
    {"tokenizer", OPT_TOKENIZER, "FILE", 0, "tokenizer.model or tokenizer.json (default: the model's)", 2},
    {"rope-base", OPT_ROPE_BASE, "X", 0, "base of the rotary frequencies (default: the model's)", 2},

    {"data", 'd', "FILE[:WEIGHT]", 0,
     "text, .jsonl or token file, WEIGHT passes of it in an epoch (default: 1); may be repeated", 3},
    {"valid", OPT_VALID, "FILE", 0, "the same for validation; may be repeated", 3},
    {"separator", OPT_SEPARATOR, "TEXT", 0, "between the documents of a text (default: <|endoftext|>)", 3},
    {"template", OPT_TEMPLATE, "TEXT", 0,
     "prompt of a JSON line; {name} is a field's text, \\n a line end (default: {prompt})", 3},
    {"response", OPT_RESPONSE, "NAME", 0, "field of a JSON line that answers the prompt (default: response)",
     3},
    {0},
};

/* ---- option values ---- */

/* dim=384,layers=8,... */
static void parse_shape(struct argp_state *state, train_options *o, const char *text)
{
    lf_train_shape *s = &o->params.shape;
    const struct {
        const char *name;
        int *value;
    } keys[] = {{"dim", &s->dim},       {"layers", &s->n_layers}, {"heads", &s->n_heads},
                {"kv", &s->n_kv_heads}, {"ffn", &s->ffn_dim},     {"head-dim", &s->head_dim}};
    enum { N_KEYS = sizeof keys / sizeof *keys };
    o->has_shape = true;
    for (const char *at = text; *at;) {
        const size_t len = strcspn(at, ",");
        char part[64], *equals;
        (void)snprintf(part, sizeof part, "%.*s", (int)(len < sizeof part ? len : sizeof part - 1), at);
        at += len + (at[len] == ',');
        if (strcmp(part, "tied") == 0) {
            s->tied = true;
            continue;
        }
        equals = strchr(part, '=');
        if (equals) *equals = '\0';
        int i = 0;
        while (i < N_KEYS && strcmp(part, keys[i].name) != 0) i++;
        if (equals && i < N_KEYS)
            *keys[i].value = (int)app_parse_int(state, "--init", equals + 1, 1, 1 << 20);
        else if (equals && strcmp(part, "rope") == 0)
            o->params.rope_base = app_parse_float(state, "--init", equals + 1, 1.0, 1e12);
        else
            app_usage_error(
                state, "--init: found \"%s\", expected dim, layers, heads, kv, ffn, head-dim, rope or tied",
                part);
    }
    if (s->n_kv_heads == 0) s->n_kv_heads = s->n_heads;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    train_options *o = state->input;
    lf_train_params *p = &o->params;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &o->run; return 0;
    case OPT_PREPARE: p->prepare_only = true; return 0;
    case OPT_INIT: parse_shape(state, o, arg); return 0;
    case OPT_TOKENIZER: p->tokenizer_path = arg; return 0;
    case OPT_ROPE_BASE: p->rope_base = app_parse_float(state, "--rope-base", arg, 1.0, 1e12); return 0;
    case 'd': app_train_add_input(state, &o->run, o->data, &p->n_data, arg, true); return 0;
    case OPT_VALID: app_train_add_input(state, &o->run, o->valid, &p->n_valid, arg, false); return 0;
    case OPT_SEPARATOR: p->separator = arg; return 0;
    case OPT_TEMPLATE: p->prompt_template = app_train_unescape(state, &o->run, arg); return 0;
    case OPT_RESPONSE: p->response_field = arg; return 0;
    case ARGP_KEY_ARG:
        app_usage_error(state, "found argument \"%s\", expected options only (data go after --data)", arg);
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void parse(train_options *o, int argc, char **argv)
{
    static const struct argp_child children[] = {{&app_train_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,  parse_option, NULL, "Trains a model on text, from scratch or from another model.",
        children, NULL,         NULL};
    *o = (train_options){.run = {.params = &o->params, .args = argv + 1, .n_args = argc - 1}};
    lf_train_params_init(&o->params);
    app_parse_args(&argp, argc, argv, o);
    o->params.data = o->data;
    o->params.valid = o->valid;
}

static int fail_usage(const char *text)
{
    (void)fprintf(stderr, "lookfar: train: %s\n", text);
    return EXIT_USAGE;
}

/* Parses the options that the run's folder has and then those given; their strings are the caller's. */
static int parse_with_saved(train_options *o, json_t **list, char ***all, int argc, char **argv)
{
    int n;
    const int code = app_train_load_options(all, &n, list, o->params.out_dir, argc, argv);
    if (code != 0) return code;
    app_train_free_options(&o->run);
    parse(o, n, *all);
    return 0;
}

int app_train(int argc, char **argv)
{
    train_options o;
    lf_error err = {0};
    json_t *saved = NULL;
    char **all = NULL;
    int code = 0;
    parse(&o, argc, argv);
    if (!o.params.out_dir) return fail_usage("-o DIR: the run's folder is missing");
    if (o.params.resume && o.params.n_data == 0) code = parse_with_saved(&o, &saved, &all, argc, argv);
    if (code == 0 && o.params.n_data == 0) code = fail_usage("--data FILE: the data are missing");
    if (code == 0 && (o.params.model_path != NULL) == o.has_shape && !o.params.prepare_only)
        code = fail_usage("-m PATH or --init SHAPE: expected one of them");
    if (code == 0) {
        app_catch_interrupt();
        o.run.on_terminal = isatty(STDERR_FILENO) == 1;
        o.params.on_event = app_train_on_event;
        o.params.cookie = &o.run;
        code = app_train_end(&o.run, lf_train(&o.params, &err), &err, "train");
    }
    app_train_free_options(&o.run);
    free(all);
    json_decref(saved);
    return code;
}
