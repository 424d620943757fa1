/* Requests: their parameters, their output, and how it ends, token by token. Who is decoded when is sched/sched.h's. */
#include "engine_int.h"

#include "base/clock.h"
#include "decode/window.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- parameters ---- */

void lf_request_params_init(lf_request_params *p)
{
    *p = (lf_request_params){.size = sizeof *p,
                             .n_predict = -1,
                             .repetition_penalty = 1.0f,
                             .repeat_last_n = 64,
                             .top_p = 1.0f,
                             .proposer = "none",
                             .drafting = "single",
                             .draft_max = -1,
                             .selection = "verify"};
}

const char *lf_finish_name(lf_finish finish)
{
    static const char *const names[] = {"none", "stop", "length", "cancel", "error"};
    return (unsigned)finish < sizeof names / sizeof *names ? names[finish] : "unknown";
}

lf_status lf_check_ids(const lf_engine *e, const char *what, const int32_t *ids, size_t n_ids, lf_error *err)
{
    for (size_t i = 0; i < n_ids; i++)
        if (ids[i] < 0 || ids[i] >= e->model.config.n_vocab)
            return lf_fail(err, LF_EINVAL, "%s: token %zu: found id %d, expected 0 to %d", what, i,
                           (int)ids[i], e->model.config.n_vocab - 1);
    return LF_OK;
}

static int find_selection(const char *name)
{
    static const char *const names[] = {"window", "snap", "verify"};
    for (int i = 0; name && i < LF_SELECT_COUNT; i++)
        if (strcmp(name, names[i]) == 0) return i;
    return -1;
}

static int find_drafting(const char *name)
{
    static const char *const names[] = {"single", "jacobi"};
    for (int i = 0; name && i < LF_DRAFTING_COUNT; i++)
        if (strcmp(name, names[i]) == 0) return i;
    return -1;
}

static lf_status check_params(const lf_engine *e, const lf_request_params *p, lf_error *err)
{
    lf_status status = LF_OK;
    if (p->size != sizeof *p)
        return lf_fail(err, LF_EINVAL,
                       "request parameters: found size %zu, expected %zu (lf_request_params_init sets it)",
                       p->size, sizeof *p);
    if (p->n_ids < 1) return lf_fail(err, LF_EINVAL, "prompt: found no tokens, expected at least 1");
    if (p->n_ids > (size_t)e->info.n_ctx)
        return lf_fail(err, LF_ELIMIT, "prompt: found %zu tokens, expected at most %d, the context", p->n_ids,
                       e->info.n_ctx);
    if (p->n_predict < -1)
        return lf_fail(err, LF_EINVAL, "n_predict: found %d, expected -1 or more", p->n_predict);
    if (!p->proposer || lf_proposer_find(p->proposer) < -1)
        return lf_fail(err, LF_EINVAL,
                       "proposer: found \"%s\", expected none, ngram, jacobi, sparse, draft or auto",
                       p->proposer ? p->proposer : "");
    if (lf_proposer_find(p->proposer) == LF_PROPOSER_DRAFT && !e->draft.forward)
        return lf_fail(err, LF_EINVAL,
                       "proposer: found \"draft\", but the engine was opened without a draft model");
    if (find_drafting(p->drafting) < 0)
        return lf_fail(err, LF_EINVAL, "drafting: found \"%s\", expected single or jacobi",
                       p->drafting ? p->drafting : "");
    if (find_selection(p->selection) < 0)
        return lf_fail(err, LF_EINVAL, "selection: found \"%s\", expected window, snap or verify",
                       p->selection ? p->selection : "");
    if (p->sparse_budget < 0)
        return lf_fail(err, LF_EINVAL, "sparse_budget: found %d, expected 0 or more", p->sparse_budget);
    if (p->draft_max < -1 || p->draft_max > LF_DRAFT_LIMIT)
        return lf_fail(err, LF_EINVAL, "draft_max: found %d, expected -1 to %d", p->draft_max,
                       LF_DRAFT_LIMIT);
    if (p->n_top < 0 || p->n_top > LF_TOP_LIMIT || p->n_top > e->model.config.n_vocab)
        return lf_fail(err, LF_EINVAL, "n_top: found %d, expected 0 to %d", p->n_top, LF_TOP_LIMIT);
    if (p->n_stop < 0 || p->n_stop > LF_STOP_LIMIT)
        return lf_fail(err, LF_EINVAL, "stop strings: found %d, expected 0 to %d", p->n_stop, LF_STOP_LIMIT);
    for (int i = 0; i < p->n_stop; i++)
        if (!p->stop[i] || p->stop[i][0] == '\0')
            return lf_fail(err, LF_EINVAL, "stop string %d is empty", i);
    if (p->n_stop > 0 && !e->tokenizer)
        return lf_fail(err, LF_EUNSUPPORTED, "%s: stop strings need a tokenizer, and the model has none",
                       e->path);
    if (p->grammar && !lf_grammar_is_over(p->grammar, e->token_bytes))
        return lf_fail(err, LF_EINVAL, "grammar: found one of another engine, expected one of this");
    if (p->grammar && p->ignore_eos)
        return lf_fail(err, LF_EINVAL,
                       "ignore_eos: found with a grammar, whose end is the output's, expected without");
    if (p->n_bias < 0) return lf_fail(err, LF_EINVAL, "n_bias: found %d, expected 0 or more", p->n_bias);
    if (p->n_prediction > (size_t)e->info.n_ctx)
        return lf_fail(err, LF_ELIMIT, "prediction: found %zu tokens, expected at most %d, the context",
                       p->n_prediction, e->info.n_ctx);
    LF_TRY(lf_check_ids(e, "prompt", p->ids, p->n_ids, err));
    LF_TRY(lf_check_ids(e, "prediction", p->prediction, p->n_prediction, err));
done:
    return status;
}

/* ---- submit ---- */

static void *copy_block(const void *src, size_t bytes)
{
    void *copy = malloc(bytes ? bytes : 1);
    if (copy && bytes) memcpy(copy, src, bytes);
    return copy;
}

static bool copy_params(lf_request *r, const lf_request_params *p)
{
    r->prediction = copy_block(p->prediction, p->n_prediction * sizeof *p->prediction);
    r->bias = copy_block(p->bias, (size_t)p->n_bias * sizeof *p->bias);
    r->stop = calloc((size_t)p->n_stop + 1, sizeof *r->stop);
    if (!r->prediction || !r->bias || !r->stop) return false;
    for (; r->n_stop < p->n_stop; r->n_stop++) {
        r->stop[r->n_stop] = lf_strndup(p->stop[r->n_stop], strlen(p->stop[r->n_stop]));
        if (!r->stop[r->n_stop]) return false;
    }
    r->ignore_eos = p->ignore_eos;
    r->special = p->special;
    r->logprobs = p->logprobs || p->n_top > 0;
    r->n_top = p->n_top;
    r->on_token = p->on_token;
    r->on_prefill = p->on_prefill;
    r->on_prompt = p->on_prompt;
    r->cookie = p->cookie;
    return true;
}

/* Tokens, their records and candidates get all the room they can need, so that decoding allocates nothing for them. */
static bool reserve_output(lf_request *r, const lf_request_params *p)
{
    lf_seq *seq = &r->seq;
    seq->tokens.cap = (size_t)seq->len_max + LF_DRAFT_MAX + 1;
    seq->tokens.data = malloc(seq->tokens.cap * sizeof *seq->tokens.data);
    r->tokens_cap = (size_t)seq->len_max - p->n_ids + 1;
    r->tokens = malloc(r->tokens_cap * sizeof *r->tokens);
    r->tops = malloc(r->tokens_cap * (size_t)r->n_top * sizeof *r->tops + 1);
    r->ids.cap = r->tokens_cap;
    r->ids.data = malloc(r->ids.cap * sizeof *r->ids.data);
    if (!seq->tokens.data || !r->tokens || !r->tops || !r->ids.data) return false;
    memcpy(seq->tokens.data, p->ids, p->n_ids * sizeof *p->ids);
    seq->tokens.len = p->n_ids;
    return true;
}

static bool emit(void *cookie, lf_seq *seq, int32_t id, const float *logits, bool proposed);
static void tell_prompt(void *cookie, lf_seq *seq, int i, const float *logits);

/* What was asked for, or as much as can pay. */
static void set_draft_max(lf_seq *seq, int i_proposer, int asked)
{
    enum { DEFAULT = 8 };
    const bool chooses = i_proposer == LF_PROPOSER_JACOBI || i_proposer == LF_PROPOSER_AUTO;
    seq->draft_free = asked < 0;
    seq->draft_max = i_proposer < 0 ? 0 : asked >= 0 ? asked : chooses ? LF_WINDOW_MAX : DEFAULT;
}

static void set_seq(lf_request *r, const lf_request_params *p)
{
    lf_seq *seq = &r->seq;
    /* the last token needs no slot in the cache: n_ctx + 1 tokens fit */
    const int n_ctx = r->engine->info.n_ctx, n_prompt = (int)p->n_ids;
    seq->len_max = p->n_predict >= 0 && p->n_predict < n_ctx + 1 - n_prompt ? n_prompt + p->n_predict
                                                                            : n_ctx + 1;
    seq->n_prompt = n_prompt;
    set_draft_max(seq, lf_proposer_find(p->proposer), p->draft_max);
    seq->drafting = (lf_drafting)find_drafting(p->drafting);
    seq->selection = (lf_selection)find_selection(p->selection);
    seq->sparse_budget = p->sparse_budget;
    seq->pick = (lf_pick_params){.temperature = p->temperature,
                                 .top_k = p->top_k,
                                 .top_p = p->top_p,
                                 .min_p = p->min_p,
                                 .repetition_penalty = p->repetition_penalty,
                                 .frequency_penalty = p->frequency_penalty,
                                 .presence_penalty = p->presence_penalty,
                                 .repeat_last_n = p->repeat_last_n,
                                 .seed = p->seed,
                                 .bias = r->bias,
                                 .n_bias = p->n_bias};
    seq->prediction = r->prediction;
    seq->n_prediction = (int)p->n_prediction;
    seq->emit = emit;
    seq->on_prompt = p->on_prompt ? tell_prompt : NULL;
    seq->cookie = r;
    r->job = (lf_job){.seq = seq,
                      .i_proposer = lf_proposer_find(p->proposer),
                      .no_prefix_cache = p->no_prefix_cache || p->on_prompt,
                      .err = &r->err};
}

/* A stage of the pick for the grammar. */
static lf_status set_grammar(lf_request *r, lf_grammar *grammar, lf_error *err)
{
    lf_seq *seq = &r->seq;
    if (!grammar) return LF_OK;
    const lf_status status = lf_grammar_cursor_create(&r->cursor, grammar, seq->n_prompt,
                                                      seq->len_max - seq->n_prompt + LF_DRAFT_MAX + 1, err);
    seq->pick.mask = lf_grammar_cursor_mask;
    seq->pick.mask_cookie = r->cursor;
    return status;
}

static void free_request(lf_request *r)
{
    lf_grammar_cursor_free(r->cursor);
    free(r->prediction);
    free(r->bias);
    for (int i = 0; i < r->n_stop; i++) free(r->stop[i]);
    free(r->stop);
    free(r->tokens);
    free(r->tops);
    lf_ids_free(&r->ids);
    lf_ids_free(&r->seq.tokens);
    lf_bytes_free(&r->text);
    free(r);
}

lf_status lf_request_submit(lf_request **out, lf_engine *e, const lf_request_params *p, lf_error *err)
{
    lf_status status = LF_OK;
    lf_request *r = NULL;
    *out = NULL;
    LF_TRY(check_params(e, p, err));
    r = calloc(1, sizeof *r);
    if (!r) {
        status = lf_fail_memory(err, "a request", sizeof *r);
        goto done;
    }
    *r = (lf_request){.engine = e, .submitted_ns = lf_clock_ns(), .detok.started = true};
    if (!copy_params(r, p)) {
        status = lf_fail_memory(err, "a request", sizeof *r);
        goto done;
    }
    set_seq(r, p);
    LF_TRY(set_grammar(r, p->grammar, err));
    LF_TRY(lf_pick_params_check(&r->seq.pick, e->model.config.n_vocab, err));
    if (!reserve_output(r, p)) {
        status = lf_fail_memory(err, "a request's output", r->tokens_cap * sizeof *r->tokens);
        goto done;
    }
    if (p->n_predict == 0) { /* nothing to do, but the prompt was checked */
        r->finish = LF_FINISH_LENGTH;
        r->job.admitted_ns = r->prefilled_ns = r->finished_ns = r->submitted_ns;
        e->stats.finished[LF_FINISH_LENGTH]++;
    } else {
        LF_TRY(lf_sched_submit(e->sched, &r->job, err));
    }
    r->job.id = e->n_submitted++;
    *out = r;
done:
    if (status != LF_OK && r) free_request(r);
    return status;
}

int64_t lf_request_id(const lf_request *r)
{
    return r->job.id;
}

/* ---- the end ---- */

/* Takes a request out of the scheduler; its output stays. */
static void end_request(lf_request *r, lf_finish finish)
{
    if (r->finish != LF_FINISH_NONE) return;
    r->finish = finish;
    r->finished_ns = lf_clock_ns();
    if (!r->job.admitted_ns) r->job.admitted_ns = r->finished_ns;
    if (!r->prefilled_ns) r->prefilled_ns = r->finished_ns;
    r->engine->stats.finished[finish]++;
    lf_sched_remove(r->engine->sched, &r->job);
}

void lf_request_cancel(lf_request *r)
{
    if (r->finish != LF_FINISH_NONE) return; /* its engine may be closed */
    /* inside a step the round still works on the sequence: it ends with the step */
    if (r->engine->stepping && r->job.active) {
        r->cancel_asked = true;
        r->seq.finished = true;
    } else {
        end_request(r, LF_FINISH_CANCEL);
    }
}

void lf_request_free(lf_request *r)
{
    if (!r) return;
    assert(!r->in_callback);
    lf_request_cancel(r);
    if (r->finish == LF_FINISH_NONE)
        r->abandoned = true; /* the round still works on it */
    else
        free_request(r);
}

/* ---- tokens ---- */

/* The earliest stop string in text that ends after `from`, or SIZE_MAX. */
static size_t find_stop(const lf_request *r, size_t from)
{
    size_t earliest = SIZE_MAX;
    for (int i = 0; i < r->n_stop; i++) {
        const size_t n = strlen(r->stop[i]), begin = from > n ? from - n : 0;
        const char *found = r->text.len - begin >= n
                                ? memmem(r->text.data + begin, r->text.len - begin, r->stop[i], n)
                                : NULL;
        if (found && (size_t)(found - r->text.data) < earliest) earliest = (size_t)(found - r->text.data);
    }
    return earliest;
}

/* How many bytes at the end of the text may be the beginning of a stop string. */
static size_t held_back(const lf_request *r)
{
    size_t held = 0;
    const size_t unsent = r->text.len - r->text_sent;
    for (int i = 0; i < r->n_stop; i++) {
        const size_t n = strlen(r->stop[i]);
        for (size_t k = n - 1 < unsent ? n - 1 : unsent; k > held; k--)
            if (memcmp(r->text.data + r->text.len - k, r->stop[i], k) == 0) held = k;
    }
    return held;
}

static lf_token token_at(const lf_request *r, size_t i)
{
    const output_token *t = &r->tokens[i];
    return (lf_token){.id = r->ids.data[i],
                      .text = r->text.data ? r->text.data + t->text_begin : "",
                      .len = t->text_end - t->text_begin,
                      .proposed = t->proposed,
                      .logprob = t->logprob,
                      .top = r->tops + i * (size_t)r->n_top,
                      .n_top = r->n_top};
}

static bool call_on_token(lf_request *r, const lf_token *token)
{
    if (!r->on_token) return true;
    r->in_callback = true;
    const bool goes_on = r->on_token(r->cookie, token);
    r->in_callback = false;
    return goes_on;
}

/* The round's on_prompt. */
static void tell_prompt(void *cookie, lf_seq *seq, int i, const float *logits)
{
    lf_request *r = cookie;
    lf_logprob top[LF_TOP_LIMIT];
    lf_token token = {.id = seq->tokens.data[i], .text = "", .top = top, .n_top = r->n_top};
    if (r->cancel_asked) return;
    lf_round_logprobs(r->engine->round, logits, token.id, &token.logprob, top, r->n_top);
    r->in_callback = true;
    if (!r->on_prompt(r->cookie, &token)) r->cancel_asked = seq->finished = true;
    r->in_callback = false;
}

/* Appends a token's text and decides what of the text is certain. False: memory ran out. *stopped: a stop string is there, and
 * the text ends before it. */
static bool extend_text(lf_request *r, int32_t id, bool *stopped)
{
    const size_t before = r->text.len;
    *stopped = false;
    if (!r->engine->tokenizer) return true;
    if (lf_append_text(r->engine, &r->detok, id, r->special, &r->text, &r->err) != LF_OK) return false;
    const size_t stop = find_stop(r, before);
    if (stop == SIZE_MAX) return true;
    *stopped = true;
    r->text.len = stop;
    r->text.data[stop] = '\0';
    r->detok.n_tail = 0; /* what waited for the rest of a code point came after the stop string */
    return true;
}

static void record_token(lf_request *r, int32_t id, const float *logits, bool proposed, size_t text_end)
{
    const size_t i = r->ids.len;
    assert(i < r->tokens_cap);
    output_token *t = &r->tokens[i];
    *t = (output_token){.text_begin = r->text_sent, .text_end = text_end, .proposed = proposed};
    if (r->logprobs)
        lf_round_logprobs(r->engine->round, logits, id, &t->logprob, r->tops + i * (size_t)r->n_top,
                          r->n_top);
    r->ids.data[r->ids.len++] = id;
    r->text_sent = text_end;
    r->engine->stats.output_tokens++;
}

/* Tells of a prompt that moved to `done` tokens. */
static void tell_prefill(lf_request *r, int done)
{
    if (!r->on_prefill || r->cancel_asked || done <= r->prefill_told) return;
    r->prefill_told = done;
    r->in_callback = true;
    if (!r->on_prefill(r->cookie, done, r->seq.n_prompt)) r->cancel_asked = r->seq.finished = true;
    r->in_callback = false;
}

/* The round's emit: one more token of the output. */
static bool emit(void *cookie, lf_seq *seq, int32_t id, const float *logits, bool proposed)
{
    lf_request *r = cookie;
    bool stopped;
    if (!r->prefilled_ns) r->prefilled_ns = lf_clock_ns();
    tell_prefill(r, seq->n_prompt); /* before the first token, which comes with the prompt's last pass */
    if (r->cancel_asked) return false;
    if (r->engine->tokenizer && !r->ignore_eos && lf_tokenizer_is_eos(r->engine->tokenizer, id)) {
        r->stopped = true;
        return false;
    }
    if (!extend_text(r, id, &stopped)) {
        r->failed = true;
        return false;
    }
    if (r->cursor && lf_grammar_cursor_is_done(r->cursor, seq->tokens.data, (int)seq->tokens.len))
        stopped = true;
    r->stopped = stopped;
    const bool last = stopped || (int)seq->tokens.len >= seq->len_max;
    record_token(r, id, logits, proposed, last ? r->text.len : r->text.len - held_back(r));
    const lf_token token = token_at(r, r->ids.len - 1);
    if (!call_on_token(r, &token)) r->cancel_asked = true;
    return !stopped && !r->cancel_asked;
}

/* The text that waited, when the output ends otherwise than by a stop string. */
static void flush_text(lf_request *r)
{
    if (r->engine->tokenizer && !r->stopped && lf_detok_finish(&r->detok, &r->text, &r->err) != LF_OK)
        r->failed = true;
    if (r->text_sent >= r->text.len) return;
    const lf_token tail = {.id = -1, .text = r->text.data + r->text_sent, .len = r->text.len - r->text_sent};
    r->text_tail = r->text_sent;
    r->has_tail = true;
    r->text_sent = r->text.len;
    if (!r->cancel_asked) (void)call_on_token(r, &tail);
}

/* ---- stepping ---- */

static lf_finish finish_of(const lf_request *r)
{
    return r->failed         ? LF_FINISH_ERROR
           : r->cancel_asked ? LF_FINISH_CANCEL
           : r->stopped      ? LF_FINISH_STOP
                             : LF_FINISH_LENGTH;
}

/* Tells of a prompt that moved, and ends what the pass finished. A callback may end the request, or any other. */
static void settle_request(lf_request *r)
{
    const int len = lf_kv_seq_len(r->seq.kv);
    tell_prefill(r, len < r->seq.n_prompt ? len : r->seq.n_prompt);
    if (!r->seq.finished || r->finish != LF_FINISH_NONE) return;
    if (r->seq.not_finite)
        r->failed = lf_fail(&r->err, LF_EFORMAT, "%s: the logits at position %zu are not finite%s",
                            r->engine->path, r->seq.tokens.len,
                            r->cursor ? ", or no token is allowed that has one" : "") != LF_OK;
    if (!r->failed) flush_text(r);
    end_request(r, finish_of(r));
}

static void settle_requests(lf_engine *e)
{
    for (int i = 0; i < lf_sched_n_stepped(e->sched); i++) {
        const lf_job *job = lf_sched_stepped(e->sched, i);
        if (!job) continue;
        lf_request *r = job->seq->cookie;
        if (job->failed)
            end_request(r, LF_FINISH_ERROR);
        else
            settle_request(r);
        if (r->abandoned) free_request(r);
    }
}

/* What each request had of the pass, before what finished is settled. */
static void collect_step_seqs(const lf_engine *e)
{
    lf_step_seq *out = e->step_seqs;
    for (int i = 0; i < lf_sched_n_stepped(e->sched); i++) {
        const lf_job *job = lf_sched_stepped(e->sched, i);
        const lf_seq_step *s = &job->seq->step;
        if (!job->failed && s->rows > 0)
            *out++ = (lf_step_seq){.id = job->id,
                                   .rows = s->rows,
                                   .proposer = s->proposer,
                                   .budget = s->budget,
                                   .proposed = s->proposed,
                                   .accepted = s->accepted,
                                   .emitted = s->emitted};
    }
}

static void fill_step_info(const lf_engine *e, const lf_step *step, lf_step_info *info)
{
    *info = (lf_step_info){.size = sizeof *info,
                           .n_requests = step->n_seqs,
                           .prefill_rows = step->prefill_rows,
                           .decode_rows = step->decode_rows,
                           .proposed = step->proposed,
                           .accepted = step->accepted,
                           .emitted = step->emitted,
                           .queued = lf_sched_n_queued(e->sched),
                           .active = lf_sched_n_active(e->sched),
                           .propose_seconds = (double)step->propose_ns * 1e-9,
                           .forward_seconds = (double)step->forward_ns * 1e-9,
                           .pick_seconds = (double)step->pick_ns * 1e-9,
                           .seqs = e->step_seqs};
    info->preemptions = lf_sched_preempted(e->sched, &info->preempted);
}

lf_status lf_engine_step(lf_engine *e, bool *busy, lf_step_info *info, lf_error *err)
{
    lf_step step;
    assert(!e->stepping);
    *busy = lf_sched_first(e->sched) != NULL;
    e->stepping = true;
    const lf_status status = lf_sched_step(e->sched, &step, err);
    e->stepping = false;
    if (info) collect_step_seqs(e);
    settle_requests(e);
    if (info) fill_step_info(e, &step, info);
    return status;
}

/* ---- waiting and pulling ---- */

bool lf_request_is_finished(const lf_request *r)
{
    return r->finish != LF_FINISH_NONE;
}

static lf_status step_for(lf_request *r, lf_error *err)
{
    bool busy;
    const lf_status status = lf_engine_step(r->engine, &busy, NULL, err);
    assert(status != LF_OK || busy || lf_request_is_finished(r));
    return status;
}

lf_status lf_request_wait(lf_request *r, lf_error *err)
{
    while (!lf_request_is_finished(r)) {
        const lf_status status = step_for(r, err);
        if (status != LF_OK) return status;
    }
    if (r->finish == LF_FINISH_ERROR) return lf_fail(err, r->err.status, "%s", r->err.text);
    return LF_OK;
}

lf_status lf_request_next(lf_request *r, lf_token *token, bool *more, lf_error *err)
{
    *more = true;
    while (r->i_pull == r->ids.len && !lf_request_is_finished(r)) {
        const lf_status status = step_for(r, err);
        if (status != LF_OK) return status;
    }
    if (r->i_pull < r->ids.len) {
        *token = token_at(r, r->i_pull++);
        return LF_OK;
    }
    if (r->finish == LF_FINISH_ERROR) return lf_fail(err, r->err.status, "%s", r->err.text);
    *more = r->has_tail;
    *token = (lf_token){.id = -1, .text = ""};
    if (!r->has_tail) return LF_OK;
    token->text = r->text.data + r->text_tail;
    token->len = r->text.len - r->text_tail;
    r->has_tail = false;
    return LF_OK;
}

void lf_request_get_result(const lf_request *r, lf_request_result *result)
{
    const int64_t now = lf_clock_ns();
    const int64_t admitted = r->job.admitted_ns ? r->job.admitted_ns : now,
                  prefilled = r->prefilled_ns ? r->prefilled_ns : now;
    const int n_emitted = (int)r->seq.tokens.len - r->seq.n_prompt,
              n_states = r->seq.passes - r->seq.confirming;
    *result = (lf_request_result){
        .size = sizeof *result,
        .finish = r->finish,
        .prompt_tokens = r->seq.n_prompt,
        .cached_tokens = r->job.cached_tokens,
        .output_tokens = (int)r->ids.len,
        .passes = r->seq.passes,
        .draft_passes = r->seq.draft_passes,
        .proposed = r->seq.proposed,
        .accepted = r->seq.accepted,
        .fast_forwarded = n_states > 0 ? (double)n_emitted / n_states : 0,
        .stationary = r->seq.stationary,
        .preemptions = r->job.preemptions,
        .ttft_seconds = n_emitted > 0 ? (double)(prefilled - r->submitted_ns) * 1e-9 : 0.0,
        .queue_seconds = (double)(admitted - r->submitted_ns) * 1e-9,
        .prefill_seconds = (double)(prefilled - admitted) * 1e-9,
        .decode_seconds = (double)((r->finished_ns ? r->finished_ns : now) - prefilled) * 1e-9};
}

const int32_t *lf_request_ids(const lf_request *r, size_t *n)
{
    *n = r->ids.len;
    return r->ids.data;
}

const char *lf_request_text(const lf_request *r, size_t *len)
{
    *len = r->text_sent;
    return r->text.data ? r->text.data : "";
}

lf_status lf_generate(lf_engine *e, const lf_request_params *params, lf_request_result *result, lf_error *err)
{
    lf_request *r;
    lf_status status = lf_request_submit(&r, e, params, err);
    if (status != LF_OK) return status;
    status = lf_request_wait(r, err);
    if (status == LF_OK && result) lf_request_get_result(r, result);
    lf_request_free(r);
    return status;
}
