/* lookfar inspect: what a model file holds and what running it takes. */
#include "app.h"

#include <stdlib.h>
#include <string.h>

enum { OPT_JSON = 0x200, OPT_KV, OPT_SEQS };

typedef struct inspect_options {
    const char *model_path, *json_path;
    int n_ctx, n_seqs;
    lf_dtype kv_dtype;
} inspect_options;

static const struct argp_option options[] = {
    {"model", 'm', "PATH", 0, "model: a .gguf file, or a Hugging Face folder (or give PATH alone)", 0},
    {"ctx-size", 'c', "N", 0, "plan memory for N positions a sequence (default: the model's context)", 0},
    {"parallel", OPT_SEQS, "N", 0, "plan memory for N sequences (default: 1)", 0},
    {"cache-type", OPT_KV, "TYPE", 0, "plan for a KV cache of f32, f16, bf16 (default) or q8_0", 0},
    {"json", OPT_JSON, "FILE", 0, "write everything as one JSON object to FILE (-: standard output)", 0},
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    inspect_options *o = state->input;
    switch (key) {
    case 'm': o->model_path = arg; return 0;
    case 'c': o->n_ctx = (int)app_parse_int(state, "--ctx-size", arg, 0, 1 << 26); return 0;
    case OPT_SEQS: o->n_seqs = (int)app_parse_int(state, "--parallel", arg, 1, 1 << 16); return 0;
    case OPT_KV: o->kv_dtype = app_parse_dtype(state, "--cache-type", arg); return 0;
    case OPT_JSON: o->json_path = arg; return 0;
    case ARGP_KEY_ARG:
        if (o->model_path) app_usage_error(state, "found argument \"%s\", expected one model", arg);
        o->model_path = arg;
        return 0;
    case ARGP_KEY_END:
        if (!o->model_path) app_usage_error(state, "-m PATH: the model is missing");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void print_object(const char *title, const json_t *object)
{
    const char *key;
    json_t *value;
    (void)printf("%s\n", title);
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        (void)printf("  %-44s %s\n", key, text ? text : "?");
        free(text);
    }
}

static void print_memory(const json_t *memory)
{
    static const char *const parts[] = {"weights", "kv", "buffers", "total"};
    (void)printf("memory for %d sequence(s) of %d positions, cache %s\n",
                 (int)json_integer_value(json_object_get(memory, "n_seqs")),
                 (int)json_integer_value(json_object_get(memory, "n_ctx")),
                 json_string_value(json_object_get(memory, "kv_type")));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        (void)printf("  %-44s %.3f GiB\n", parts[i],
                     (double)json_integer_value(json_object_get(memory, parts[i])) / 0x1p30);
}

static void print_tensors(const json_t *tensors)
{
    size_t i;
    json_t *t;
    (void)printf("%zu tensors\n", json_array_size(tensors));
    json_array_foreach((json_t *)(uintptr_t)tensors, i, t)
    {
        char *shape = json_dumps(json_object_get(t, "shape"), 0);
        (void)printf("  %-44s %-6s %s\n", json_string_value(json_object_get(t, "name")),
                     json_string_value(json_object_get(t, "type")), shape ? shape : "?");
        free(shape);
    }
}

static void print_human(const json_t *root)
{
    (void)printf("%s (%s)\n", json_string_value(json_object_get(root, "path")),
                 json_string_value(json_object_get(root, "form")));
    print_object("model", json_object_get(root, "config"));
    print_memory(json_object_get(root, "memory"));
    print_object("tokenizer", json_object_get(root, "tokenizer"));
    if (json_object_get(root, "metadata")) print_object("metadata", json_object_get(root, "metadata"));
    print_tensors(json_object_get(root, "tensors"));
}

int app_inspect(int argc, char **argv)
{
    static const struct argp argp = {
        options, parse_option, "[MODEL]", "Shows what a model file holds and what it takes to run.",
        NULL,    NULL,         NULL};
    inspect_options o = {.n_seqs = 1, .kv_dtype = LF_DTYPE_BF16};
    lf_error err = {0};
    char *text = NULL;
    int code = 0;
    app_parse_args(&argp, argc, argv, &o);
    if (lf_inspect(o.model_path, o.n_ctx, o.n_seqs, o.kv_dtype, &text, &err) != LF_OK) return app_fail(&err);
    json_t *root = json_loads(text, JSON_ALLOW_NUL, NULL);
    free(text);
    if (o.json_path) {
        FILE *f = app_open_json(o.json_path);
        code = f ? app_write_json(f, o.json_path, json_incref(root)) : EXIT_FAIL;
        code = app_close_json(f, o.json_path, code);
    } else {
        print_human(root);
    }
    json_decref(root);
    return code;
}
