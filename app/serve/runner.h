/* The engine thread: it alone owns the engine and steps it. Others hand it runs and take news of them.
 *
 *     HTTP thread                                   engine thread
 *       serve_runner_submit -> submits  ------->  lf_request_submit, lf_engine_step, ...
 *       serve_runner_cancel -> a flag   ------->  lf_request_cancel
 *       wake_fd, serve_runner_take_news <-------  on_token, on_prefill: a run's feed; finished
 *
 * One mutex guards the lists, the feeds and the counters; nobody holds it for long. A run belongs to the HTTP thread, which may
 * free it once it has seen it finished. Waking, and telling a socket of one token, cost more processor time than a small model's
 * token: the HTTP thread is woken for what cannot wait, and takes the rest in its own time. */
#ifndef LF_SERVE_RUNNER_H
#define LF_SERVE_RUNNER_H

#include "metrics.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdio.h>

/* A token as the feed has it: its text is the next `len` bytes, its likeliest the next n_top. */
typedef struct serve_token {
    int32_t id; /* -1: no token, only text that waited */
    float logprob;
    bool proposed;
    int n_top;
    size_t len;
} serve_token;

/* What a run has said since somebody looked. Zero-initialise. */
typedef struct serve_feed {
    serve_token *tokens; /* (n_tokens) */
    lf_logprob *tops;    /* (n_tops) */
    size_t n_tokens, cap_tokens, n_tops, cap_tops;
    lf_bytes text;
    size_t n_prompt; /* of the tokens, the first ones: those of a prompt that was asked about, without text */
    int prefill_done; /* prompt tokens read */
} serve_feed;

void serve_feed_clear(serve_feed *feed); /* keeps its memory */
void serve_feed_free(serve_feed *feed);

typedef enum serve_state { SERVE_QUEUED, SERVE_ACCEPTED, SERVE_FINISHED } serve_state;

/* How soon the other side should know of a run: not at all; when it comes to it, with all that there is by then (more tokens); at
 * once (accepted, the first token, the end). */
typedef enum serve_news { SERVE_NEWS_NONE, SERVE_NEWS_LATER, SERVE_NEWS_NOW, SERVE_NEWS_COUNT } serve_news;

/* One request of the engine: one choice of a client's request. Set by the HTTP thread before submit: */
typedef struct serve_run {
    void *owner;
    lf_request_params params; /* but for callbacks */
    bool streams;             /* wants news of every token, not only of the end */
    bool progress;            /* wants news of the prompt, too */
    bool scores_prompt;       /* wants the log probabilities of its tokens */

    /* the HTTP thread's, as serve_runner_take_news found it */
    serve_state state;
    serve_feed said; /* not yet used */
    struct serve_run *next_taken;

    /* under the runner's mutex */
    serve_state new_state;
    serve_feed feed; /* not yet taken */
    serve_news news; /* the list that it is in */
    struct serve_run *next_submit, *next_news, *prev_news;
    bool cancel_wanted;
    lf_error err;             /* SERVE_FINISHED: LF_OK, or why it was refused or failed */
    lf_request_result result; /* SERVE_FINISHED without an error */

    /* the engine thread's */
    struct serve_runner *runner;
    lf_request *request;
    struct serve_run *next_active;
    int64_t told_ns; /* when its last token came; before the first, when it was submitted */
    bool has_token;
} serve_run;

typedef enum serve_phase { SERVE_LOADING, SERVE_READY, SERVE_FAILED } serve_phase;

typedef struct serve_runner serve_runner;

/* Starts the thread, which loads the model by open_engine(cookie). trace: where a line goes for each pass; or NULL. */
typedef lf_status serve_open_fn(lf_engine **out, void *cookie, lf_error *err);
lf_status serve_runner_start(serve_runner **out, serve_open_fn *open_engine, void *cookie, FILE *trace,
                             lf_error *err);

/* Cancels what runs, ends the thread, closes the engine; NULL is fine. Runs stay their owners'. */
void serve_runner_stop(serve_runner *r);

/* SERVE_FAILED: err says why. The engine is there from SERVE_READY on; of it, the HTTP thread calls what may be called from
 * any thread. */
serve_phase serve_runner_phase(serve_runner *r, lf_error *err);
lf_engine *serve_runner_engine(serve_runner *r);

/* Readable when there is news, or the phase has changed. */
int serve_runner_wake_fd(const serve_runner *r);

void serve_runner_submit(serve_runner *r, serve_run *run);

/* Ends a run; its news will say so. */
void serve_runner_cancel(serve_runner *r, serve_run *run);

/* The runs with news since they were last taken, in a list by next_taken, with their state and what they said; all of them, or
 * only those that cannot wait. What is new after SERVE_FINISHED is nothing: then, and only then, a run may be freed. When all were
 * asked for and there are none, the next news of any kind wakes; otherwise it waits to be asked for. */
serve_run *serve_runner_take_news(serve_runner *r, bool all);

/* A copy of the counters. */
void serve_runner_get_metrics(serve_runner *r, serve_metrics *out);

/* Counts a finished request, with what the engine said of it. */
void serve_runner_count(serve_runner *r, const lf_request_result *result, double e2e_seconds);

#endif
