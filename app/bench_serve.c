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
    OPT_ROUNDS,
    OPT_JSON,
};

enum {
    REQUESTS_MAX = 100000,
    ROUNDS_MAX = 25,
    ENGINES_MAX = BENCH_LIST_MAX + 1,
    REPEATS_MAX = 8,
    SERVER_ARGS_MAX = 16,
    READY_SECONDS = 600,
    SAMPLE_CHARACTERS = 4000,
};

typedef struct command {
    app_bench_output out; /* first: see app_bench_progress */
    const char *model_path, *text_path, *url, *peer_url, *key, *n_ctx, *n_threads, *parallel;
    bench_names workloads, proposers, rates;
    int n_requests, n_predict, n_rounds;
    double ttft_goal, tpot_goal;
    uint64_t seed;

    /* from here on: while it runs */
    lf_bytes text;
    pid_t pid; /* of the server that was started, or 0 */
    bench_server server, peer;
    int context;                 /* of the server */
    double characters_per_token; /* of the text */
    int n_cells;                 /* so far: marks their prompts */
} command;

static const struct argp_option options[] = {
    {"model", 'm', "PATH", 0, "start a server with this model", 0},
    {"url", OPT_URL, "URL", 0, "or use one that runs: http://HOST:PORT", 0},
    {"peer", OPT_PEER, "URL", 0, "another server with the same API, whose cells take turns with these", 0},
    {"api-key", OPT_KEY, "KEY", 0, "for both", 0},
    {"file", 'f', "FILE", 0, "the text that prompts are cut from: a novel", 0},
    {"workload", OPT_WORKLOAD, "LIST", 0,
     "long: prompts of an eighth to three quarters of the context; short: up to 64 tokens; repeat: prompts of half "
     "the context one by one, each a first time and again (default: long,short)",
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
    {"rounds", OPT_ROUNDS, "N", 0,
     "measure each cell N times, taking turns, and tell the medians (default: 1)", 0},
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
    case OPT_ROUNDS: c->n_rounds = (int)app_parse_int(state, "--rounds", arg, 1, ROUNDS_MAX); return 0;
    case OPT_JSON: c->out.json_path = arg; return 0;
    case 'q': c->out.quiet = true; return 0;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg); return 0;
    case ARGP_KEY_END:
        if (!c->model_path == !c->url || !c->text_path)
            app_usage_error(state, "expected --model PATH or --url URL, and --file FILE");
        for (int i = 0; i < c->workloads.n; i++)
            if (strcmp(c->workloads.v[i], "long") != 0 && strcmp(c->workloads.v[i], "short") != 0 &&
                strcmp(c->workloads.v[i], "repeat") != 0)
                app_usage_error(state, "--workload: found \"%s\", expected long, short or repeat",
                                c->workloads.v[i]);
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

static lf_status read_text(lf_bytes *out, const char *path, lf_error *err)
{
    const lf_status status = app_read_text(out, path, err);
    if (status != LF_OK || out->len >= SAMPLE_CHARACTERS) return status;
    return lf_fail(err, LF_EINVAL, "%s: found %zu bytes, expected at least %d", path, out->len,
                   SAMPLE_CHARACTERS);
}

static double next_share(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* A piece of the text that begins and ends between characters, after the number of its cell: what one cell has left in a server's
 * prefix cache must not serve the next. */
static json_t *cut_prompt(const command *c, double n_tokens, uint64_t *rng)
{
    size_t len = (size_t)(n_tokens * c->characters_per_token);
    if (len > c->text.len) len = c->text.len;
    size_t begin = (size_t)(next_share(rng) * (double)(c->text.len - len)), end = begin + len;
    while (begin < end && ((unsigned char)c->text.data[begin] & 0xC0) == 0x80) begin++;
    while (end > begin && end < c->text.len && ((unsigned char)c->text.data[end] & 0xC0) == 0x80) end--;
    lf_bytes prompt = {0};
    json_t *json = NULL;
    if (lf_bytes_printf(&prompt, "%d ", c->n_cells) &&
        lf_bytes_append(&prompt, c->text.data + begin, end - begin))
        json = app_text_json(prompt.data, prompt.len);
    lf_bytes_free(&prompt);
    return json;
}

static double prompt_tokens(const command *c, const char *workload, double share)
{
    if (strcmp(workload, "long") == 0) return c->context * (0.125 + 0.625 * share);
    if (strcmp(workload, "repeat") == 0) return c->context * 0.5;
    return 8 + 56 * share;
}

/* The same prompts for every proposer and rate. proposer NULL: a peer's, which has none. */
static json_t *make_body(const command *c, const char *workload, const char *proposer, uint64_t *rng)
{
    const double room = (c->context - c->n_predict) * 0.9; /* the estimate may be off */
    double n_tokens = prompt_tokens(c, workload, next_share(rng));
    if (n_tokens > room) n_tokens = room;
    json_t *body = json_pack("{s:o, s:i, s:i, s:b, s:b, s:{s:b}}", "prompt", cut_prompt(c, n_tokens, rng),
                             "max_tokens", c->n_predict, "temperature", 0, "stream", 1, "ignore_eos", 1,
                             "stream_options", "include_usage", 1);
    if (proposer) (void)json_object_set_new(body, "speculative", json_pack("{s:s}", "proposer", proposer));
    return body;
}

/* ---- cells ---- */

/* What one measurement gave; seconds of the server's own counters over it, or NAN. */
typedef struct outcome {
    bench_http_result http;
    double schedule_seconds, propose_seconds, forward_seconds, pick_seconds; /* of steps */
    double emit_seconds;                                                     /* of the picks' */
    double http_seconds;    /* processor time of the thread that speaks HTTP */
    double between_seconds; /* the steps; 0 with a rate, at which the engine is idle, too */
} outcome;

/* The names of these counters. */
static const struct {
    const char *name;
    size_t member;
} counters[] = {
    {"schedule_seconds_total", offsetof(outcome, schedule_seconds)},
    {"propose_seconds_total", offsetof(outcome, propose_seconds)},
    {"forward_seconds_total", offsetof(outcome, forward_seconds)},
    {"pick_seconds_total", offsetof(outcome, pick_seconds)},
    {"emit_seconds_total", offsetof(outcome, emit_seconds)},
    {"http_cpu_seconds_total", offsetof(outcome, http_seconds)},
};

enum { N_COUNTERS = sizeof counters / sizeof *counters };

static double *counter_of(outcome *o, int i)
{
    void *at = (char *)o + counters[i].member;
    return at;
}

static const bench_column columns[] = {
    {"workload", 8, true, false},  {"engine", 8, true, false},        {"proposer", 8, true, false},
    {"rate", 6, true, false},      {"TTFT p50 ms", 11, false, false}, {"p95", 9, false, false},
    {"p99", 9, false, false},      {"TPOT p50 ms", 11, false, false}, {"p95", 9, false, false},
    {"p99", 9, false, false},      {"tok/s", 9, false, false},        {"goodput/s", 9, false, false},
    {"server %", 8, false, false}, {"errors", 6, false, false},
};

enum { N_COLUMNS = sizeof columns / sizeof *columns };

static double step_seconds(const outcome *o)
{
    return o->schedule_seconds + o->propose_seconds + o->forward_seconds + o->pick_seconds;
}

/* What the server costs besides the model, as a share of steps: HTTP and JSON; scheduling; the text of tokens and handing them over;
 * and the time between steps. */
static double server_share(const outcome *o)
{
    return (o->http_seconds + o->schedule_seconds + o->emit_seconds + o->between_seconds) / step_seconds(o);
}

static lf_status tell(command *c, const char *workload, const char *proposer, const char *rate,
                      const outcome *o)
{
    const bench_http_result *r = &o->http;
    const bool is_busy = strcmp(rate, "inf") == 0;
    const double share = server_share(o);
    char cells[N_COLUMNS][BENCH_CELL_MAX], (*cell)[BENCH_CELL_MAX] = cells;
    const char *engine = proposer ? "lookfar" : "peer";
    if (app_bench_begin_result(&c->out)) bench_table_head(c->out.table, columns, N_COLUMNS, false);
    bench_cell_text(*cell++, workload);
    bench_cell_text(*cell++, engine);
    bench_cell_text(*cell++, proposer ? proposer : "");
    bench_cell_text(*cell++, rate);
    bench_cell_number(*cell++, r->ttft_p50 * 1e3);
    bench_cell_number(*cell++, r->ttft_p95 * 1e3);
    bench_cell_number(*cell++, r->ttft_p99 * 1e3);
    bench_cell_number(*cell++, r->tpot_p50 * 1e3);
    bench_cell_number(*cell++, r->tpot_p95 * 1e3);
    bench_cell_number(*cell++, r->tpot_p99 * 1e3);
    bench_cell_number(*cell++, r->throughput);
    bench_cell_number(*cell++, r->goodput);
    bench_cell_number(*cell++, share * 100);
    bench_cell_count(*cell, r->errors);
    bench_table_row(c->out.table, columns, cells, N_COLUMNS, false);
    json_t *json = json_pack("{s:s, s:s, s:s?, s:o, s:i, s:i, s:i, s:i}", "workload", workload, "engine",
                             engine, "proposer", proposer, "rate",
                             is_busy ? json_null() : json_real(strtod(rate, NULL)), "requests", c->n_requests,
                             "rounds", c->n_rounds, "tokens", r->n_tokens, "errors", r->errors);
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"ttft_p50", r->ttft_p50},
                   {"ttft_p95", r->ttft_p95},
                   {"ttft_p99", r->ttft_p99},
                   {"tpot_p50", r->tpot_p50},
                   {"tpot_p95", r->tpot_p95},
                   {"tpot_p99", r->tpot_p99},
                   {"throughput", r->throughput},
                   {"goodput", r->goodput},
                   {"seconds", r->seconds},
                   {"step_seconds", step_seconds(o)},
                   {"schedule_seconds", o->schedule_seconds},
                   {"emit_seconds", o->emit_seconds},
                   {"http_seconds", o->http_seconds},
                   {"between_seconds", o->between_seconds},
                   {"server_share", share}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        (void)json_object_set_new(json, numbers[i].key,
                                  isfinite(numbers[i].value) ? json_real(numbers[i].value) : json_null());
    return app_bench_write_json(&c->out, json);
}

/* ---- the server's own counters ---- */

/* The sum of a counter's lines, whatever prefix it has; NAN: none. */
static double counter(const char *text, const char *name)
{
    double sum = NAN;
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        const size_t len = strcspn(line, " {\n"), n = strlen(name);
        if (*line == '#' || len < n || strncmp(line + len - n, name, n) != 0) continue;
        const char *value = strchr(line, ' ');
        if (value) sum = (isnan(sum) ? 0 : sum) + strtod(value, NULL);
    }
    return sum;
}

/* Adds sign times what a server counts; a peer counts nothing that is known here. */
static lf_status count_seconds(const command *c, outcome *o, double sign, lf_error *err)
{
    char *text;
    const lf_status status = bench_http_get(&text, &c->server, "/metrics", err);
    if (status != LF_OK) return status;
    for (int i = 0; i < N_COUNTERS; i++) *counter_of(o, i) += sign * counter(text, counters[i].name);
    free(text);
    return LF_OK;
}

/* ---- measuring ---- */

/* Sends bodies to the server, or with proposer NULL to the peer. */
static lf_status measure(command *c, outcome *out, const char *proposer, json_t **bodies, int n, double rate,
                         lf_error *err)
{
    lf_status status = LF_OK;
    const bench_http_load load = {.server = proposer ? &c->server : &c->peer,
                                  .bodies = bodies,
                                  .n = n,
                                  .rate = rate,
                                  .seed = c->seed,
                                  .ttft_goal = c->ttft_goal,
                                  .tpot_goal = c->tpot_goal,
                                  .timeout = READY_SECONDS,
                                  .canceled = app_bench_canceled,
                                  .on_progress = app_bench_progress,
                                  .cookie = c};
    *out = (outcome){0};
    for (int i = 0; !proposer && i < N_COUNTERS; i++) *counter_of(out, i) = NAN;
    if (proposer) LF_TRY(count_seconds(c, out, -1, err));
    LF_TRY(bench_http_run(&out->http, &load, err));
    if (proposer) LF_TRY(count_seconds(c, out, 1, err));
    if (rate == 0) out->between_seconds = out->http.seconds - step_seconds(out);
done:
    return status;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of a member of outcomes (n). */
static double median_of(const outcome *outcomes, int n, size_t offset)
{
    double values[ROUNDS_MAX] = {0};
    for (int i = 0; i < n; i++) memcpy(&values[i], (const char *)&outcomes[i] + offset, sizeof *values);
    qsort(values, (size_t)n, sizeof *values, compare_doubles);
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

/* Medians of all times and rates; tokens and errors added up. */
static outcome sum_up(const outcome *outcomes, int n)
{
    static const size_t members[] = {offsetof(outcome, http.ttft_p50), offsetof(outcome, http.ttft_p95),
                                     offsetof(outcome, http.ttft_p99), offsetof(outcome, http.tpot_p50),
                                     offsetof(outcome, http.tpot_p95), offsetof(outcome, http.tpot_p99),
                                     offsetof(outcome, http.goodput),  offsetof(outcome, http.throughput),
                                     offsetof(outcome, http.seconds),  offsetof(outcome, between_seconds)};
    outcome sum = {0};
    for (int i = 0; i < N_COUNTERS; i++) *counter_of(&sum, i) = median_of(outcomes, n, counters[i].member);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const double median = median_of(outcomes, n, members[i]);
        memcpy((char *)&sum + members[i], &median, sizeof median);
    }
    for (int i = 0; i < n; i++) {
        sum.http.n_tokens += outcomes[i].http.n_tokens;
        sum.http.errors += outcomes[i].http.errors;
    }
    return sum;
}

static lf_status run_cell(command *c, outcome *out, const char *workload, const char *proposer,
                          const char *rate, lf_error *err)
{
    uint64_t rng = c->seed;
    json_t **bodies = calloc((size_t)c->n_requests, sizeof(json_t *));
    if (!bodies) return lf_fail_memory(err, "requests", (size_t)c->n_requests * sizeof(json_t *));
    c->n_cells++;
    for (int i = 0; i < c->n_requests; i++) bodies[i] = make_body(c, workload, proposer, &rng);
    const lf_status status = measure(c, out, proposer, bodies, c->n_requests,
                                     strcmp(rate, "inf") == 0 ? 0 : strtod(rate, NULL), err);
    for (int i = 0; i < c->n_requests; i++) json_decref(bodies[i]);
    free(bodies);
    return status;
}

/* Prompts one by one, each a first time and again, when the server may remember it. */
static lf_status run_repeats(command *c, const char *workload, const char *proposer, lf_error *err)
{
    lf_status status = LF_OK;
    outcome first[REPEATS_MAX], again[REPEATS_MAX], sum;
    uint64_t rng = c->seed;
    const int n = c->n_requests < REPEATS_MAX ? c->n_requests : REPEATS_MAX;
    json_t *body = NULL;
    c->n_cells++;
    for (int i = 0; i < n; i++) {
        json_decref(body);
        body = make_body(c, workload, proposer, &rng);
        LF_TRY(measure(c, &first[i], proposer, &body, 1, 0, err));
        LF_TRY(measure(c, &again[i], proposer, &body, 1, 0, err));
    }
    sum = sum_up(first, n);
    LF_TRY(tell(c, "first", proposer, "inf", &sum));
    sum = sum_up(again, n);
    status = tell(c, "again", proposer, "inf", &sum);
done:
    json_decref(body);
    return status;
}

/* The engines of a cell take turns. */
static lf_status run_rounds(command *c, const char *workload, const char *rate, lf_error *err)
{
    lf_status status = LF_OK;
    outcome outcomes[ENGINES_MAX][ROUNDS_MAX];
    const int n_engines = c->proposers.n + (c->peer_url != NULL);
    for (int i = 0; i < c->n_rounds; i++)
        for (int k = 0; k < n_engines; k++)
            LF_TRY(run_cell(c, &outcomes[k][i], workload, k < c->proposers.n ? c->proposers.v[k] : NULL, rate,
                            err));
    for (int k = 0; k < n_engines; k++) {
        const outcome sum = sum_up(outcomes[k], c->n_rounds);
        LF_TRY(tell(c, workload, k < c->proposers.n ? c->proposers.v[k] : NULL, rate, &sum));
    }
done:
    return status;
}

static lf_status run_cells(command *c, lf_error *err)
{
    lf_status status = LF_OK;
    for (int w = 0; w < c->workloads.n; w++) {
        const char *workload = c->workloads.v[w];
        const bool repeats = strcmp(workload, "repeat") == 0;
        for (int p = 0; repeats && p < c->proposers.n; p++)
            LF_TRY(run_repeats(c, workload, c->proposers.v[p], err));
        if (repeats && c->peer_url) LF_TRY(run_repeats(c, workload, NULL, err));
        for (int r = 0; !repeats && r < c->rates.n; r++) LF_TRY(run_rounds(c, workload, c->rates.v[r], err));
    }
done:
    return status;
}

static lf_status run(command *c, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(read_text(&c->text, c->text_path, err));
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
    command c = {.parallel = "16",
                 .n_requests = 64,
                 .n_predict = 64,
                 .n_rounds = 1,
                 .ttft_goal = 2,
                 .tpot_goal = 0.1,
                 .seed = 1};
    lf_error err = {0};
    (void)bench_parse_names(&c.workloads, "long,short", NULL);
    (void)bench_parse_names(&c.proposers, "none,auto", NULL);
    (void)bench_parse_names(&c.rates, "inf", NULL);
    app_parse_args(&argp, argc, argv, &c);
    if (!app_bench_open(&c.out)) return EXIT_FAIL;
    return app_bench_close(&c.out, run(&c, &err), &err);
}
