#include "metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Buckets of vLLM's size, finer at the lower end: small models are fast. */
static const serve_bounds seconds_bounds = {20,
                                            {0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25,
                                             0.5,   0.75,   1,     2.5,  5,    7.5,  10,   20,   40,  80}};
static const serve_bounds token_seconds_bounds = {
    16, {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1}};
static const serve_bounds long_bounds = {
    17, {0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 60, 120, 480}};
static const serve_bounds token_bounds = {
    18, {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000}};

static const struct {
    const char *name, *help;
    const serve_bounds *bounds;
} histograms[SERVE_HISTOGRAMS] = {
    [SERVE_TTFT] = {"time_to_first_token_seconds", "From a request to its first token", &seconds_bounds},
    [SERVE_INTER_TOKEN] = {"inter_token_latency_seconds",
                           "From a token to the next; those of one pass come together",
                           &token_seconds_bounds},
    [SERVE_E2E] = {"e2e_request_latency_seconds", "From a request to its end", &long_bounds},
    [SERVE_QUEUE] = {"request_queue_time_seconds", "Waiting for a place", &seconds_bounds},
    [SERVE_PREFILL] = {"request_prefill_time_seconds", "Reading the prompt", &seconds_bounds},
    [SERVE_DECODE] = {"request_decode_time_seconds", "From the first token to the last", &long_bounds},
    [SERVE_PROMPT_TOKENS] = {"request_prompt_tokens", "Tokens of a prompt", &token_bounds},
    [SERVE_OUTPUT_TOKENS] = {"request_generation_tokens", "Tokens of an output", &token_bounds},
};

void serve_metrics_observe(serve_metrics *m, serve_histogram_id id, double value)
{
    const serve_bounds *bounds = histograms[id].bounds;
    int i = 0;
    while (i < bounds->n && value > bounds->v[i]) i++;
    m->histograms[id].counts[i]++;
    m->histograms[id].sum += value;
}

/* ---- text ---- */

typedef struct writer {
    lf_bytes *out;
    const char *prefix;
    char label[256]; /* model_name="..." */
    bool ok;
} writer;

static void put(writer *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(writer *w, const char *fmt, ...)
{
    char line[1024];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    w->ok = w->ok && n >= 0 && (size_t)n < sizeof line && lf_bytes_append(w->out, line, (size_t)n);
}

static void put_head(writer *w, const char *name, const char *type, const char *help)
{
    put(w, "# HELP %s%s %s.\n# TYPE %s%s %s\n", w->prefix, name, help, w->prefix, name, type);
}

static void put_value(writer *w, const char *name, const char *type, const char *help, double value)
{
    put_head(w, name, type, help);
    put(w, "%s%s{%s} %.9g\n", w->prefix, name, w->label, value);
}

static void put_histogram(writer *w, serve_histogram_id id, const serve_histogram *h)
{
    const char *name = histograms[id].name;
    const serve_bounds *bounds = histograms[id].bounds;
    uint64_t n = 0;
    put_head(w, name, "histogram", histograms[id].help);
    for (int i = 0; i < bounds->n; i++) {
        n += h->counts[i];
        put(w, "%s%s_bucket{%s,le=\"%.9g\"} %" PRIu64 "\n", w->prefix, name, w->label, bounds->v[i], n);
    }
    n += h->counts[bounds->n];
    put(w, "%s%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", w->prefix, name, w->label, n);
    put(w, "%s%s_sum{%s} %.9g\n%s%s_count{%s} %" PRIu64 "\n", w->prefix, name, w->label, h->sum, w->prefix,
        name, w->label, n);
}

/* The label's value: quotes, backslashes and line ends escaped, what does not fit left out. */
static void set_label(writer *w, const char *model)
{
    static const char head[] = "model_name=\"";
    size_t n = sizeof head - 1;
    memcpy(w->label, head, n);
    for (; *model && n + 4 < sizeof w->label; model++) {
        if (*model == '"' || *model == '\\' || *model == '\n') w->label[n++] = '\\';
        w->label[n++] = (char)(*model == '\n' ? 'n' : *model);
    }
    w->label[n++] = '"';
    w->label[n] = '\0';
}

static void put_counters(writer *w, const serve_metrics *m)
{
    const struct {
        const char *name, *type, *help;
        double value;
    } values[] = {
        {"num_requests_running", "gauge", "Requests that have a place in the passes", m->running},
        {"num_requests_waiting", "gauge", "Requests that wait for one", m->waiting},
        {"prompt_tokens_total", "counter", "Tokens of prompts", (double)m->prompt_tokens},
        {"generation_tokens_total", "counter", "Tokens of outputs", (double)m->output_tokens},
        {"prefix_cache_queries_total", "counter", "Prompt tokens looked up in the prefix cache",
         (double)m->prompt_tokens},
        {"prefix_cache_hits_total", "counter", "Prompt tokens found in the prefix cache",
         (double)m->cached_tokens},
        {"iterations_total", "counter", "Passes over the model", (double)m->steps},
        {"prefill_rows_total", "counter", "Rows of prompts in passes", (double)m->prefill_rows},
        {"decode_rows_total", "counter", "Rows of last tokens and candidates in passes",
         (double)m->decode_rows},
        {"propose_seconds_total", "counter", "Time that proposers took", m->propose_seconds},
        {"forward_seconds_total", "counter", "Time that passes took", m->forward_seconds},
        {"pick_seconds_total", "counter", "Time that picks and what follows took", m->pick_seconds},
        {"spec_decode_num_drafts_total", "counter", "Passes of requests that had candidates",
         (double)m->drafted_passes},
        {"spec_decode_num_draft_tokens_total", "counter", "Candidates verified", (double)m->proposed},
        {"spec_decode_num_accepted_tokens_total", "counter", "Candidates accepted", (double)m->accepted},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        put_value(w, values[i].name, values[i].type, values[i].help, values[i].value);
}

bool serve_metrics_write(lf_bytes *out, const serve_metrics *m, const char *prefix, const char *model)
{
    writer w = {.out = out, .prefix = prefix, .ok = true};
    set_label(&w, model);
    put_counters(&w, m);
    put_head(&w, "request_success_total", "counter", "Finished requests, by reason");
    for (int finish = LF_FINISH_STOP; finish <= LF_FINISH_ERROR; finish++)
        put(&w, "%srequest_success_total{%s,finished_reason=\"%s\"} %" PRIu64 "\n", prefix, w.label,
            lf_finish_name((lf_finish)finish), m->finished[finish]);
    for (int id = 0; id < SERVE_HISTOGRAMS; id++)
        put_histogram(&w, (serve_histogram_id)id, &m->histograms[id]);
    return w.ok;
}
