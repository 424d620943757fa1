#include "runner.h"

#include "../app.h"

#include "base/clock.h"
#include "base/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct serve_runner {
    serve_open_fn *open_engine;
    void *open_cookie;
    pthread_t thread;
    int wake_fd; /* an eventfd */

    pthread_mutex_t mutex;
    pthread_cond_t work; /* there may be something to do */
    serve_phase phase;
    lf_error err; /* SERVE_FAILED */
    bool stopping;
    serve_run *submits, **submits_end;
    struct {
        serve_run *first, *last;
    } news[SERVE_NEWS_COUNT];
    bool has_cancels; /* of a run that has cancel_wanted */
    bool rings;       /* the other side is to be woken */
    bool awaits;      /* it wants to be woken for SERVE_NEWS_LATER, too */
    serve_metrics metrics;

    lf_engine *engine;  /* written once, before SERVE_READY */
    serve_run *actives; /* the thread's: submitted and not finished */
    FILE *trace;        /* the thread's; or NULL */
    int n_traced;
};

/* ---- feeds ---- */

void serve_feed_clear(serve_feed *feed)
{
    feed->n_tokens = feed->n_tops = feed->n_prompt = 0;
    feed->text.len = 0;
}

void serve_feed_free(serve_feed *feed)
{
    free(feed->tokens);
    free(feed->tops);
    lf_bytes_free(&feed->text);
    *feed = (serve_feed){0};
}

/* Makes room for n_more items of the given size; false: no memory. */
static bool reserve(void **items, size_t *cap, size_t n, size_t n_more, size_t item_bytes)
{
    size_t wanted, bytes;
    if (!lf_add_size(n, n_more, &wanted)) return false;
    if (wanted <= *cap) return true;
    if (wanted < 2 * *cap) wanted = 2 * *cap;
    if (!lf_mul_size(wanted, item_bytes, &bytes)) return false;
    void *grown = realloc(*items, bytes);
    if (!grown) return false;
    *items = grown;
    *cap = wanted;
    return true;
}

static bool feed_push(serve_feed *f, const lf_token *t)
{
    const size_t n_top = (size_t)t->n_top;
    if (!reserve((void **)&f->tokens, &f->cap_tokens, f->n_tokens, 1, sizeof *f->tokens) ||
        !reserve((void **)&f->tops, &f->cap_tops, f->n_tops, n_top, sizeof *f->tops) ||
        !lf_bytes_append(&f->text, t->text, t->len))
        return false;
    f->tokens[f->n_tokens++] = (serve_token){
        .id = t->id, .logprob = t->logprob, .proposed = t->proposed, .n_top = t->n_top, .len = t->len};
    for (size_t i = 0; i < n_top; i++) f->tops[f->n_tops++] = t->top[i];
    return true;
}

/* Moves what `from` has behind what is in `to`; false, without memory, leaves both as they are. */
static bool feed_move(serve_feed *to, serve_feed *from)
{
    to->prefill_done = from->prefill_done;
    if (from->n_tokens == 0) return true;
    if (to->n_tokens == 0) {
        const serve_feed empty = *to;
        *to = *from;
        *from = empty;
    } else {
        if (!reserve((void **)&to->tokens, &to->cap_tokens, to->n_tokens, from->n_tokens,
                     sizeof *to->tokens) ||
            !reserve((void **)&to->tops, &to->cap_tops, to->n_tops, from->n_tops, sizeof *to->tops) ||
            !lf_bytes_append(&to->text, from->text.data, from->text.len))
            return false;
        memcpy(to->tokens + to->n_tokens, from->tokens, from->n_tokens * sizeof *to->tokens);
        if (from->n_tops > 0) memcpy(to->tops + to->n_tops, from->tops, from->n_tops * sizeof *to->tops);
        to->n_tokens += from->n_tokens;
        to->n_tops += from->n_tops;
        to->n_prompt += from->n_prompt;
    }
    serve_feed_clear(from);
    return true;
}

/* ---- news; with the mutex ---- */

static void drop_news(serve_runner *r, serve_run *run)
{
    if (run->news == SERVE_NEWS_NONE) return;
    *(run->prev_news ? &run->prev_news->next_news : &r->news[run->news].first) = run->next_news;
    *(run->next_news ? &run->next_news->prev_news : &r->news[run->news].last) = run->prev_news;
    run->news = SERVE_NEWS_NONE;
}

static void add_news(serve_runner *r, serve_run *run, serve_news news)
{
    if (news == SERVE_NEWS_NOW || r->awaits) r->rings = true;
    if (run->news >= news) return;
    drop_news(r, run);
    run->news = news;
    run->next_news = NULL;
    run->prev_news = r->news[news].last;
    *(run->prev_news ? &run->prev_news->next_news : &r->news[news].first) = run;
    r->news[news].last = run;
}

/* Wakes the other side, once for all that a step brought. */
static void send_news(serve_runner *r)
{
    const uint64_t one = 1;
    if (!r->rings) return;
    r->rings = r->awaits = false;
    while (write(r->wake_fd, &one, sizeof one) < 0 && errno == EINTR) continue;
}

/* Hands a run over to the HTTP thread. */
static void take_run(serve_runner *r, serve_run *run)
{
    drop_news(r, run);
    if (!feed_move(&run->said, &run->feed) &&
        run->new_state == SERVE_FINISHED) /* else it stays for the next time */
        (void)lf_fail_memory(&run->err, "the output", run->feed.text.len);
    run->state = run->new_state;
    run->next_taken = NULL;
}

/* ---- what the engine calls, from inside a step ---- */

static bool on_token(void *cookie, const lf_token *token)
{
    serve_run *run = cookie;
    serve_runner *r = run->runner;
    const int64_t now = lf_clock_ns();
    (void)pthread_mutex_lock(&r->mutex);
    const bool ok = feed_push(&run->feed, token);
    if (!ok) (void)lf_fail_memory(&run->err, "the output", run->feed.text.len);
    if (run->streams) add_news(r, run, run->has_token ? SERVE_NEWS_LATER : SERVE_NEWS_NOW);
    if (token->id >= 0) {
        /* tokens of one pass come within microseconds: those after the first count as they came */
        const serve_histogram_id id = run->has_token ? SERVE_INTER_TOKEN : SERVE_TTFT;
        serve_metrics_observe(&r->metrics, id, (double)(now - run->told_ns) * 1e-9);
        run->has_token = true;
        run->told_ns = now;
    }
    (void)pthread_mutex_unlock(&r->mutex);
    return ok;
}

static bool on_prompt(void *cookie, const lf_token *token)
{
    serve_run *run = cookie;
    serve_runner *r = run->runner;
    (void)pthread_mutex_lock(&r->mutex);
    const bool ok = feed_push(&run->feed, token);
    if (!ok) (void)lf_fail_memory(&run->err, "log probabilities", run->feed.n_tokens);
    run->feed.n_prompt += ok;
    (void)pthread_mutex_unlock(&r->mutex);
    return ok;
}

static bool on_prefill(void *cookie, int done, int total)
{
    serve_run *run = cookie;
    serve_runner *r = run->runner;
    (void)total;
    (void)pthread_mutex_lock(&r->mutex);
    run->feed.prefill_done = done;
    add_news(r, run, SERVE_NEWS_LATER);
    (void)pthread_mutex_unlock(&r->mutex);
    return true;
}

/* ---- the thread ---- */

/* Takes a run off the active ones and tells its end. The HTTP thread may free it as soon as the mutex is free. */
static void finish(serve_runner *r, serve_run *run, const lf_error *err)
{
    serve_run **link = &r->actives;
    lf_request_result result = {.size = sizeof result};
    while (*link && *link != run) link = &(*link)->next_active;
    if (*link) *link = run->next_active;
    if (run->request) lf_request_get_result(run->request, &result);
    lf_request_free(run->request);
    run->request = NULL;
    (void)pthread_mutex_lock(&r->mutex);
    if (run->err.status == LF_OK) run->err = *err;
    run->result = result;
    run->new_state = SERVE_FINISHED;
    add_news(r, run, SERVE_NEWS_NOW);
    (void)pthread_mutex_unlock(&r->mutex);
}

static void start(serve_runner *r, serve_run *run)
{
    lf_error err = {0};
    lf_request_params params = run->params;
    params.on_token = on_token;
    params.on_prefill = run->progress ? on_prefill : NULL;
    params.on_prompt = run->scores_prompt ? on_prompt : NULL;
    params.cookie = run;
    if (lf_request_submit(&run->request, r->engine, &params, &err) != LF_OK) {
        finish(r, run, &err);
        return;
    }
    run->next_active = r->actives;
    r->actives = run;
    (void)pthread_mutex_lock(&r->mutex);
    run->new_state = SERVE_ACCEPTED;
    r->has_cancels = r->has_cancels ||
                     run->cancel_wanted; /* it came before the run was among the active ones */
    add_news(r, run, SERVE_NEWS_NOW);
    (void)pthread_mutex_unlock(&r->mutex);
}

static void collect_finished(serve_runner *r)
{
    const lf_error none = {0};
    serve_run *next;
    for (serve_run *run = r->actives; run; run = next) {
        lf_error err = {0};
        next = run->next_active;
        if (!lf_request_is_finished(run->request)) continue;
        const bool failed = lf_request_wait(run->request, &err) != LF_OK;
        finish(r, run, failed ? &err : &none);
    }
}

/* A step that failed as a whole fails every request: what the engine holds is not sure any more. */
static void fail_all(serve_runner *r, const lf_error *err)
{
    while (r->actives) finish(r, r->actives, err);
}

/* Waits for something to do and takes what was submitted; false: the end. */
static bool take_work(serve_runner *r, serve_run **submits)
{
    (void)pthread_mutex_lock(&r->mutex);
    while (!r->stopping && !r->submits && !r->actives) (void)pthread_cond_wait(&r->work, &r->mutex);
    *submits = r->submits;
    r->submits = NULL;
    r->submits_end = &r->submits;
    const bool goes_on = !r->stopping;
    (void)pthread_mutex_unlock(&r->mutex);
    return goes_on;
}

static void cancel_wanted(serve_runner *r, bool all)
{
    (void)pthread_mutex_lock(&r->mutex);
    for (serve_run *run = r->has_cancels || all ? r->actives : NULL; run; run = run->next_active)
        if (run->cancel_wanted || all) lf_request_cancel(run->request); /* calls nobody back */
    r->has_cancels = false;
    (void)pthread_mutex_unlock(&r->mutex);
}

static void step(serve_runner *r)
{
    bool busy;
    lf_error err = {0};
    lf_engine_stats stats = {.size = sizeof stats};
    lf_step_info info = {.size = sizeof info};
    if (lf_engine_step(r->engine, &busy, &info, &err) != LF_OK) fail_all(r, &err);
    if (r->trace && info.n_requests > 0) app_write_trace(r->trace, r->n_traced++, &info);
    collect_finished(r);
    lf_engine_get_stats(r->engine, &stats);
    (void)pthread_mutex_lock(&r->mutex);
    r->metrics.engine = stats;
    send_news(r);
    (void)pthread_mutex_unlock(&r->mutex);
}

static void run_requests(serve_runner *r)
{
    for (bool goes_on = true; goes_on;) {
        serve_run *next;
        goes_on = take_work(r, &next);
        while (next) { /* once started, a run may be gone */
            serve_run *run = next;
            next = run->next_submit;
            start(r, run);
        }
        cancel_wanted(r, !goes_on);
        collect_finished(r);
        (void)pthread_mutex_lock(&r->mutex);
        send_news(r); /* before a step that may be long */
        (void)pthread_mutex_unlock(&r->mutex);
        if (goes_on) step(r);
    }
}

static void set_phase(serve_runner *r, serve_phase phase)
{
    (void)pthread_mutex_lock(&r->mutex);
    r->phase = phase;
    r->rings = true;
    send_news(r);
    (void)pthread_mutex_unlock(&r->mutex);
}

static void *thread_main(void *cookie)
{
    serve_runner *r = cookie;
    if (r->open_engine(&r->engine, r->open_cookie, &r->err) != LF_OK) {
        set_phase(r, SERVE_FAILED);
        return NULL;
    }
    set_phase(r, SERVE_READY);
    run_requests(r);
    return NULL;
}

/* ---- for the HTTP thread ---- */

/* Of a runner without a thread. */
static void free_runner(serve_runner *r)
{
    lf_engine_close(r->engine);
    (void)pthread_cond_destroy(&r->work);
    (void)pthread_mutex_destroy(&r->mutex);
    if (r->wake_fd >= 0) (void)close(r->wake_fd);
    free(r);
}

lf_status serve_runner_start(serve_runner **out, serve_open_fn *open_engine, void *cookie, FILE *trace,
                             lf_error *err)
{
    serve_runner *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return lf_fail_memory(err, "the engine's thread", sizeof *r);
    r->open_engine = open_engine;
    r->open_cookie = cookie;
    r->trace = trace;
    r->submits_end = &r->submits;
    r->awaits = true;
    (void)pthread_mutex_init(&r->mutex, NULL);
    (void)pthread_cond_init(&r->work, NULL);
    r->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    const int why = r->wake_fd < 0 ? errno : pthread_create(&r->thread, NULL, thread_main, r);
    if (why == 0) {
        *out = r;
        return LF_OK;
    }
    free_runner(r);
    return lf_fail(err, LF_ELIMIT, "the engine's thread: cannot start: %s", strerror(why));
}

void serve_runner_stop(serve_runner *r)
{
    if (!r) return;
    (void)pthread_mutex_lock(&r->mutex);
    r->stopping = true;
    (void)pthread_cond_signal(&r->work);
    (void)pthread_mutex_unlock(&r->mutex);
    (void)pthread_join(r->thread, NULL);
    free_runner(r);
}

serve_phase serve_runner_phase(serve_runner *r, lf_error *err)
{
    (void)pthread_mutex_lock(&r->mutex);
    const serve_phase phase = r->phase;
    (void)pthread_mutex_unlock(&r->mutex);
    if (phase == SERVE_FAILED && err) *err = r->err;
    return phase;
}

lf_engine *serve_runner_engine(serve_runner *r)
{
    return serve_runner_phase(r, NULL) == SERVE_READY ? r->engine : NULL;
}

int serve_runner_wake_fd(const serve_runner *r)
{
    return r->wake_fd;
}

void serve_runner_submit(serve_runner *r, serve_run *run)
{
    run->runner = r;
    run->told_ns = lf_clock_ns();
    (void)pthread_mutex_lock(&r->mutex);
    run->next_submit = NULL;
    *r->submits_end = run;
    r->submits_end = &run->next_submit;
    (void)pthread_cond_signal(&r->work);
    (void)pthread_mutex_unlock(&r->mutex);
}

void serve_runner_cancel(serve_runner *r, serve_run *run)
{
    (void)pthread_mutex_lock(&r->mutex);
    run->cancel_wanted = r->has_cancels = true;
    (void)pthread_mutex_unlock(&r->mutex);
}

serve_run *serve_runner_take_news(serve_runner *r, bool all)
{
    uint64_t n;
    serve_run *taken = NULL, **end = &taken;
    while (read(r->wake_fd, &n, sizeof n) < 0 && errno == EINTR) continue;
    (void)pthread_mutex_lock(&r->mutex);
    for (int news = SERVE_NEWS_NOW; news >= (all ? SERVE_NEWS_LATER : SERVE_NEWS_NOW); news--) {
        while (r->news[news].first) {
            serve_run *run = r->news[news].first;
            take_run(r, run);
            *end = run;
            end = &run->next_taken;
        }
    }
    if (all) r->awaits = !taken;
    (void)pthread_mutex_unlock(&r->mutex);
    return taken;
}

void serve_runner_get_metrics(serve_runner *r, serve_metrics *out)
{
    (void)pthread_mutex_lock(&r->mutex);
    *out = r->metrics;
    (void)pthread_mutex_unlock(&r->mutex);
}

void serve_runner_count(serve_runner *r, const lf_request_result *result, double e2e_seconds)
{
    (void)pthread_mutex_lock(&r->mutex);
    serve_metrics *m = &r->metrics;
    serve_metrics_observe(m, SERVE_E2E, e2e_seconds);
    serve_metrics_observe(m, SERVE_QUEUE, result->queue_seconds);
    serve_metrics_observe(m, SERVE_PREFILL, result->prefill_seconds);
    serve_metrics_observe(m, SERVE_DECODE, result->decode_seconds);
    serve_metrics_observe(m, SERVE_PROMPT_TOKENS, result->prompt_tokens);
    serve_metrics_observe(m, SERVE_OUTPUT_TOKENS, result->output_tokens);
    (void)pthread_mutex_unlock(&r->mutex);
}
