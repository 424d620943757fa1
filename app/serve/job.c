/* A job: one completion or chat on its way through the engine, a run for each choice.
 *
 *     parsed, tokenized, admitted -> its runs submitted -> all accepted: a stream begins -> news, news, ...
 *        |                              |                                                  |
 *        +-- 400, 429                   +-- one refused: 400                               +-- all finished: the end
 *
 * A client that hangs up detaches its job, which is cancelled and goes when the engine has let go of its runs. */
#include "job.h"

#include "chat.h"
#include "chunk.h"
#include "json.h"
#include "reply.h"

#include "base/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum {
    RETRY_SECONDS_MAX = 60,
    /* log probabilities of an answer that is no stream, which is JSON in memory as a whole: a gigabyte of it */
    SCORES_MAX = 1 << 22,
    CHAT_SCORES_MAX = 1 << 20, /* each an object with bytes */
};

typedef struct prompt {
    int32_t *ids;
    size_t n_ids;
    char *echo; /* (echo_len) its text, if it is to come back */
    size_t echo_len;
} prompt;

/* What the HTTP thread keeps of a run. */
typedef struct choice {
    serve_chunk chunk; /* what a stream's events with text look like; empty where each is made by itself */
    bool accepted, finished, begun;
    int prefill_told;
    size_t offset; /* characters so far */
} choice;

struct serve_job {
    serve_server *server;
    serve_exchange *x; /* NULL: the client is gone */
    serve_job *next, **link;
    serve_call call;
    serve_reply reply;
    prompt prompts[SERVE_CHOICES_MAX]; /* (call.n_prompts) */
    int32_t *prediction;
    lf_grammar *grammar; /* of the format asked for, or NULL */
    serve_run *runs;     /* (n_runs) */
    choice *choices;     /* (n_runs) */
    int n_runs, n_accepted, n_finished;
    bool begun;        /* a stream was */
    serve_error error; /* of the first run that failed */
    lf_request_result total;
    int64_t began_ns;
};

/* ---- the end ---- */

static void free_job(serve_job *job)
{
    if (job->link) {
        *job->link = job->next;
        if (job->next) job->next->link = job->link;
    }
    for (int i = 0; i < job->call.n_prompts; i++) {
        free(job->prompts[i].ids);
        free(job->prompts[i].echo);
    }
    for (int i = 0; job->runs && job->choices && i < job->n_runs; i++) {
        serve_feed_free(&job->runs[i].feed);
        serve_feed_free(&job->runs[i].said);
        serve_chunk_free(&job->choices[i].chunk);
    }
    free(job->prediction);
    lf_grammar_free(job->grammar);
    free(job->runs);
    free(job->choices);
    serve_call_free(&job->call);
    free(job);
}

static void cancel_runs(serve_job *job)
{
    for (int i = 0; i < job->n_runs; i++)
        if (!job->choices[i].finished) serve_runner_cancel(job->server->runner, &job->runs[i]);
}

void serve_job_detach(serve_job *job)
{
    job->x = NULL;
    if (job->n_finished == job->n_runs)
        free_job(job);
    else
        cancel_runs(job);
}

void serve_job_cancel(serve_job *job)
{
    if (!job->error.status)
        (void)serve_fail(&job->error, 503, "shutting_down", "the server is shutting down");
    cancel_runs(job);
}

void serve_job_free_all(serve_server *s)
{
    while (s->jobs) free_job(s->jobs);
}

/* ---- prompts ---- */

static bool refuse_length(const serve_call *call, size_t n_ids, int n_ctx, serve_error *e)
{
    (void)serve_refuse(
        e, call->is_chat ? "messages" : "prompt",
        "This model's maximum context length is %d tokens. However, your %s resulted in %zu tokens. "
        "Please reduce the length of the %s.",
        n_ctx, call->is_chat ? "messages" : "prompt", n_ids, call->is_chat ? "messages" : "prompt");
    e->code = "context_length_exceeded";
    return false;
}

static bool read_text_prompt(serve_job *job, prompt *p, const json_t *text, serve_error *e)
{
    lf_error err;
    const char *s = json_string_value(text);
    const size_t len = json_string_length(text);
    if (lf_tokenize(job->reply.engine, s, len, true, true, &p->ids, &p->n_ids, &err) != LF_OK)
        return serve_fail_status(e, &err);
    if (!job->call.echo) return true;
    p->echo = lf_strndup(s, len);
    p->echo_len = len;
    return p->echo || serve_fail(e, 503, "out_of_memory", "out of memory: the prompt");
}

static bool read_ids_prompt(serve_job *job, prompt *p, const json_t *list, serve_error *e)
{
    lf_error err;
    p->ids = serve_parse_ids(list, "prompt", &p->n_ids, e);
    if (!p->ids) return false;
    return !job->call.echo ||
           lf_detokenize(job->reply.engine, p->ids, p->n_ids, true, &p->echo, &p->echo_len, &err) == LF_OK ||
           serve_fail_status(e, &err);
}

static bool read_prompts(serve_job *job, serve_error *e)
{
    lf_engine_info info = {.size = sizeof info};
    lf_engine_get_info(job->reply.engine, &info);
    for (int i = 0; i < job->call.n_prompts; i++) {
        prompt *p = &job->prompts[i];
        const json_t *given = job->call.prompts[i];
        const bool ok = job->call.is_chat       ? serve_chat_tokenize(job->reply.engine, job->x->body.data,
                                                                      job->x->body.len, &p->ids, &p->n_ids, e)
                        : json_is_string(given) ? read_text_prompt(job, p, given, e)
                                                : read_ids_prompt(job, p, given, e);
        if (!ok) return false;
        if (p->n_ids == 0) return serve_refuse(e, "prompt", "prompt: found no tokens, expected at least 1");
        if (p->n_ids > (size_t)info.n_ctx) return refuse_length(&job->call, p->n_ids, info.n_ctx, e);
    }
    return true;
}

static bool check_scores(const serve_job *job, serve_error *e)
{
    const serve_call *call = &job->call;
    const lf_request_params *p = &call->params;
    const int max = call->is_chat ? CHAT_SCORES_MAX : SCORES_MAX;
    lf_engine_info info = {.size = sizeof info};
    int64_t n = 0;
    if (!p->logprobs || call->stream) return true;
    lf_engine_get_info(job->reply.engine, &info);
    for (int i = 0; i < call->n_prompts; i++) {
        const int n_ids = (int)job->prompts[i].n_ids, room = info.n_ctx + 1 - n_ids;
        const int n_tokens = (p->n_predict >= 0 && p->n_predict < room ? p->n_predict : room) +
                             (call->echo ? n_ids : 0);
        n += (int64_t)call->n * n_tokens * (1 + p->n_top);
    }
    if (n <= max) return true;
    return serve_refuse(
        e, "logprobs",
        "logprobs: found up to %lld log probabilities for one answer, expected at most %d; ask for "
        "fewer tokens, choices or alternatives, or for a stream",
        (long long)n, max);
}

static bool read_prediction(serve_job *job, serve_error *e)
{
    lf_error err;
    lf_engine_info info = {.size = sizeof info};
    lf_request_params *p = &job->call.params;
    if (!job->call.prediction) return true;
    lf_engine_get_info(job->reply.engine, &info);
    if (lf_tokenize(job->reply.engine, job->call.prediction, job->call.prediction_len, false, false,
                    &job->prediction, &p->n_prediction, &err) != LF_OK)
        return serve_fail_status(e, &err);
    if (p->n_prediction > (size_t)info.n_ctx) p->n_prediction = (size_t)info.n_ctx;
    p->prediction = job->prediction;
    return true;
}

/* The grammar of a format: compiled here, shared by the runs. */
static bool read_format(serve_job *job, serve_error *e)
{
    static const lf_grammar_kind kinds[] = {[SERVE_FORMAT_JSON] = LF_GRAMMAR_JSON_OBJECT,
                                            [SERVE_FORMAT_SCHEMA] = LF_GRAMMAR_JSON_SCHEMA,
                                            [SERVE_FORMAT_REGEX] = LF_GRAMMAR_REGEX,
                                            [SERVE_FORMAT_CHOICE] = LF_GRAMMAR_CHOICE};
    const serve_call *call = &job->call;
    const json_t *spec = call->format_spec;
    lf_error err;
    if (call->format == SERVE_FORMAT_TEXT) return true;
    char *dumped = json_is_string(spec) ? NULL : json_dumps(spec, JSON_ENCODE_ANY | JSON_COMPACT);
    const char *text = dumped ? dumped : json_is_string(spec) ? json_string_value(spec) : "";
    const lf_status status = lf_grammar_compile(&job->grammar, serve_runner_engine(job->server->runner),
                                                kinds[call->format], text, strlen(text), &err);
    free(dumped);
    if (status == LF_OK) return true;
    (void)serve_fail_status(e, &err);
    if (e->status == 500) e->status = 400; /* what cannot be parsed is the client's */
    (void)snprintf(e->param, sizeof e->param, "response_format");
    return false;
}

/* ---- beginning ---- */

/* So many choices may wait that nobody waits for long without knowing. */
static bool check_queue(serve_server *s, int n_runs, serve_error *e)
{
    const int max = s->options->n_seqs + s->options->queue_max;
    if (s->n_runs + n_runs <= max) return true;
    if (n_runs > max)
        return serve_refuse(e, "n", "found %d choices, expected at most %d at once", n_runs, max);
    (void)serve_fail(e, 429, "queue_full", "%d requests are being worked on or wait; try again later",
                     s->n_runs);
    const double seconds = ceil(s->mean_seconds * s->n_runs / s->options->n_seqs);
    e->retry_after = seconds < 1 ? 1 : seconds > RETRY_SECONDS_MAX ? RETRY_SECONDS_MAX : (int)seconds;
    return false;
}

static bool make_runs(serve_job *job, serve_error *e)
{
    serve_call *call = &job->call;
    job->runs = calloc((size_t)job->n_runs, sizeof *job->runs);
    job->choices = calloc((size_t)job->n_runs, sizeof *job->choices);
    if (!job->runs || !job->choices) return serve_fail(e, 503, "out_of_memory", "out of memory: the request");
    if (!call->has_seed && getrandom(&call->params.seed, sizeof call->params.seed, 0) < 0)
        call->params.seed = (uint64_t)lf_clock_ns();
    for (int i = 0; i < job->n_runs; i++) {
        const prompt *p = &job->prompts[i / call->n];
        serve_run *run = &job->runs[i];
        run->owner = job;
        run->params = call->params;
        run->params.ids = p->ids;
        run->params.n_ids = p->n_ids;
        run->params.seed += (uint64_t)(i % call->n);
        run->params.grammar = job->grammar;
        run->streams = call->stream;
        run->scores_prompt = call->echo && call->params.logprobs;
        if (run->scores_prompt && call->params.n_predict == 0)
            run->params.n_predict = 1; /* which is not told */
        run->progress = call->stream && call->wants_progress;
    }
    return true;
}

static bool prepare(serve_job *job, bool is_chat, serve_error *e)
{
    serve_exchange *x = job->x;
    serve_server *s = job->server;
    if (!serve_call_parse(&job->call, is_chat, x->body.data, x->body.len, s->options->defaults, e))
        return false;
    job->reply = (serve_reply){.call = &job->call,
                               .engine = serve_runner_engine(s->runner),
                               .model = s->options->model_name,
                               .created = (int64_t)time(NULL)};
    (void)snprintf(job->reply.id, sizeof job->reply.id, "%s-%012llx%06llx", is_chat ? "chatcmpl" : "cmpl",
                   (unsigned long long)(s->id_salt & 0xFFFFFFFFFFFF), (unsigned long long)s->n_requests);
    const int n_runs = job->call.n_prompts * job->call.n;
    if (!check_queue(s, n_runs, e) || !read_prompts(job, e) || !check_scores(job, e) ||
        !read_prediction(job, e) || !read_format(job, e))
        return false;
    job->n_runs = n_runs;
    return make_runs(job, e);
}

static void handle(serve_exchange *x, bool is_chat)
{
    serve_error e = {0};
    serve_job *job = calloc(1, sizeof *job);
    if (!job) {
        (void)serve_fail(&e, 503, "out_of_memory", "out of memory: the request");
        serve_answer_error(x, &e);
        return;
    }
    *job = (serve_job){.server = x->server, .x = x, .began_ns = x->began_ns};
    if (!prepare(job, is_chat, &e)) {
        serve_answer_error(x, &e);
        free_job(job);
        return;
    }
    lf_bytes_free(&x->body);
    serve_server *s = x->server;
    job->next = s->jobs;
    job->link = &s->jobs;
    if (job->next) job->next->link = &job->next;
    s->jobs = job;
    s->n_runs += job->n_runs;
    x->job = job;
    for (int i = 0; i < job->n_runs; i++) serve_runner_submit(s->runner, &job->runs[i]);
}

void serve_handle_completion(serve_exchange *x)
{
    handle(x, false);
}

void serve_handle_chat(serve_exchange *x)
{
    handle(x, true);
}

/* ---- streams ---- */

static void tell_progress(serve_job *job, int i)
{
    choice *c = &job->choices[i];
    const int done = job->runs[i].said.prefill_done;
    if (done == c->prefill_told) return;
    c->prefill_told = done;
    const serve_feed nothing = {0};
    const serve_part part = {.index = i, .feed = &nothing, .offset = &c->offset};
    json_t *chunk = serve_chunk_json(&job->reply, serve_delta_json(&job->reply, &part));
    serve_json_set(&chunk, "prompt_progress",
                   serve_progress_json((int)job->runs[i].params.n_ids, done,
                                       (double)(lf_clock_ns() - job->began_ns) * 1e-9));
    serve_stream_event(job->x, chunk);
}

static const char *finish_reason(const serve_run *run)
{
    return run->result.finish == LF_FINISH_STOP ? "stop" : "length";
}

static serve_part part_of(serve_job *job, int i)
{
    choice *c = &job->choices[i];
    const prompt *p = &job->prompts[i / job->call.n];
    serve_part part = {.index = i, .feed = &job->runs[i].said, .offset = &c->offset};
    if (!c->begun) {
        part.echo = p->echo;
        part.echo_len = p->echo_len;
        part.prompt_ids = p->ids;
        part.n_prompt_ids = p->n_ids;
    }
    c->begun = true;
    return part;
}

static void add_extras(const serve_job *job, json_t **answer, const lf_request_result *result)
{
    if (job->call.wants_timings) serve_json_set(answer, "timings", serve_timings_json(result));
    if (job->call.wants_metrics) serve_json_set(answer, "metrics", serve_speculation_json(result));
}

/* Scoring a prompt takes a token of output, which who asked for none does not see. */
static void drop_extra(const serve_job *job, serve_feed *feed)
{
    if (job->call.params.n_predict != 0) return;
    feed->n_tokens = feed->n_prompt;
    feed->text.len = 0;
}

/* Whether all events of a stream but the last differ in their text alone. */
static bool is_plain(const serve_call *call)
{
    return !call->params.logprobs && !call->echo && !call->wants_progress && !call->wants_provenance &&
           !call->wants_ids;
}

static bool make_chunk(serve_job *job, int i)
{
    char mark[] = SERVE_CHUNK_MARK;
    size_t offset = 0;
    const serve_feed said = {.text = {.data = mark, .len = strlen(mark)}};
    const serve_part part = {.index = i, .feed = &said, .offset = &offset};
    return serve_chunk_make(&job->choices[i].chunk,
                            serve_chunk_json(&job->reply, serve_delta_json(&job->reply, &part)),
                            job->call.is_chat ? "content" : "text", SERVE_DUMP_FLAGS);
}

/* Passes on what a choice has said since the last time. */
static void stream_choice(serve_job *job, int i)
{
    choice *c = &job->choices[i];
    const bool ends = c->finished;
    serve_feed *said = &job->runs[i].said;
    drop_extra(job, said);
    if (job->call.wants_progress) tell_progress(job, i);
    const bool has_chunk = c->chunk.event.data != NULL;
    if ((has_chunk ? said->text.len : said->n_tokens) == 0 && !ends) return;
    if (has_chunk && !ends) {
        serve_stream_chunk(job->x, &c->chunk, said->text.data, said->text.len);
    } else {
        serve_part part = part_of(job, i);
        part.finish_reason = ends ? finish_reason(&job->runs[i]) : NULL;
        json_t *chunk = serve_chunk_json(&job->reply, serve_delta_json(&job->reply, &part));
        if (job->call.wants_provenance) serve_json_set(&chunk, "lookfar", serve_provenance_json(said));
        if (ends) add_extras(job, &chunk, &job->runs[i].result);
        serve_stream_event(job->x, chunk);
    }
    serve_feed_clear(said);
}

/* All choices were accepted: from now on there is no other status than 200. */
static void begin_stream(serve_job *job)
{
    job->begun = true;
    serve_stream_begin(job->x);
    for (int i = 0; i < job->n_runs; i++) {
        if (is_plain(&job->call) && !make_chunk(job, i)) serve_answer_lost(job->x);
        if (job->call.is_chat) serve_stream_event(job->x, serve_chunk_json(&job->reply, serve_role_json(i)));
        stream_choice(job, i);
    }
}

static void end_stream(serve_job *job)
{
    if (job->error.status) {
        serve_stream_event(job->x, serve_error_json(&job->error));
    } else {
        if (job->call.include_usage) {
            json_t *chunk = serve_envelope_json(&job->reply, json_array());
            serve_json_set(&chunk, "usage", serve_usage_json(&job->reply, &job->total));
            serve_stream_event(job->x, chunk);
        }
        serve_stream_done(job->x);
    }
    serve_stream_end(job->x);
}

/* ---- whole answers ---- */

static void answer_whole(serve_job *job)
{
    if (job->error.status) {
        serve_answer_error(job->x, &job->error);
        return;
    }
    json_t *choices = json_array(), *provenance = json_array();
    for (int i = 0; i < job->n_runs; i++) {
        drop_extra(job, &job->runs[i].said);
        serve_part part = part_of(job, i);
        part.finish_reason = finish_reason(&job->runs[i]);
        serve_json_push(&choices, serve_choice_json(&job->reply, &part));
        if (job->call.wants_provenance)
            serve_json_push(&provenance, serve_provenance_json(&job->runs[i].said));
    }
    json_t *answer = serve_envelope_json(&job->reply, choices);
    serve_json_set(&answer, "usage", serve_usage_json(&job->reply, &job->total));
    add_extras(job, &answer, &job->total);
    if (job->call.wants_provenance) serve_json_set(&answer, "lookfar", json_incref(provenance));
    json_decref(provenance);
    serve_answer_json(job->x, 200, answer);
}

/* ---- news ---- */

/* The choices of one prompt count its tokens once. */
static void add_result(lf_request_result *total, const lf_request_result *r, bool is_first)
{
    total->prompt_tokens += is_first ? r->prompt_tokens : 0;
    total->cached_tokens += is_first ? r->cached_tokens : 0;
    total->output_tokens += r->output_tokens;
    total->passes += r->passes;
    total->proposed += r->proposed;
    total->accepted += r->accepted;
    total->queue_seconds += r->queue_seconds;
    total->prefill_seconds += r->prefill_seconds;
    total->decode_seconds += r->decode_seconds;
}

static void finish_run(serve_job *job, int i)
{
    serve_server *s = job->server;
    serve_run *run = &job->runs[i];
    const double seconds = (double)(lf_clock_ns() - job->began_ns) * 1e-9;
    job->choices[i].finished = true;
    job->n_finished++;
    s->n_runs--;
    if (run->err.status != LF_OK && !job->error.status) {
        (void)serve_fail_status(&job->error, &run->err);
        if (job->choices[i].accepted && job->error.status < 500)
            job->error.status = 500; /* not the client's mistake */
        cancel_runs(job);
    }
    if (!job->choices[i].accepted) return; /* it never was one */
    if (job->call.params.n_predict == 0) run->result.output_tokens = 0;
    add_result(&job->total, &run->result, i % job->call.n == 0);
    serve_runner_count(s->runner, &run->result, seconds);
    s->mean_seconds += (seconds - s->mean_seconds) * 0.1;
}

void serve_job_on_news(serve_run *run)
{
    serve_job *job = run->owner;
    const int i = (int)(run - job->runs);
    choice *c = &job->choices[i];
    if (!c->accepted &&
        (run->state == SERVE_ACCEPTED || (run->state == SERVE_FINISHED && run->result.prompt_tokens > 0))) {
        c->accepted = true;
        job->n_accepted++;
    }
    if (run->state == SERVE_FINISHED) finish_run(job, i);
    const bool is_over = job->n_finished == job->n_runs, failed = job->error.status != 0;
    serve_exchange *x = job->x;
    if (!x) { /* the client is gone */
        if (is_over) free_job(job);
        return;
    }
    if (job->begun && !failed)
        stream_choice(job, i);
    else if (job->call.stream && !failed && job->n_accepted == job->n_runs)
        begin_stream(job);
    if (!is_over) return;
    x->prompt_tokens = job->total.prompt_tokens;
    x->output_tokens = job->total.output_tokens;
    if (job->begun)
        end_stream(job);
    else
        answer_whole(job);
}
