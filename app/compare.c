/* lookfar run --compare: a prompt continued by several requests at once, plainly and then with a proposer; how fast each was, and whether
 * the outputs are the same. --write lets the model first write the long text that is continued. */
#include "app.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REQUESTS_MAX = 512 };

/* One of the two ways, and what came of it. */
typedef struct contest {
    const app_compare *options;
    const char *proposer;
    lf_request *requests[REQUESTS_MAX]; /* (n_requests) */
    int n_requests;
    double seconds;
    long n_tokens, n_passes;
} contest;

/* ---- writing ---- */

typedef struct writer {
    lf_ids *ids;
    FILE *text;
    bool out_of_memory;
} writer;

static bool write_token(void *cookie, const lf_token *token)
{
    writer *w = cookie;
    if (token->id >= 0 && !lf_ids_push(w->ids, token->id)) w->out_of_memory = true;
    (void)fwrite(token->text, 1, token->len, w->text);
    return fflush(w->text) == 0 && !w->out_of_memory && !app_interrupted;
}

/* Continues ids by n tokens, which are shown. */
static lf_status write_on(const app_compare *o, lf_ids *ids, int n, lf_error *err)
{
    writer w = {.ids = ids, .text = o->text};
    lf_request_params params = *o->params;
    lf_request *request = NULL;
    lf_status status = LF_OK;
    params.ids = ids->data;
    params.n_ids = ids->len;
    params.n_predict = n;
    params.ignore_eos = true;
    params.on_token = write_token;
    params.cookie = &w;
    LF_TRY(lf_request_submit(&request, o->engine, &params, err)); /* copies ids, which grow */
    LF_TRY(lf_request_wait(request, err));
    if (w.out_of_memory) status = lf_fail_memory(err, "the text", ids->len * sizeof *ids->data);
done:
    lf_request_free(request);
    (void)fputc('\n', o->text);
    return status;
}

/* ---- racing ---- */

static void show_speed(const contest *c, double seconds)
{
    (void)fprintf(stderr, "\r%-8s %6ld tokens  %7.1f tokens/s ", c->proposer, c->n_tokens,
                  seconds > 0 ? (double)c->n_tokens / seconds : 0.0);
}

/* Request i has the i-th seed. */
static lf_status submit_all(contest *c, const lf_ids *ids, lf_error *err)
{
    lf_request_params params = *c->options->params;
    params.ids = ids->data;
    params.n_ids = ids->len;
    params.proposer = c->proposer;
    for (; c->n_requests < c->options->n_requests; c->n_requests++, params.seed++) {
        const lf_status status = lf_request_submit(&c->requests[c->n_requests], c->options->engine, &params,
                                                   err);
        if (status != LF_OK) return status;
    }
    return LF_OK;
}

static lf_status race(contest *c, const lf_ids *ids, lf_error *err)
{
    static const double redraw_seconds = 0.1;
    lf_status status = LF_OK;
    const bool shows = !c->options->quiet && isatty(STDERR_FILENO);
    double shown = 0.0;
    bool busy = true;
    LF_TRY(submit_all(c, ids, err));
    const int64_t start = lf_clock_ns();
    for (int i = 0; busy && !app_interrupted; i++) {
        lf_step_info info = {.size = sizeof info};
        LF_TRY(lf_engine_step(c->options->engine, &busy, &info, err));
        if (busy && c->options->trace) app_write_trace(c->options->trace, i, &info);
        c->n_tokens += info.emitted;
        c->seconds = (double)(lf_clock_ns() - start) * 1e-9;
        if (shows && c->seconds - shown > redraw_seconds) show_speed(c, shown = c->seconds);
    }
    if (shows) (void)fprintf(stderr, "\r\033[K");
    if (app_interrupted) LF_TRY(lf_fail(err, LF_ECANCELED, "interrupted"));
    for (int i = 0; i < c->n_requests; i++) {
        lf_request_result r = {.size = sizeof r};
        LF_TRY(lf_request_wait(c->requests[i], err));
        lf_request_get_result(c->requests[i], &r);
        c->n_passes += r.passes;
    }
done:
    return status;
}

static bool same_output(const lf_request *a, const lf_request *b)
{
    size_t n_a, n_b;
    const int32_t *ids_a = lf_request_ids(a, &n_a), *ids_b = lf_request_ids(b, &n_b);
    return n_a == n_b && memcmp(ids_a, ids_b, n_a * sizeof *ids_a) == 0;
}

/* ---- the outcome ---- */

static void print_outcome(const contest *c)
{
    (void)fprintf(stderr, "%-8s %6ld tokens  %7.2f s  %7.1f tokens/s  %5.2f tokens per pass\n", c->proposer,
                  c->n_tokens, c->seconds, (double)c->n_tokens / c->seconds,
                  (double)c->n_tokens / (double)c->n_passes);
}

static int write_results(const app_compare *o, const contest *c)
{
    int code = 0;
    for (int i = 0; o->json && code == 0 && i < c->n_requests; i++) {
        lf_request_params params = *o->params;
        params.proposer = c->proposer;
        code = app_write_json(o->json, o->json_path,
                              app_result_json(c->requests[i], &params, &(app_token_log){0}));
    }
    return code;
}

static int report(const app_compare *o, const contest *plain, const contest *other, size_t n_prompt)
{
    bool identical = true;
    int code = write_results(o, plain);
    for (int i = 0; i < plain->n_requests; i++)
        identical = identical && same_output(plain->requests[i], other->requests[i]);
    if (code == 0) code = write_results(o, other);
    (void)fprintf(stderr, "%d continuation%s of a text of %zu tokens\n", plain->n_requests,
                  plain->n_requests == 1 ? "" : "s", n_prompt);
    print_outcome(plain);
    print_outcome(other);
    (void)fprintf(stderr, "speed-up %.2f, identical: %s\n", plain->seconds / other->seconds,
                  identical ? "yes" : "NO");
    return code != 0 ? code : identical ? 0 : EXIT_FAIL;
}

/* Tokens that the model is to write: as many as leave room for the continuations. */
static int count_to_write(const app_compare *o, size_t n_prompt)
{
    lf_engine_info info = {.size = sizeof info};
    lf_engine_get_info(o->engine, &info);
    const int room = info.n_ctx - (int)n_prompt - (o->params->n_predict > 0 ? o->params->n_predict : 0);
    return o->n_write < room ? o->n_write : room;
}

static lf_status read_prompt(const app_compare *o, lf_ids *ids, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(lf_tokenize(o->engine, o->prompt, o->prompt_len, !o->no_bos, o->params->special, &ids->data,
                       &ids->len, err));
    ids->cap = ids->len;
    const int n = count_to_write(o, ids->len);
    if (n > 0) LF_TRY(write_on(o, ids, n, err));
done:
    return status;
}

int app_run_compare(const app_compare *o)
{
    lf_ids ids = {0};
    lf_error err = {0};
    /* one request of one token puts the prompt into the prefix cache, where both find it */
    lf_request_params one_token = *o->params;
    one_token.n_predict = 1;
    app_compare once = *o;
    once.params = &one_token;
    once.n_requests = 1;
    contest warm_up = {.options = &once, .proposer = "none"}, plain = {.options = o, .proposer = "none"},
            other = {.options = o, .proposer = o->params->proposer};
    const bool done = read_prompt(o, &ids, &err) == LF_OK && race(&warm_up, &ids, &err) == LF_OK &&
                      race(&plain, &ids, &err) == LF_OK && race(&other, &ids, &err) == LF_OK;
    const int code = done ? report(o, &plain, &other, ids.len) : app_fail(&err);
    for (int i = 0; i < REQUESTS_MAX; i++) {
        lf_request_free(warm_up.requests[i]);
        lf_request_free(plain.requests[i]);
        lf_request_free(other.requests[i]);
    }
    lf_ids_free(&ids);
    return code;
}
