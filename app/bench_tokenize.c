/* lookfar bench tokenize: how fast a text becomes tokens. The measuring is bench/tokenize.c. */
#include "bench.h"

#include "../bench/tokenize.h"
#include "base/map.h"

enum { OPT_REPS = 0x300, OPT_JSON };

enum { TOKENIZERS_MAX = 32 };

typedef struct command {
    const char *tokenizers[TOKENIZERS_MAX];
    int n_tokenizers;
    const char *text_path, *json_path;
    int reps;
    FILE *json, *table;
    bool has_head;
    bool failed; /* a result could not be written, which was told */
} command;

static const struct argp_option options[] = {
    {"file", 'f', "FILE", 0, "the text", 0},
    {"reps", OPT_REPS, "N", 0, "repetitions after one that is not counted (default: 5)", 0},
    {"json", OPT_JSON, "FILE", 0, "write a JSON object for each length to FILE (-: standard output)", 0},
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    command *c = state->input;
    switch (key) {
    case 'f': c->text_path = arg; return 0;
    case OPT_REPS: c->reps = (int)app_parse_int(state, "--reps", arg, 1, BENCH_REPS_MAX); return 0;
    case OPT_JSON: c->json_path = arg; return 0;
    case ARGP_KEY_ARG:
        if (c->n_tokenizers == TOKENIZERS_MAX)
            app_usage_error(state, "found more than %d tokenizers", TOKENIZERS_MAX);
        c->tokenizers[c->n_tokenizers++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (c->n_tokenizers == 0) app_usage_error(state, "expected a tokenizer");
        if (!c->text_path) app_usage_error(state, "expected --file FILE");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void on_result(void *cookie, const bench_tokenize_result *r)
{
    command *c = cookie;
    const double mb = (double)r->n_bytes * 1e-6;
    if (!c->has_head) (void)fprintf(c->table, "| tokenizer | MB | tokens | MB/s |\n|---|---|---|---|\n");
    c->has_head = true;
    (void)fprintf(c->table, "| %s | %.2f | %zu | %.2f (%.2f-%.2f) |\n", r->tokenizer, mb, r->n_tokens,
                  mb / r->seconds.median, mb / r->seconds.max, mb / r->seconds.min);
    if (!c->json || c->failed) return;
    json_t *o = json_pack("{s:s, s:I, s:I, s:f, s:f, s:f}", "tokenizer", r->tokenizer, "bytes",
                          (json_int_t)r->n_bytes, "tokens", (json_int_t)r->n_tokens, "mb_per_s",
                          mb / r->seconds.median, "mb_per_s_min", mb / r->seconds.max, "mb_per_s_max",
                          mb / r->seconds.min);
    c->failed = app_write_json(c->json, c->json_path, o) != 0;
}

int app_bench_tokenize(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse_option,
        "TOKENIZER...",
        "Measures encoding: megabytes of text per second on one thread, median of the repetitions (and the "
        "extremes), for the first eighth, quarter, half and the whole of a text. "
        "TOKENIZER is a GGUF file, a model folder or a tokenizer's file.",
        NULL,
        NULL,
        NULL};
    command c = {.reps = 5, .table = stdout};
    lf_error err = {0};
    lf_map text = {0};
    app_parse_args(&argp, argc, argv, &c);
    lf_status status = lf_map_open(&text, c.text_path, &err);
    if (status != LF_OK) return app_fail(&err);
    int code = EXIT_FAIL;
    if (c.json_path) {
        c.json = app_open_json(c.json_path);
        if (!c.json) goto done;
        if (c.json == stdout) c.table = stderr;
    }
    for (int i = 0; i < c.n_tokenizers && status == LF_OK; i++)
        status = bench_run_tokenize(c.tokenizers[i], (const char *)text.data, text.size, c.reps, on_result,
                                    &c, &err);
    code = status != LF_OK ? app_fail(&err) : c.failed ? EXIT_FAIL : 0;
    code = app_close_json(c.json, c.json_path, code);
done:
    lf_map_close(&text);
    return code;
}
