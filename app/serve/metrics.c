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

static void put_counters(writer *w, const lf_engine_stats *s)
{
    const struct {
        const char *name, *help;
        double value;
    } values[] = {
        {"prompt_tokens_total", "Tokens of prompts", (double)s->prompt_tokens},
        {"generation_tokens_total", "Tokens of outputs", (double)s->output_tokens},
        {"prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache",
         (double)s->prompt_tokens},
        {"prefix_cache_hits_total", "Prompt tokens found there", (double)s->cached_tokens},
        {"num_preemptions_total", "Requests that gave up their pages and were read again",
         (double)s->preemptions},
        {"iterations_total", "Passes over the model", (double)s->steps},
        {"request_passes_total", "Passes, for each request that they gave tokens", (double)s->passes},
        {"prefill_rows_total", "Rows of prompts in passes", (double)s->prefill_rows},
        {"decode_rows_total", "Rows of last tokens and candidates in passes", (double)s->decode_rows},
        {"schedule_seconds_total", "Time that choosing rows took", s->schedule_seconds},
        {"propose_seconds_total", "Time that proposers took", s->propose_seconds},
        {"forward_seconds_total", "Time that passes took", s->forward_seconds},
        {"pick_seconds_total", "Time that picks and what follows took", s->pick_seconds},
        {"emit_seconds_total", "Of that, what follows: text, stop strings, callbacks", s->emit_seconds},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        put_value(w, values[i].name, "counter", values[i].help, values[i].value);
}

static void put_gauges(writer *w, const lf_engine_stats *s)
{
    put_value(w, "num_requests_running", "gauge", "Requests that have a place in the passes", s->active);
    put_value(w, "num_requests_waiting", "gauge", "Requests that wait for one", s->queued);
    put_value(w, "kv_cache_usage_perc", "gauge", "Share of the pages that requests use",
              s->pages > 0 ? (double)s->pages_used / s->pages : 0);
    put_value(w, "kv_cache_pages", "gauge", "Pages of the cache", s->pages);
    put_value(w, "kv_cache_pages_cached", "gauge", "Pages kept for requests that may come", s->pages_cached);
}

static void put_labelled(writer *w, const char *name, const char *label, const char *value, int64_t n)
{
    put(w, "%s%s{%s,%s=\"%s\"} %" PRId64 "\n", w->prefix, name, w->label, label, value, n);
}

/* One counter of each proposer. offset: of the member in lf_proposer_stats. */
static void put_by_proposer(writer *w, const lf_engine_stats *s, const char *name, const char *help,
                            size_t offset)
{
    put_head(w, name, "counter", help);
    for (int i = 0; i < s->n_proposers; i++)
        put_labelled(w, name, "proposer", s->proposers[i].name,
                     *(const int64_t *)((const char *)&s->proposers[i] + offset));
}

static void put_by_position(writer *w, const char *name, const char *help,
                            const int64_t counts[LF_DRAFT_LIMIT])
{
    char position[12];
    put_head(w, name, "counter", help);
    for (int i = 0; i < LF_DRAFT_LIMIT; i++) {
        (void)snprintf(position, sizeof position, "%d", i);
        if (counts[i] > 0 || i == 0) put_labelled(w, name, "position", position, counts[i]);
    }
}

static void put_speculation(writer *w, const lf_engine_stats *s)
{
    put_by_proposer(w, s, "spec_decode_num_drafts_total", "Rounds that had candidates",
                    offsetof(lf_proposer_stats, rounds));
    put_by_proposer(w, s, "spec_decode_num_draft_tokens_total", "Candidates verified",
                    offsetof(lf_proposer_stats, proposed));
    put_by_proposer(w, s, "spec_decode_num_accepted_tokens_total", "Candidates accepted",
                    offsetof(lf_proposer_stats, accepted));
    put_by_position(w, "spec_decode_num_draft_tokens_per_pos_total", "Candidates, by place in the round",
                    s->proposed_at);
    put_by_position(w, "spec_decode_num_accepted_tokens_per_pos_total",
                    "Candidates accepted, by place in the round", s->accepted_at);
    put_head(w, "spec_skipped_total", "counter", "Rounds without candidates, by reason");
    for (int i = 0; i < LF_SKIP_COUNT; i++)
        put_labelled(w, "spec_skipped_total", "reason", lf_skip_name((lf_skip)i), s->skipped[i]);
}

bool serve_metrics_write(lf_bytes *out, const serve_metrics *m, const char *prefix, const char *model)
{
    writer w = {.out = out, .prefix = prefix, .ok = true};
    set_label(&w, model);
    put_gauges(&w, &m->engine);
    put_counters(&w, &m->engine);
    put_head(&w, "request_success_total", "counter", "Finished requests, by reason");
    for (int finish = LF_FINISH_STOP; finish < LF_FINISH_COUNT; finish++)
        put_labelled(&w, "request_success_total", "finished_reason", lf_finish_name((lf_finish)finish),
                     m->engine.finished[finish]);
    put_speculation(&w, &m->engine);
    put_value(&w, "http_cpu_seconds_total", "counter", "Processor time of the thread that speaks HTTP",
              m->http_seconds);
    for (int id = 0; id < SERVE_HISTOGRAMS; id++)
        put_histogram(&w, (serve_histogram_id)id, &m->histograms[id]);
    return w.ok;
}
