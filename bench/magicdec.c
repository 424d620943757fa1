#include "magicdec.h"

#include "base/clock.h"
#include "base/cpu.h"
#include "base/map.h"
#include "decode/round.h"
#include "token/tokenizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LAST_ROWS = 32, /* of a prompt, which each run reads itself: some proposers look at their attention */
    CHUNK_ROWS = 512,
};

/* A sequence of the cell at hand. */
typedef struct subject {
    lf_kv_seq *prompt; /* all but the last rows, forked by each run */
    lf_seq seq;
    int32_t *tokens; /* (context + n_tokens + LF_DRAFT_MAX) */
    int32_t *plain;  /* (n_tokens) what plain decoding says */
    int n_output;
    int64_t finished_ns;
} subject;

typedef struct lab {
    const bench_magicdec_options *o;
    const bench_hooks *hooks;
    bench_magicdec_fn *on_result;
    lf_source source;
    lf_kernels kernels;
    lf_threads *threads;
    lf_model model;
    lf_tokenizer *tokenizer;
    lf_ids text;

    /* of a cell */
    int batch, context;
    lf_kv_pool *pool;
    lf_forward *forward;
    lf_round *round;
    lf_proposer *proposers[LF_PROPOSER_COUNT];
    lf_cost cost;
    subject *subjects; /* (batch) */
    lf_seq **seqs;     /* (batch) */
    lf_row *rows;      /* (CHUNK_ROWS) */
} lab;

/* What the repetitions of a setting gave. */
typedef struct tally {
    double *tps;    /* (reps) */
    double latency; /* sum over repetitions */
    long passes, proposed, accepted, tokens;
    bool different;
} tally;

/* ---- opening ---- */

static lf_status read_text(lab *l, lf_error *err)
{
    lf_map map;
    lf_status status = lf_map_open(&map, l->o->text_path, err);
    if (status != LF_OK) return status;
    status = lf_tokenizer_encode(l->tokenizer, (const char *)map.data, map.size, false, &l->text, err);
    lf_map_close(&map);
    return status;
}

static lf_status open_lab(lab *l, lf_error *err)
{
    lf_status status = LF_OK;
    const bench_magicdec_options *o = l->o;
    const lf_load_params load = {.weight_dtype = -1};
    const int n_threads = o->n_threads ? o->n_threads : lf_threads_processors();
    lf_kernels_init(&l->kernels, lf_cpu_flags() & o->cpu_mask);
    LF_TRY(lf_threads_create(&l->threads, n_threads, n_threads <= lf_threads_processors(), err));
    LF_TRY(lf_source_open(&l->source, o->model_path, err));
    if (l->source.form == LF_NAMES_HF)
        LF_TRY(lf_tokenizer_from_dir(&l->tokenizer, o->model_path, err));
    else
        LF_TRY(lf_tokenizer_from_gguf(&l->tokenizer, l->source.gguf, err));
    LF_TRY(lf_model_load(&l->model, &l->source, l->threads, &load, err));
    LF_TRY(read_text(l, err));
done:
    return status;
}

static void close_lab(lab *l)
{
    lf_ids_free(&l->text);
    lf_model_free(&l->model);
    lf_tokenizer_free(l->tokenizer);
    lf_source_close(&l->source);
    lf_threads_free(l->threads);
}

/* ---- a cell ---- */

static int pages_of(int n_positions)
{
    return (n_positions + LF_PAGE_POS - 1) / LF_PAGE_POS + 1;
}

/* Emits into the output; only the first n_tokens are looked at. */
static bool collect(void *cookie, lf_seq *seq, int32_t id, const float *logits, bool proposed)
{
    (void)seq, (void)id, (void)logits, (void)proposed;
    subject *s = cookie;
    s->n_output++;
    return true;
}

/* The i-th part of the text, from its beginning. */
static lf_status make_prompt(lab *l, int i, lf_error *err)
{
    subject *s = &l->subjects[i];
    const size_t n = (size_t)l->context, room = n + (size_t)l->o->n_tokens + LF_DRAFT_MAX + 1;
    const int32_t bos = lf_tokenizer_bos(l->tokenizer);
    s->tokens = malloc(room * sizeof *s->tokens);
    s->plain = malloc((size_t)l->o->n_tokens * sizeof *s->plain);
    if (!s->tokens || !s->plain) return lf_fail_memory(err, "a prompt", room * sizeof *s->tokens);
    const size_t from = (l->text.len - n) / (size_t)l->batch * (size_t)i;
    memcpy(s->tokens, l->text.data + from, n * sizeof *s->tokens);
    if (lf_tokenizer_adds_bos(l->tokenizer)) s->tokens[0] = bos;
    return lf_kv_seq_open(&s->prompt, l->pool, l->context + l->o->n_tokens, err);
}

/* Reads all but the last rows of the prompts, one after the other. */
static lf_status read_prompts(lab *l, lf_error *err)
{
    const int n = l->context - LAST_ROWS;
    for (int i = 0; i < l->batch; i++)
        for (int begin = 0; begin < n; begin += CHUNK_ROWS) {
            const int n_rows = n - begin < CHUNK_ROWS ? n - begin : CHUNK_ROWS;
            lf_kv_seq *seq = l->subjects[i].prompt;
            const lf_status status = lf_kv_seq_reserve(seq, n_rows, err);
            if (status != LF_OK) return status;
            for (int r = 0; r < n_rows; r++)
                l->rows[r] = (lf_row){
                    .seq = seq, .token = l->subjects[i].tokens[begin + r], .pos = begin + r};
            lf_forward_run(l->forward, l->rows, n_rows);
            lf_kv_seq_commit(seq, n_rows);
            if (l->hooks->canceled(l->hooks->cookie)) return lf_fail(err, LF_ECANCELED, "interrupted");
            l->hooks->on_progress(l->hooks->cookie, "reading prompts",
                                  ((double)i + (double)(begin + n_rows) / n) / l->batch);
        }
    return LF_OK;
}

static lf_status open_cell(lab *l, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_config *c = &l->source.config;
    const bench_magicdec_options *o = l->o;
    const int rows_max = l->batch * LAST_ROWS > CHUNK_ROWS ? l->batch * LAST_ROWS : CHUNK_ROWS;
    const int n_pages = l->batch * (pages_of(l->context) + 2 * pages_of(o->n_tokens + LAST_ROWS)) +
                        pages_of(2048 + 256);
    lf_kv_shape shape = {.n_layers = c->n_layers, .n_kv_heads = c->n_kv_heads};
    if (l->text.len < (size_t)l->context || l->context <= LAST_ROWS)
        return lf_fail(err, LF_EINVAL, "%s: found %zu tokens, expected at least %d, the context",
                       o->text_path, l->text.len, l->context > LAST_ROWS ? l->context : LAST_ROWS + 1);
    if (!lf_kv_layout_init(&shape.layout, o->kv_dtype, c->head_dim))
        return lf_fail(err, LF_EINVAL, "KV type: found %s, expected f32, f16, bf16 or q8_0",
                       lf_dtype_name(o->kv_dtype));
    LF_TRY(lf_kv_pool_create(&l->pool, &shape, n_pages, err));
    LF_TRY(lf_forward_create(&l->forward, &l->model, &l->kernels, l->threads, &shape.layout, rows_max,
                             rows_max, err));
    LF_TRY(lf_round_create(&l->round, l->forward, c, l->batch, rows_max, rows_max, err));
    l->subjects = calloc((size_t)l->batch, sizeof *l->subjects);
    l->seqs = calloc((size_t)l->batch, sizeof(lf_seq *));
    l->rows = calloc(CHUNK_ROWS, sizeof *l->rows);
    if (!l->subjects || !l->seqs || !l->rows) {
        status = lf_fail_memory(err, "sequences", (size_t)l->batch * sizeof *l->subjects);
        goto done;
    }
    for (int i = 0; i < l->batch; i++) LF_TRY(make_prompt(l, i, err));
    LF_TRY(read_prompts(l, err));
done:
    return status;
}

static void close_cell(lab *l)
{
    for (int i = 0; i < LF_PROPOSER_COUNT; i++) {
        lf_proposer_close(l->proposers[i]);
        l->proposers[i] = NULL;
    }
    for (int i = 0; l->subjects && i < l->batch; i++) {
        lf_kv_seq_close(l->subjects[i].prompt);
        free(l->subjects[i].tokens);
        free(l->subjects[i].plain);
    }
    free(l->subjects);
    free(l->seqs);
    free(l->rows);
    lf_round_free(l->round);
    lf_forward_free(l->forward);
    lf_kv_pool_free(l->pool);
    l->subjects = NULL;
    l->seqs = NULL;
    l->rows = NULL;
    l->round = NULL;
    l->forward = NULL;
    l->pool = NULL;
}

/* ---- a run ---- */

static lf_status find_proposer(lab *l, int index, lf_proposer **out, lf_error *err)
{
    const lf_proposer_env env = {.forward = l->forward,
                                 .config = &l->source.config,
                                 .threads = l->threads,
                                 .n_ctx = l->context + l->o->n_tokens,
                                 .seqs_max = l->batch,
                                 .pool = l->pool,
                                 .rows_max = CHUNK_ROWS,
                                 .cost = &l->cost,
                                 .profile_seconds = 1.0};
    lf_status status = LF_OK;
    *out = NULL;
    if (index < 0) return LF_OK;
    if (!l->proposers[index]) status = lf_proposer_open(&l->proposers[index], index, &env, err);
    *out = l->proposers[index];
    return status;
}

static void end_subject(subject *s)
{
    if (s->seq.proposer) s->seq.proposer->ops->detach(s->seq.proposer, &s->seq);
    lf_kv_seq_close(s->seq.kv);
    s->seq = (lf_seq){0};
}

static lf_status start_subject(lab *l, subject *s, const bench_setting *setting, lf_proposer *proposer,
                               lf_error *err)
{
    lf_status status = LF_OK;
    const int n = l->context;
    s->n_output = 0;
    s->seq = (lf_seq){.tokens = {.data = s->tokens, .len = (size_t)n},
                      .len_max = n + l->o->n_tokens,
                      .n_prompt = n,
                      .emit = collect,
                      .cookie = s,
                      .draft_max = setting->g,
                      .selection = setting->selection,
                      .sparse_budget = setting->budget};
    s->seq.tokens.cap = (size_t)s->seq.len_max + LF_DRAFT_MAX + 1;
    lf_pick_params_init(&s->seq.pick);
    s->seq.pick.temperature = l->o->temperature;
    s->seq.pick.seed = (uint64_t)(s - l->subjects);
    LF_TRY(lf_kv_seq_fork(&s->seq.kv, s->prompt, err));
    if (proposer) LF_TRY(proposer->ops->attach(proposer, &s->seq, err));
    s->seq.proposer = proposer;
done:
    return status;
}

/* Steps until every sequence has its tokens. The first steps, which read the rest of the prompts, are not timed. */
static lf_status decode(lab *l, double *seconds, long *n_timed, lf_error *err)
{
    lf_step step;
    int64_t start = 0;
    int n_left = l->batch;
    *n_timed = 0;
    while (n_left > 0) {
        const lf_status status = lf_round_step(l->round, l->seqs, l->batch, &step, err);
        if (status != LF_OK) return status;
        if (l->hooks->canceled(l->hooks->cookie)) return lf_fail(err, LF_ECANCELED, "interrupted");
        const int64_t now = lf_clock_ns();
        if (step.prefill_rows > 0)
            start = now;
        else
            *n_timed += step.emitted;
        n_left = 0;
        for (int i = 0; i < l->batch; i++) {
            subject *s = &l->subjects[i];
            if (!s->seq.finished)
                n_left++;
            else if (s->finished_ns == 0)
                s->finished_ns = now - start;
        }
        *seconds = (double)(now - start) * 1e-9;
    }
    return LF_OK;
}

static lf_status run_setting(lab *l, const bench_setting *setting, tally *t, int rep, lf_error *err)
{
    lf_status status = LF_OK;
    lf_proposer *proposer;
    double seconds = 0.0;
    long n_timed = 0;
    LF_TRY(find_proposer(l, setting->proposer, &proposer, err));
    for (int i = 0; i < l->batch; i++) {
        l->seqs[i] = &l->subjects[i].seq;
        l->subjects[i].finished_ns = 0;
        LF_TRY(start_subject(l, &l->subjects[i], setting, proposer, err));
    }
    LF_TRY(decode(l, &seconds, &n_timed, err));
    t->tps[rep] = (double)n_timed / seconds;
    for (int i = 0; i < l->batch; i++) {
        subject *s = &l->subjects[i];
        const int32_t *output = s->tokens + l->context;
        const size_t bytes = (size_t)l->o->n_tokens * sizeof *output;
        if (setting->proposer < 0 && rep == 0) memcpy(s->plain, output, bytes);
        t->different |= memcmp(s->plain, output, bytes) != 0;
        t->latency += (double)s->finished_ns;
        t->passes += s->seq.passes;
        t->proposed += s->seq.proposed;
        t->accepted += s->seq.accepted;
        t->tokens += s->n_output;
    }
done:
    for (int i = 0; i < l->batch; i++) end_subject(&l->subjects[i]);
    return status;
}

static lf_status report(const lab *l, const bench_setting *setting, const tally *t, const tally *plain,
                        lf_error *err)
{
    bench_magicdec_result r = {.model = l->o->model_path,
                               .proposer = lf_proposer_name(setting->proposer),
                               .setting = *setting,
                               .batch = l->batch,
                               .context = l->context,
                               .tps = bench_spread_of(t->tps, l->o->reps),
                               .acceptance = t->proposed ? (double)t->accepted / (double)t->proposed : NAN,
                               .tokens_per_pass = (double)t->tokens / (double)t->passes,
                               .latency_ratio = t->latency / plain->latency,
                               .identical = !t->different};
    r.speedup = r.tps.median / bench_spread_of(plain->tps, l->o->reps).median;
    return l->on_result(l->hooks->cookie, &r, err);
}

static lf_status measure_cell(lab *l, lf_error *err)
{
    lf_status status = LF_OK;
    const int n = l->o->n_settings + 1, reps = l->o->reps; /* plain decoding is the first */
    tally tallies[BENCH_SETTINGS_MAX + 1] = {{0}};
    bench_setting settings[BENCH_SETTINGS_MAX + 1] = {{.proposer = -1}};
    double *tps = malloc((size_t)n * (size_t)reps * sizeof *tps);
    if (!tps) return lf_fail_memory(err, "repetitions", (size_t)n * (size_t)reps * sizeof *tps);
    memcpy(settings + 1, l->o->settings, (size_t)l->o->n_settings * sizeof *settings);
    for (int i = 0; i < n; i++) tallies[i].tps = tps + (size_t)i * (size_t)reps;
    for (int rep = 0; rep < reps; rep++)
        for (int i = 0; i < n; i++) {
            char what[80];
            (void)snprintf(what, sizeof what, "batch %d, context %d", l->batch, l->context);
            l->hooks->on_progress(l->hooks->cookie, what, (double)(rep * n + i) / (double)(reps * n));
            LF_TRY(run_setting(l, &settings[i], &tallies[i], rep, err));
        }
    for (int i = 0; i < n; i++) LF_TRY(report(l, &settings[i], &tallies[i], &tallies[0], err));
done:
    free(tps);
    return status;
}

lf_status bench_run_magicdec(const bench_magicdec_options *o, const bench_hooks *hooks,
                             bench_magicdec_fn *on_result, lf_error *err)
{
    lf_status status = LF_OK;
    lab l = {.o = o, .hooks = hooks, .on_result = on_result};
    LF_TRY(open_lab(&l, err));
    for (int i = 0; i < o->contexts.n && status == LF_OK; i++)
        for (int j = 0; j < o->batches.n && status == LF_OK; j++) {
            l.batch = o->batches.v[j];
            l.context = o->contexts.v[i];
            status = open_cell(&l, err);
            if (status == LF_OK) status = measure_cell(&l, err);
            close_cell(&l);
        }
done:
    close_lab(&l);
    return status;
}
