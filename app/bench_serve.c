/* lookfar bench serve: request rates against a server, its own or another. The load is bench/http_load.c. */
#include "bench.h"

#include "../bench/http_load.h"
#include "../bench/table.h"

#include "base/mem.h"
#include "base/status.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    OPT_URL = 0x300,
    OPT_PEER,
    OPT_KEY,
    OPT_WORKLOAD,
    OPT_PROPOSER,
    OPT_RATE,
    OPT_REQUESTS,
    OPT_PARALLEL,
    OPT_TTFT_GOAL,
    OPT_TPOT_GOAL,
    OPT_SEED,
    OPT_JSON,
};

enum { REQUESTS_MAX = 100000, SERVER_ARGS_MAX = 16, READY_SECONDS = 600, SAMPLE_CHARACTERS = 4000 };

typedef struct command {
    app_bench_output out; /* first: see app_bench_progress */
    const char *model_path, *text_path, *url, *peer_url, *key, *n_ctx, *n_threads, *parallel;
    bench_names workloads, proposers, rates;
    int n_requests, n_predict;
    double ttft_goal, tpot_goal;
    uint64_t seed;

    /* from here on: while it runs */
    lf_bytes text;
    pid_t pid; /* of the server that was started, or 0 */
    bench_server server, peer;
    int context;                 /* of the server */
    double characters_per_token; /* of the text */
} command;

static const struct argp_option options[] = {
    {"model", 'm', "PATH", 0, "start a server with this model", 0},
    {"url", OPT_URL, "URL", 0, "or use one that runs: http://HOST:PORT", 0},
    {"peer", OPT_PEER, "URL", 0, "another server with the same API, whose cells take turns with these", 0},
    {"api-key", OPT_KEY, "KEY", 0, "for both", 0},
    {"file", 'f', "FILE", 0, "the text that prompts are cut from: a novel", 0},
    {"workload", OPT_WORKLOAD, "LIST", 0,
     "long: prompts of an eighth to three quarters of the context; short: up to 64 tokens (default: both)",
     0},
    {"proposer", OPT_PROPOSER, "LIST", 0, "none, auto, ngram, ... (default: none,auto)", 0},
    {"rate", OPT_RATE, "LIST", 0, "requests a second, arriving at random; inf: all at once (default: inf)",
     0},
    {"requests", OPT_REQUESTS, "N", 0, "requests of a cell (default: 64)", 0},
    {"predict", 'n', "N", 0, "tokens of each answer (default: 64)", 0},
    {"parallel", OPT_PARALLEL, "N", 0, "with -m: requests decoded together (default: 16)", 0},
    {"ctx-size", 'c', "N", 0, "with -m: positions of the context", 0},
    {"threads", 't', "N", 0, "with -m: threads", 0},
    {"ttft-goal", OPT_TTFT_GOAL, "SECONDS", 0, "for the goodput: to the first token (default: 2)", 0},
    {"tpot-goal", OPT_TPOT_GOAL, "SECONDS", 0, "for the goodput: for each token after it (default: 0.1)", 0},
    {"seed", OPT_SEED, "N", 0, "of arrivals and prompts (default: 1)", 0},
    {"json", OPT_JSON, "FILE", 0, "write a JSON object for each cell to FILE (-: standard output)", 0},
    APP_BENCH_OPTION_QUIET,
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    command *c = state->input;
    lf_error err;
    switch (key) {
    case 'm': c->model_path = arg; return 0;
    case 'f': c->text_path = arg; return 0;
    case OPT_URL: c->url = arg; return 0;
    case OPT_PEER: c->peer_url = arg; return 0;
    case OPT_KEY: c->key = arg; return 0;
    case OPT_WORKLOAD:
        app_bench_check_list(state, "--workload", bench_parse_names(&c->workloads, arg, &err), &err);
        return 0;
    case OPT_PROPOSER:
        app_bench_check_list(state, "--proposer", bench_parse_names(&c->proposers, arg, &err), &err);
        return 0;
    case OPT_RATE:
        app_bench_check_list(state, "--rate", bench_parse_names(&c->rates, arg, &err), &err);
        return 0;
    case OPT_REQUESTS:
        c->n_requests = (int)app_parse_int(state, "--requests", arg, 1, REQUESTS_MAX);
        return 0;
    case 'n': c->n_predict = (int)app_parse_int(state, "--predict", arg, 1, BENCH_N_MAX); return 0;
    case OPT_PARALLEL: c->parallel = arg; return 0;
    case 'c': c->n_ctx = arg; return 0;
    case 't': c->n_threads = arg; return 0;
    case OPT_TTFT_GOAL: c->ttft_goal = app_parse_float(state, "--ttft-goal", arg, 0, 1e6); return 0;
    case OPT_TPOT_GOAL: c->tpot_goal = app_parse_float(state, "--tpot-goal", arg, 0, 1e6); return 0;
    case OPT_SEED: c->seed = (uint64_t)app_parse_int(state, "--seed", arg, 0, INT64_MAX); return 0;
    case OPT_JSON: c->out.json_path = arg; return 0;
    case 'q': c->out.quiet = true; return 0;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg); return 0;
    case ARGP_KEY_END:
        if (!c->model_path == !c->url || !c->text_path)
            app_usage_error(state, "expected --model PATH or --url URL, and --file FILE");
        for (int i = 0; i < c->workloads.n; i++)
            if (strcmp(c->workloads.v[i], "long") != 0 && strcmp(c->workloads.v[i], "short") != 0)
                app_usage_error(state, "--workload: found \"%s\", expected long or short", c->workloads.v[i]);
        for (int i = 0; i < c->rates.n; i++)
            if (strcmp(c->rates.v[i], "inf") != 0)
                (void)app_parse_float(state, "--rate", c->rates.v[i], 1e-6, 1e6);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* ---- the server ---- */

static void become_server(const command *c, int err)
{
    const char *args[SERVER_ARGS_MAX] = {"lookfar", "serve",       "-q",         "--port",   "0",
                                         "-m",      c->model_path, "--parallel", c->parallel};
    int n = 9;
    if (c->n_ctx) {
        args[n++] = "-c";
        args[n++] = c->n_ctx;
    }
    if (c->n_threads) {
        args[n++] = "-t";
        args[n++] = c->n_threads;
    }
    if (dup2(err, STDERR_FILENO) >= 0) (void)execv("/proc/self/exe", (char *const *)(uintptr_t)args);
    _exit(EXIT_FAIL);
}

/* Starts a server and learns its port from its first line; what it says otherwise is why it failed. */
static lf_status start_server(command *c, lf_error *err)
{
    int fds[2];
    char line[512] = "";
    if (pipe(fds) != 0) return lf_fail(err, LF_EIO, "a pipe: %s", strerror(errno));
    c->pid = fork();
    if (c->pid == 0) {
        (void)close(fds[0]);
        become_server(c, fds[1]);
    }
    (void)close(fds[1]);
    FILE *log = fdopen(fds[0], "r");
    const bool has_line = c->pid > 0 && log && fgets(line, sizeof line, log);
    if (log) (void)fclose(log);
    line[strcspn(line, "\n")] = '\0';
    const char *url = strstr(line, "http://");
    if (has_line && url) return bench_parse_server(&c->server, url, err);
    return lf_fail(err, LF_EIO, "the server did not start: %s", has_line ? line : "it said nothing");
}

/* Waits until the model is loaded, and asks for what the prompts depend on. */
static lf_status learn_server(command *c, lf_error *err)
{
    lf_status status = LF_EIO;
    json_t *models = NULL, *tokens = NULL, *body = NULL;
    for (int i = 0; status != LF_OK && i < READY_SECONDS * 10; i++) {
        if (app_interrupted) return lf_fail(err, LF_ECANCELED, "interrupted");
        status = bench_http_call(&models, &c->server, "/v1/models", NULL, err);
        if (status != LF_OK) (void)usleep(100000);
        if (c->pid > 0 && waitpid(c->pid, NULL, WNOHANG) == c->pid) {
            c->pid = 0;
            break;
        }
    }
    if (status != LF_OK) goto done;
    const json_t *model = json_array_get(json_object_get(models, "data"), 0);
    c->context = (int)json_integer_value(json_object_get(model, "max_model_len"));
    if (c->context < 64)
        LF_TRY(lf_fail(err, LF_EIO, "the server: found no max_model_len of 64 tokens or more"));
    const size_t n = c->text.len < SAMPLE_CHARACTERS ? c->text.len : SAMPLE_CHARACTERS;
    body = json_pack("{s:o}", "content", app_text_json(c->text.data, n));
    LF_TRY(bench_http_call(&tokens, &c->server, "/tokenize", body, err));
    const size_t n_tokens = json_array_size(json_object_get(tokens, "tokens"));
    c->characters_per_token = (double)n / (double)(n_tokens ? n_tokens : 1);
done:
    json_decref(models);
    json_decref(tokens);
    json_decref(body);
    return status;
}

/* ---- prompts ---- */

static lf_status read_file(lf_bytes *out, const char *path, lf_error *err)
{
    char block[1 << 14];
    size_t n;
    lf_status status = LF_OK;
    FILE *f = fopen(path, "rb");
    if (!f) return lf_fail(err, LF_EIO, "%s: cannot open: %s", path, strerror(errno));
    while (status == LF_OK && (n = fread(block, 1, sizeof block, f)) > 0)
        if (!lf_bytes_append(out, block, n)) status = lf_fail_memory(err, path, out->len);
    if (ferror(f)) status = lf_fail(err, LF_EIO, "%s: cannot read: %s", path, strerror(errno));
    if (status == LF_OK && out->len < SAMPLE_CHARACTERS)
        status = lf_fail(err, LF_EINVAL, "%s: found %zu bytes, expected at least %d", path, out->len,
                         SAMPLE_CHARACTERS);
    (void)fclose(f);
    return status;
}

static double next_share(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* A piece of the text that begins and ends between characters. */
static json_t *cut_prompt(const command *c, double n_tokens, uint64_t *rng)
{
    size_t len = (size_t)(n_tokens * c->characters_per_token);
    if (len > c->text.len) len = c->text.len;
    size_t begin = (size_t)(next_share(rng) * (double)(c->text.len - len)), end = begin + len;
    while (begin < end && ((unsigned char)c->text.data[begin] & 0xC0) == 0x80) begin++;
    while (end > begin && end < c->text.len && ((unsigned char)c->text.data[end] & 0xC0) == 0x80) end--;
    return app_text_json(c->text.data + begin, end - begin);
}

/* The same prompts for every proposer and rate. proposer NULL: a peer's, which has none. */
static json_t *make_body(const command *c, const char *workload, const char *proposer, uint64_t *rng)
{
    const double share = next_share(rng);
    const int room = c->context - c->n_predict;
    double n_tokens = strcmp(workload, "long") == 0 ? c->context * (0.125 + 0.625 * share) : 8 + 56 * share;
    if (n_tokens > room * 0.9) n_tokens = room * 0.9; /* the estimate may be off */
    json_t *body = json_pack("{s:o, s:i, s:i, s:b, s:b, s:{s:b}}", "prompt", cut_prompt(c, n_tokens, rng),
                             "max_tokens", c->n_predict, "temperature", 0, "stream", 1, "ignore_eos", 1,
                             "stream_options", "include_usage", 1);
    if (proposer) (void)json_object_set_new(body, "speculative", json_pack("{s:s}", "proposer", proposer));
    return body;
}

/* ---- cells ---- */

static const bench_column columns[] = {
    {"workload", 8, true, false},      {"engine", 8, true, false},    {"proposer", 8, true, false},
    {"rate", 6, true, false},          {"TTFT p50", 9, false, false}, {"p99", 9, false, false},
    {"TPOT p50 ms", 11, false, false}, {"p99", 9, false, false},      {"tok/s", 9, false, false},
    {"goodput/s", 9, false, false},    {"errors", 6, false, false},
};

enum { N_COLUMNS = sizeof columns / sizeof *columns };

static lf_status tell(command *c, const char *workload, const char *proposer, const char *rate,
                      const bench_http_result *r)
{
    char cells[N_COLUMNS][BENCH_CELL_MAX], (*cell)[BENCH_CELL_MAX] = cells;
    const char *engine = proposer ? "lookfar" : "peer";
    if (app_bench_begin_result(&c->out)) bench_table_head(c->out.table, columns, N_COLUMNS, false);
    bench_cell_text(*cell++, workload);
    bench_cell_text(*cell++, engine);
    bench_cell_text(*cell++, proposer ? proposer : "");
    bench_cell_text(*cell++, rate);
    bench_cell_number(*cell++, r->ttft_p50);
    bench_cell_number(*cell++, r->ttft_p99);
    bench_cell_number(*cell++, r->tpot_p50 * 1e3);
    bench_cell_number(*cell++, r->tpot_p99 * 1e3);
    bench_cell_number(*cell++, r->throughput);
    bench_cell_number(*cell++, r->goodput);
    bench_cell_count(*cell, r->errors);
    bench_table_row(c->out.table, columns, cells, N_COLUMNS, false);
    json_t *o = json_pack("{s:s, s:s, s:s?, s:o, s:i, s:i, s:i}", "workload", workload, "engine", engine,
                          "proposer", proposer, "rate",
                          strcmp(rate, "inf") == 0 ? json_null() : json_real(strtod(rate, NULL)), "requests",
                          c->n_requests, "tokens", r->n_tokens, "errors", r->errors);
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"ttft_p50", r->ttft_p50}, {"ttft_p99", r->ttft_p99},     {"tpot_p50", r->tpot_p50},
                   {"tpot_p99", r->tpot_p99}, {"throughput", r->throughput}, {"goodput", r->goodput},
                   {"seconds", r->seconds}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        (void)json_object_set_new(o, numbers[i].key,
                                  isfinite(numbers[i].value) ? json_real(numbers[i].value) : json_null());
    return app_bench_write_json(&c->out, o);
}

static lf_status run_cell(command *c, const char *workload, const char *proposer, const char *rate,
                          lf_error *err)
{
    lf_status status = LF_OK;
    bench_http_result result;
    uint64_t rng = c->seed;
    json_t **bodies = calloc((size_t)c->n_requests, sizeof(json_t *));
    if (!bodies) return lf_fail_memory(err, "requests", (size_t)c->n_requests * sizeof(json_t *));
    for (int i = 0; i < c->n_requests; i++) bodies[i] = make_body(c, workload, proposer, &rng);
    const bench_http_load load = {.server = proposer ? &c->server : &c->peer,
                                  .bodies = bodies,
                                  .n = c->n_requests,
                                  .rate = strcmp(rate, "inf") == 0 ? 0 : strtod(rate, NULL),
                                  .seed = c->seed,
                                  .ttft_goal = c->ttft_goal,
                                  .tpot_goal = c->tpot_goal,
                                  .timeout = READY_SECONDS,
                                  .canceled = app_bench_canceled,
                                  .on_progress = app_bench_progress,
                                  .cookie = c};
    LF_TRY(bench_http_run(&result, &load, err));
    status = tell(c, workload, proposer, rate, &result);
done:
    for (int i = 0; i < c->n_requests; i++) json_decref(bodies[i]);
    free(bodies);
    return status;
}

static lf_status run_cells(command *c, lf_error *err)
{
    lf_status status = LF_OK;
    for (int w = 0; w < c->workloads.n; w++)
        for (int r = 0; r < c->rates.n; r++) {
            for (int p = 0; p < c->proposers.n; p++)
                LF_TRY(run_cell(c, c->workloads.v[w], c->proposers.v[p], c->rates.v[r], err));
            if (c->peer_url) LF_TRY(run_cell(c, c->workloads.v[w], NULL, c->rates.v[r], err));
        }
done:
    return status;
}

static lf_status run(command *c, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(read_file(&c->text, c->text_path, err));
    if (c->url)
        LF_TRY(bench_parse_server(&c->server, c->url, err));
    else
        LF_TRY(start_server(c, err));
    if (c->peer_url) LF_TRY(bench_parse_server(&c->peer, c->peer_url, err));
    c->server.key = c->peer.key = c->key;
    LF_TRY(learn_server(c, err));
    status = run_cells(c, err);
done:
    if (c->pid > 0) {
        (void)kill(c->pid, SIGTERM);
        (void)waitpid(c->pid, NULL, 0);
    }
    lf_bytes_free(&c->text);
    return status;
}

int app_bench_serve(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Measures a server under load: streamed completions that arrive at random times, whether or not those before "
        "them are answered.\v"
        "Lists are separated by commas. All proposers get the same prompts at the same times.",
        NULL,
        NULL,
        NULL};
    command c = {
        .parallel = "16", .n_requests = 64, .n_predict = 64, .ttft_goal = 2, .tpot_goal = 0.1, .seed = 1};
    lf_error err = {0};
    (void)bench_parse_names(&c.workloads, "long,short", NULL);
    (void)bench_parse_names(&c.proposers, "none,auto", NULL);
    (void)bench_parse_names(&c.rates, "inf", NULL);
    app_parse_args(&argp, argc, argv, &c);
    if (!app_bench_open(&c.out)) return EXIT_FAIL;
    return app_bench_close(&c.out, run(&c, &err), &err);
}
