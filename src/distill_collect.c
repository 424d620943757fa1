/* lookfar.h's lf_distill_collect: Jacobi trajectories of many prompts, decoded together (CLLM, arXiv
 * 2403.00835, section 3.2.1).
 *
 *   prompts -> jobs: started in order, n_parallel of them decoding at a time, in rounds over all of them
 *           -> written in order: counted, filtered, augmented, one record each
 *
 * What a prompt's record says depends on the model, the prompt, its number and the parameters: not on the
 * other prompts (the Row law), and not on how often the collection was interrupted. So a file that is
 * continued ends with the bytes of an unbroken one, whatever n_parallel is. A job that is done waits for
 * those before it; jobs are started at most `window` ahead of the first that is not written. */
#include "engine_int.h"

#include "base/clock.h"
#include "decode/blocks.h"
#include "train/data_hash.h"
#include "train/data_text.h"
#include "train/prompts.h"
#include "train/trajectory_count.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_EACH = 4, PARALLEL_MAX = 256, MODEL_PROBE = 16 };
static const int64_t SYNC_NS = 1000000000;

void lf_distill_collect_params_init(lf_distill_collect_params *p)
{
    *p = (lf_distill_collect_params){.size = sizeof *p,
                                     .prompt_template = "{prompt}",
                                     .n_parallel = 8,
                                     .block = 16,
                                     .max_tokens = 512,
                                     .fill = "prompt",
                                     .top_p = 1.0f,
                                     .augment = 0.5f,
                                     .repeat_tokens = 10,
                                     .repeat_sentences = 3};
    lf_engine_params_init(&p->engine);
}

/* A prompt from its start until it is written. */
typedef struct job {
    enum { JOB_NONE, JOB_RUNNING, JOB_DONE } state;
    lf_seq
        seq; /* seq.proposer_state has the states until the job is written; NULL when nothing was decoded */
    lf_trajectory_drop drop;
} job;

typedef struct collector {
    const lf_distill_collect_params *params;
    lf_engine *engine;
    lf_prompts prompts;
    lf_trajectory_info info;
    lf_trajectory_writer *writer;
    lf_proposer *proposer;
    job *jobs; /* (window) prompt i is job i % window */
    int64_t window;
    int64_t n_resumed; /* records that were there already */
    int64_t n_started, n_written;
    lf_row *rows;   /* (batch_rows) of a prompt */
    lf_seq **seqs;  /* (n_parallel) the running jobs' */
    lf_ids states;  /* of the record at hand, augmented */
    int64_t n_kept; /* since the start */
    int64_t start_ns, sync_ns;
} collector;

/* ---- parameters ---- */

static int find_fill(const char *name)
{
    static const char *const names[LF_TRAJECTORY_FILL_COUNT] = {"prompt", "ngram"};
    for (int i = 0; name && i < LF_TRAJECTORY_FILL_COUNT; i++)
        if (strcmp(name, names[i]) == 0) return i;
    return -1;
}

static lf_status check_params(const lf_distill_collect_params *p, lf_error *err)
{
    if (p->size != sizeof *p)
        return lf_fail(
            err, LF_EINVAL,
            "collection parameters: found size %zu, expected %zu (lf_distill_collect_params_init sets it)",
            p->size, sizeof *p);
    if (!p->prompts_path || !p->out_path || !p->prompt_template)
        return lf_fail(err, LF_EINVAL, "collection: a path or the template of prompts is missing");
    if (p->block < 2 || p->block > LF_BLOCK_MAX)
        return lf_fail(err, LF_EINVAL, "tokens of a block: found %d, expected 2 to %d", p->block,
                       LF_BLOCK_MAX);
    if (p->n_parallel < 1 || p->n_parallel > PARALLEL_MAX)
        return lf_fail(err, LF_EINVAL, "parallel: found %d, expected 1 to %d", p->n_parallel, PARALLEL_MAX);
    if (p->max_tokens < 1 || p->max_tokens > 1 << 20)
        return lf_fail(err, LF_EINVAL, "max_tokens: found %d, expected 1 to %d", p->max_tokens, 1 << 20);
    if (find_fill(p->fill) < 0)
        return lf_fail(err, LF_EINVAL, "fill: found \"%s\", expected prompt or ngram",
                       p->fill ? p->fill : "");
    if (!(p->augment >= 0 && p->augment <= 1))
        return lf_fail(err, LF_EINVAL, "augment: found %g, expected 0 to 1", (double)p->augment);
    if (p->n_prompts < 0 || p->repeat_tokens < 0 || p->repeat_sentences < 0)
        return lf_fail(
            err, LF_EINVAL,
            "n_prompts, repeat_tokens and repeat_sentences: found %lld, %d and %d, expected 0 or more",
            (long long)p->n_prompts, p->repeat_tokens, p->repeat_sentences);
    return LF_OK;
}

/* Blocks of an output at most; the last one may pass max_tokens. */
static int max_blocks(const lf_distill_collect_params *p)
{
    return (p->max_tokens + p->block - 1) / p->block;
}

/* ---- what the file says ---- */

/* Of the logits after a fixed text: they have all that an output depends on besides the prompt and how it
 * is picked. */
static lf_status hash_model(uint64_t *out, lf_engine *e, lf_error *err)
{
    int32_t ids[MODEL_PROBE];
    const int n_vocab = e->model.config.n_vocab, n = n_vocab < MODEL_PROBE ? n_vocab : MODEL_PROBE;
    const size_t n_logits = (size_t)n * (size_t)n_vocab;
    float *logits = malloc(n_logits * sizeof *logits);
    if (!logits) return lf_fail_memory(err, "logits", n_logits * sizeof *logits);
    for (int i = 0; i < n; i++) ids[i] = i;
    const lf_status status = lf_score(e, ids, (size_t)n, logits, err);
    lf_data_hash hash = {0};
    lf_data_hash_add(&hash, logits, n_logits * sizeof *logits);
    *out = lf_data_hash_value(&hash);
    free(logits);
    return status;
}

static lf_status describe(collector *c, lf_error *err)
{
    const lf_distill_collect_params *p = c->params;
    const lf_token_info tokens = lf_data_token_info(c->engine->tokenizer);
    c->info = (lf_trajectory_info){.n_vocab = c->engine->model.config.n_vocab,
                                   .vocab_hash = tokens.vocab_hash,
                                   .prompts_hash = c->prompts.hash,
                                   .n_prompts = (int64_t)c->prompts.n,
                                   .n = p->block,
                                   .fill = (lf_trajectory_fill)find_fill(p->fill),
                                   .seed = p->seed,
                                   .temperature = p->temperature,
                                   .top_p = p->top_p,
                                   .min_p = p->min_p,
                                   .top_k = p->top_k,
                                   .max_tokens = max_blocks(p) * p->block,
                                   .augment = p->augment,
                                   .repeat_tokens = p->repeat_tokens,
                                   .repeat_sentences = p->repeat_sentences};
    return hash_model(&c->info.model_hash, c->engine, err);
}

/* ---- jobs ---- */

static bool emit(void *cookie, lf_seq *seq, int32_t id, const float *logits, bool proposed)
{
    const collector *c = cookie;
    (void)seq, (void)logits, (void)proposed;
    return !lf_tokenizer_is_eos(c->engine->tokenizer, id);
}

static job *job_of(const collector *c, int64_t i_prompt)
{
    return &c->jobs[i_prompt % c->window];
}

static void clear_job(collector *c, job *j)
{
    if (j->seq.proposer_state) c->proposer->ops->detach(c->proposer, &j->seq);
    lf_kv_seq_close(j->seq.kv);
    lf_ids_free(&j->seq.tokens);
    *j = (job){0};
}

/* Reads the prompt but for its last token, which is the first row of the first block. */
static lf_status prefill(const collector *c, lf_seq *seq, lf_error *err)
{
    const int n_read = seq->n_prompt - 1, rows_max = c->engine->batch_rows;
    for (int at = 0, n; at < n_read; at += n) {
        n = n_read - at < rows_max ? n_read - at : rows_max;
        const lf_status status = lf_kv_seq_reserve(seq->kv, n, err);
        if (status != LF_OK) return status;
        for (int i = 0; i < n; i++)
            c->rows[i] = (lf_row){.seq = seq->kv, .token = seq->tokens.data[at + i], .pos = at + i};
        lf_forward_run(c->engine->forward, c->rows, n);
        lf_kv_seq_commit(seq->kv, n);
    }
    return LF_OK;
}

static lf_status start_job(collector *c, int64_t i_prompt, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_distill_collect_params *p = c->params;
    const size_t first = c->prompts.offsets[i_prompt], end = c->prompts.offsets[i_prompt + 1];
    /* the last token of a sequence needs no slot in the cache: n_ctx + 1 tokens fit */
    const int n_prompt = (int)(end - first), n_ctx = c->engine->info.n_ctx,
              n_fit = n_prompt <= n_ctx ? (n_ctx + 1 - n_prompt) / p->block : 0;
    const int n_blocks = n_fit < max_blocks(p) ? n_fit : max_blocks(p);
    job *j = job_of(c, i_prompt);
    lf_seq *seq = &j->seq;
    *j = (job){.state = JOB_RUNNING};
    if (n_blocks == 0) {
        *j = (job){.state = JOB_DONE, .drop = LF_TRAJECTORY_TOO_LONG};
        return LF_OK;
    }
    *seq = (lf_seq){.len_max = n_prompt + n_blocks * p->block,
                    .n_prompt = n_prompt,
                    .emit = emit,
                    .cookie = c,
                    .draft_max = p->block - 1,
                    .proposer = c->proposer};
    lf_pick_params_init(&seq->pick);
    seq->pick.temperature = p->temperature;
    seq->pick.top_k = p->top_k;
    seq->pick.top_p = p->top_p;
    seq->pick.min_p = p->min_p;
    seq->pick.seed = p->seed + (uint64_t)i_prompt;
    seq->tokens.cap = (size_t)seq->len_max + LF_DRAFT_MAX + 1;
    seq->tokens.data = malloc(seq->tokens.cap * sizeof *seq->tokens.data);
    if (!seq->tokens.data) return lf_fail_memory(err, "a sequence", seq->tokens.cap * sizeof(int32_t));
    memcpy(seq->tokens.data, c->prompts.ids.data + first, (size_t)n_prompt * sizeof *seq->tokens.data);
    seq->tokens.len = (size_t)n_prompt;
    LF_TRY(lf_kv_seq_open(&seq->kv, c->engine->pool, n_ctx, err));
    LF_TRY(c->proposer->ops->attach(c->proposer, seq, err));
    status = prefill(c, seq, err);
done:
    return status;
}

/* Lists the running jobs' sequences. */
static int list_running(const collector *c)
{
    int n = 0;
    for (int64_t i = c->n_written; i < c->n_started; i++)
        if (job_of(c, i)->state == JOB_RUNNING) c->seqs[n++] = &job_of(c, i)->seq;
    return n;
}

static lf_status start_jobs(collector *c, lf_error *err)
{
    int n_running = list_running(c);
    while (n_running < c->params->n_parallel && c->n_started < c->info.n_prompts &&
           c->n_started - c->n_written < c->window) {
        const lf_status status = start_job(c, c->n_started++, err);
        if (status != LF_OK) return status;
        n_running += job_of(c, c->n_started - 1)->state == JOB_RUNNING;
    }
    return LF_OK;
}

/* One round; jobs whose output ended give back their cache. */
static lf_status step(collector *c, lf_error *err)
{
    lf_step info;
    const int n = list_running(c);
    if (n == 0) return LF_OK;
    const lf_status status = lf_round_step(c->engine->round, c->seqs, n, &info, err);
    if (status != LF_OK) return status;
    for (int64_t i = c->n_written; i < c->n_started; i++) {
        job *j = job_of(c, i);
        if (j->state != JOB_RUNNING || !j->seq.finished) continue;
        if (j->seq.not_finite)
            return lf_fail(err, LF_EFORMAT, "%s: prompt %lld: the logits at position %zu are not finite",
                           c->engine->path, (long long)i, j->seq.tokens.len);
        lf_kv_seq_close(j->seq.kv);
        j->seq.kv = NULL;
        j->state = JOB_DONE;
    }
    return LF_OK;
}

/* ---- records ---- */

/* Why the output (n) is no good, if it is not. */
static lf_status filter(lf_trajectory_drop *drop, const collector *c, const int32_t *output, int n,
                        lf_error *err)
{
    const lf_distill_collect_params *p = c->params;
    char *text;
    size_t len;
    *drop = LF_TRAJECTORY_KEPT;
    if (n == 1 && lf_tokenizer_is_eos(c->engine->tokenizer, output[0]))
        *drop = LF_TRAJECTORY_EMPTY;
    else if (lf_repeats_token(output, n, p->repeat_tokens))
        *drop = LF_TRAJECTORY_REPEATS_TOKEN;
    if (*drop != LF_TRAJECTORY_KEPT || p->repeat_sentences == 0) return LF_OK;
    const lf_status status = lf_detokenize(c->engine, output, (size_t)n, false, &text, &len, err);
    if (status == LF_OK && lf_repeats_sentence(text, len, p->repeat_sentences))
        *drop = LF_TRAJECTORY_REPEATS_SENTENCE;
    free(text);
    return status;
}

static lf_status augment(collector *c, lf_trajectory *t, uint64_t seed, lf_error *err)
{
    size_t n = 0;
    for (int b = 0; b < t->n_blocks; b++) n += (size_t)t->n_states[b] * (size_t)t->n;
    if (c->states.cap < n) {
        free(c->states.data);
        c->states = (lf_ids){.data = malloc(n * sizeof *c->states.data), .cap = n};
        if (!c->states.data) {
            c->states.cap = 0;
            return lf_fail_memory(err, "states", n * sizeof *c->states.data);
        }
    }
    memcpy(c->states.data, t->states, n * sizeof *c->states.data);
    lf_trajectory_augment(c->states.data, t, c->params->augment, seed);
    t->states = c->states.data;
    return LF_OK;
}

static lf_status write_job(collector *c, int64_t i_prompt, lf_error *err)
{
    lf_status status = LF_OK;
    const job *j = job_of(c, i_prompt);
    const lf_seq *seq = &j->seq;
    lf_trajectory_note note = {.i_prompt = i_prompt, .drop = j->drop};
    lf_trajectory t = {0};
    if (seq->proposer_state) {
        const lf_block_states b = lf_blocks_get(seq);
        t = (lf_trajectory){.prompt = seq->tokens.data,
                            .n_prompt = seq->n_prompt,
                            .n = b.n,
                            .n_blocks = b.n_blocks,
                            .n_states = b.n_states,
                            .states = b.states,
                            .n_output = (int)seq->tokens.len - seq->n_prompt};
        const lf_block_counts counts = lf_count_trajectory(&t);
        note.n_output = t.n_output;
        note.passes = seq->passes;
        note.stationary = counts.stationary;
        note.fast_forwarded = counts.fast_forwarded;
        LF_TRY(filter(&note.drop, c, seq->tokens.data + seq->n_prompt, t.n_output, err));
    }
    if (note.drop == LF_TRAJECTORY_KEPT) LF_TRY(augment(c, &t, seq->pick.seed, err));
    LF_TRY(lf_trajectory_writer_add(c->writer, note.drop == LF_TRAJECTORY_KEPT ? &t : NULL, &note, err));
    c->n_kept += note.drop == LF_TRAJECTORY_KEPT;
done:
    return status;
}

static lf_status tell_progress(const collector *c, lf_error *err)
{
    const lf_distill_collect_params *p = c->params;
    const double seconds = (double)(lf_clock_ns() - c->start_ns) * 1e-9;
    const int64_t n_new = c->n_written - c->n_resumed;
    const lf_distill_progress progress = {
        .size = sizeof progress,
        .n_prompts = c->info.n_prompts,
        .n_done = c->n_written,
        .n_resumed = c->n_resumed,
        .n_kept = c->n_kept,
        .seconds = seconds,
        .seconds_left = n_new > 0 ? seconds / (double)n_new * (double)(c->info.n_prompts - c->n_written) : 0};
    const bool goes_on = !p->on_progress || p->on_progress(p->cookie, &progress);
    if (goes_on || c->n_written == c->info.n_prompts) return LF_OK;
    return lf_fail(err, LF_ECANCELED, "%s: stopped after %lld of %lld prompts", p->out_path,
                   (long long)c->n_written, (long long)c->info.n_prompts);
}

/* Writes the jobs that are next in the order of the prompts. */
static lf_status write_jobs(collector *c, lf_error *err)
{
    lf_status status = LF_OK;
    while (c->n_written < c->n_started && job_of(c, c->n_written)->state == JOB_DONE) {
        LF_TRY(write_job(c, c->n_written, err));
        clear_job(c, job_of(c, c->n_written));
        c->n_written++;
    }
    const int64_t now = lf_clock_ns();
    if (now - c->sync_ns >= SYNC_NS || c->n_written == c->info.n_prompts) {
        LF_TRY(lf_trajectory_writer_sync(c->writer, err));
        c->sync_ns = now;
    }
    status = tell_progress(c, err);
done:
    return status;
}

/* ---- all of it ---- */

static lf_status open_engine(collector *c, lf_error *err)
{
    const lf_distill_collect_params *p = c->params;
    lf_engine_params engine = p->engine;
    engine.n_seqs = p->n_parallel;
    engine.n_candidates = p->block - 1; /* the states must not depend on the company */
    if (engine.batch_rows < p->n_parallel * p->block) engine.batch_rows = p->n_parallel * p->block;
    const lf_status status = lf_engine_open(&c->engine, &engine, err);
    if (status != LF_OK || c->engine->tokenizer) return status;
    return lf_fail(err, LF_EUNSUPPORTED, "%s: prompts need a tokenizer, and the model has none",
                   c->engine->path);
}

static lf_status prepare(collector *c, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_distill_collect_params *p = c->params;
    const lf_pick_params pick = {.temperature = p->temperature,
                                 .top_k = p->top_k,
                                 .top_p = p->top_p,
                                 .min_p = p->min_p,
                                 .repetition_penalty = 1.0f};
    LF_TRY(check_params(p, err));
    LF_TRY(open_engine(c, err));
    LF_TRY(lf_pick_params_check(&pick, c->engine->model.config.n_vocab, err));
    LF_TRY(lf_prompts_read(&c->prompts, p->prompts_path, p->prompt_template, p->n_prompts,
                           c->engine->tokenizer, err));
    LF_TRY(describe(c, err));
    LF_TRY(lf_blocks_open(
        &c->proposer, &(lf_blocks_params){.n = p->block, .ngram = c->info.fill == LF_TRAJECTORY_FILL_NGRAM},
        err));
    c->window = (int64_t)WINDOW_EACH * p->n_parallel;
    c->jobs = calloc((size_t)c->window, sizeof *c->jobs);
    c->rows = calloc((size_t)c->engine->batch_rows, sizeof *c->rows);
    c->seqs = calloc((size_t)p->n_parallel, sizeof *c->seqs);
    if (!c->jobs || !c->rows || !c->seqs) {
        status = lf_fail_memory(err, "a collection", (size_t)c->window * sizeof *c->jobs);
        goto done;
    }
    LF_TRY(lf_trajectory_writer_open(&c->writer, &c->n_resumed, p->out_path, &c->info, err));
    c->n_started = c->n_written = c->n_resumed;
done:
    return status;
}

lf_status lf_distill_collect(const lf_distill_collect_params *params, lf_error *err)
{
    lf_status status = LF_OK;
    collector c = {.params = params};
    LF_TRY(prepare(&c, err));
    c.start_ns = c.sync_ns = lf_clock_ns();
    while (c.n_written < c.info.n_prompts) {
        LF_TRY(start_jobs(&c, err));
        LF_TRY(step(&c, err));
        LF_TRY(write_jobs(&c, err));
    }
done:
    for (int64_t i = 0; c.jobs && i < c.window; i++) clear_job(&c, &c.jobs[i]);
    lf_trajectory_writer_close(c.writer);
    lf_proposer_close(c.proposer);
    free(c.jobs);
    free(c.rows);
    free(c.seqs);
    lf_ids_free(&c.states);
    lf_prompts_free(&c.prompts);
    lf_engine_close(c.engine);
    return status;
}
