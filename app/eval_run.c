/* Decoding a set of records plainly, by Jacobi and as `auto` likes, by a model and its teacher, interleaved record by record, so that whatever else the machine does slows all
 * ways alike; and what came of it. */
#include "eval.h"

#include "base/status.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What one request said. */
typedef struct output {
    int32_t *ids; /* (n) owned */
    size_t n;
    char *text; /* owned */
} output;

/* A model under evaluation. */
typedef struct side {
    lf_engine *engine; /* NULL: there is no teacher */
    eval_arm *arms;    /* (n_arms) the result's */
    output *outputs;   /* (records, n_arms) owned */
} side;

enum { MODEL, TEACHER, N_SIDES };

typedef struct run {
    const eval_params *params;
    const eval_set *set;
    side sides[N_SIDES];
    eval_result *result;
    int n_arms;
    int n_ctx; /* the smaller context of model and teacher */
    double loss_sum, loss_teacher_sum;
    int64_t n_loss;
} run;

static int context_of(const lf_engine *engine)
{
    lf_engine_info info = {.size = sizeof info};
    lf_engine_get_info(engine, &info);
    return info.n_ctx;
}

lf_status eval_drop_long(eval_set *set, size_t *n_dropped, const lf_engine *engine, lf_error *err)
{
    const size_t n_ctx = (size_t)context_of(engine);
    size_t n_kept = 0;
    lf_status status = LF_OK;
    for (size_t i = 0; i < set->n && status == LF_OK; i++) {
        int32_t *ids = NULL;
        size_t n = 0;
        const eval_record record = set->records[i];
        status = lf_tokenize(engine, record.prompt, strlen(record.prompt), true, false, &ids, &n, err);
        free(ids);
        /* those that are kept move to the front, in their order; the others behind them, to be freed with the set */
        if (n == 0 || n > n_ctx) continue;
        set->records[i] = set->records[n_kept];
        set->records[n_kept++] = record;
    }
    if (status != LF_OK) return status;
    *n_dropped += set->n - n_kept;
    for (size_t i = n_kept; i < set->n; i++) eval_free_record(&set->records[i]);
    set->n = n_kept;
    return LF_OK;
}

static output *output_of(const run *r, const side *s, size_t i_record, int i_arm)
{
    return &s->outputs[i_record * (size_t)r->n_arms + (size_t)i_arm];
}

static void free_outputs(output *outputs, size_t n)
{
    for (size_t i = 0; outputs && i < n; i++) {
        free(outputs[i].ids);
        free(outputs[i].text);
    }
    free(outputs);
}

/* ---- decoding ---- */

static lf_status take_output(output *out, const lf_request *request, lf_error *err)
{
    size_t len;
    const int32_t *ids = lf_request_ids(request, &out->n);
    const char *text = lf_request_text(request, &len);
    out->ids = malloc((out->n + 1) * sizeof *out->ids);
    out->text = lf_strndup(text, len);
    if (!out->ids || !out->text) return lf_fail_memory(err, "an output", len);
    if (out->n > 0) memcpy(out->ids, ids, out->n * sizeof *ids);
    return LF_OK;
}

/* size: as an arm has it. */
static lf_status decode(output *out, lf_request_result *result, lf_engine *engine, const run *r,
                        const char *prompt, int size, lf_error *err)
{
    lf_status status = LF_OK;
    lf_request *request = NULL;
    int32_t *ids = NULL;
    lf_request_params p;
    lf_request_params_init(&p);
    LF_TRY(lf_tokenize(engine, prompt, strlen(prompt), true, false, &ids, &p.n_ids, err));
    p.ids = ids;
    p.n_predict = r->params->max_tokens;
    p.temperature = r->params->temperature;
    p.seed = r->params->seed;
    p.no_prefix_cache = true; /* every way reads its prompt */
    if (size == EVAL_AUTO) p.proposer = "auto";
    if (size > 0) {
        p.proposer = "jacobi";
        p.draft_max = size - 1;
    }
    LF_TRY(lf_request_submit(&request, engine, &p, err));
    LF_TRY(lf_request_wait(request, err));
    lf_request_get_result(request, result);
    status = take_output(out, request, err);
done:
    lf_request_free(request);
    free(ids);
    return status;
}

static bool same_output(const output *a, const output *b)
{
    return a->n == b->n && memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0;
}

static lf_status decode_arm(const run *r, const side *s, size_t i_record, int i_arm, lf_error *err)
{
    eval_arm *arm = &s->arms[i_arm];
    lf_request_result result = {.size = sizeof result};
    output *out = output_of(r, s, i_record, i_arm);
    const lf_status status = decode(out, &result, s->engine, r, r->set->records[i_record].prompt, arm->size,
                                    err);
    if (status != LF_OK) return status;
    arm->output_tokens += result.output_tokens + (result.finish == LF_FINISH_STOP);
    arm->passes += result.passes;
    arm->stationary += result.stationary;
    if (arm->size != EVAL_AUTO) arm->fast_forwarded += result.fast_forwarded / (double)r->set->n;
    arm->prefill_seconds += result.prefill_seconds;
    arm->decode_seconds += result.decode_seconds;
    return LF_OK;
}

/* ---- loss ---- */

/* -ln of the softmax of logits (n) at id. */
static double token_loss(const float *logits, int n, int32_t id)
{
    assert(n > 0);
    float highest = logits[0];
    for (int i = 1; i < n; i++) highest = logits[i] > highest ? logits[i] : highest;
    double sum = exp((double)(logits[0] - highest));
    for (int i = 1; i < n; i++) sum += exp((double)(logits[i] - highest));
    return log(sum) - (double)(logits[id] - highest);
}

/* Adds the losses of the answer's tokens after the prompt, as far as n_ctx reaches; the two are encoded apart, as in training. */
static lf_status add_loss(double *sum, int64_t *n, lf_engine *engine, int n_ctx, const eval_record *record,
                          lf_error *err)
{
    lf_status status = LF_OK;
    lf_engine_info info = {.size = sizeof info};
    int32_t *prompt = NULL, *answer = NULL, *ids = NULL;
    float *logits = NULL;
    size_t n_prompt, n_answer;
    lf_engine_get_info(engine, &info);
    LF_TRY(lf_tokenize(engine, record->prompt, strlen(record->prompt), true, false, &prompt, &n_prompt, err));
    LF_TRY(lf_tokenize(engine, record->response, strlen(record->response), false, false, &answer, &n_answer,
                       err));
    if (n_answer > (size_t)n_ctx - n_prompt) n_answer = (size_t)n_ctx - n_prompt;
    const size_t n_ids = n_prompt + n_answer, n_vocab = (size_t)info.n_vocab;
    ids = malloc(n_ids * sizeof *ids);
    logits = malloc(n_ids * n_vocab * sizeof *logits);
    if (!ids || !logits) {
        status = lf_fail_memory(err, "logits", n_ids * n_vocab * sizeof *logits);
        goto done;
    }
    memcpy(ids, prompt, n_prompt * sizeof *ids);
    memcpy(ids + n_prompt, answer, n_answer * sizeof *ids);
    LF_TRY(lf_score(engine, ids, n_ids, logits, err));
    for (size_t i = 0; i < n_answer; i++)
        *sum += token_loss(logits + (n_prompt + i - 1) * n_vocab, info.n_vocab, answer[i]);
    *n += (int64_t)n_answer;
done:
    free(prompt);
    free(answer);
    free(ids);
    free(logits);
    return status;
}

static lf_status add_losses(run *r, const eval_record *record, lf_error *err)
{
    lf_status status = LF_OK;
    int64_t n_teacher = 0;
    const int64_t before = r->n_loss;
    lf_engine *teacher = r->sides[TEACHER].engine;
    LF_TRY(add_loss(&r->loss_sum, &r->n_loss, r->sides[MODEL].engine, r->n_ctx, record, err));
    if (teacher) LF_TRY(add_loss(&r->loss_teacher_sum, &n_teacher, teacher, r->n_ctx, record, err));
    if (teacher && n_teacher != r->n_loss - before)
        status = lf_fail(err, LF_EINVAL,
                         "teacher: found %lld tokens where the model has %lld, expected the same tokenizer",
                         (long long)n_teacher, (long long)(r->n_loss - before));
done:
    return status;
}

/* ---- scores ---- */

static void add_score(eval_scores *s, const char *name, double value)
{
    s->names[s->n] = name;
    s->values[s->n++] = value;
}

typedef double score_fn(const char *output, const char *reference);

/* The mean of a score over all records; `at` finds the output of record i. *ok is false when memory ran out. */
static double mean_score(const run *r, const output *first, size_t stride, score_fn *score, bool *ok)
{
    double sum = 0;
    for (size_t i = 0; i < r->set->n; i++) {
        const double s = score(first[i * stride].text, r->set->records[i].response);
        if (s < 0) *ok = false;
        sum += s;
    }
    return sum / (double)r->set->n;
}

/* Only of the records whose database is there. */
static void score_rows(eval_scores *scores, const run *r, const output *first, size_t stride)
{
    char path[1024];
    size_t n_same = 0, n_known = 0;
    for (size_t i = 0; i < r->set->n; i++) {
        const eval_record *record = &r->set->records[i];
        (void)snprintf(path, sizeof path, "%.800s/spider/dev_databases/%.100s.sqlite", r->params->data_dir,
                       record->db_id);
        const eval_sql found = eval_same_rows(path, first[i * stride].text, record->query);
        n_same += found == EVAL_SQL_SAME;
        n_known += found != EVAL_SQL_UNKNOWN;
    }
    if (n_known > 0) add_score(scores, "execution", (double)n_same / (double)n_known);
}

static bool score_python(eval_scores *scores, const run *r, const output *first, size_t stride)
{
    const size_t n = r->set->n;
    eval_bleu bleu = {0};
    const char **texts = calloc(n, sizeof *texts);
    bool *parses = calloc(n, sizeof *parses), ok = texts && parses;
    for (size_t i = 0; i < n && ok; i++) {
        texts[i] = first[i * stride].text;
        ok = eval_add_bleu(&bleu, texts[i], r->set->records[i].response);
    }
    if (ok) add_score(scores, "bleu", eval_bleu_score(&bleu));
    if (ok && eval_python_parses(parses, texts, n)) {
        size_t n_parse = 0;
        for (size_t i = 0; i < n; i++) n_parse += parses[i];
        add_score(scores, "parses", (double)n_parse / (double)n);
    }
    free(texts);
    free(parses);
    return ok;
}

static double same_text(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* Fills scores from the outputs at first, first + stride, ... */
static lf_status score_outputs(eval_scores *scores, const run *r, const output *first, size_t stride,
                               lf_error *err)
{
    bool ok = true;
    const bool dev = strcmp(r->params->split, "dev") == 0;
    *scores = (eval_scores){0};
    switch (r->params->domain) {
    case EVAL_SPIDER:
        if (dev) score_rows(scores, r, first, stride); /* training databases are not in the data */
        add_score(scores, "exact", mean_score(r, first, stride, eval_same_sql, &ok));
        break;
    case EVAL_PYTHON:
        add_score(scores, "similarity", mean_score(r, first, stride, eval_edit_similarity, &ok));
        add_score(scores, "exact", mean_score(r, first, stride, same_text, &ok));
        ok = ok && score_python(scores, r, first, stride);
        break;
    case EVAL_GSM8K: add_score(scores, "number", mean_score(r, first, stride, eval_same_number, &ok)); break;
    case EVAL_STORIES: add_score(scores, "rouge_l", mean_score(r, first, stride, eval_rouge_l, &ok)); break;
    case EVAL_DOMAINS: break;
    }
    return ok ? LF_OK : lf_fail_memory(err, "scores", 0);
}

/* How the model's outputs, decoded plainly, agree with the teacher's. */
static void compare_with_teacher(const run *r)
{
    eval_result *out = r->result;
    size_t n_equal = 0, n_positions = 0, n_common = 0, n_same = 0;
    for (size_t i = 0; i < r->set->n; i++) {
        const output *a = output_of(r, &r->sides[MODEL], i, 0), *b = output_of(r, &r->sides[TEACHER], i, 0);
        const size_t shorter = a->n < b->n ? a->n : b->n;
        size_t common = 0;
        while (common < shorter && a->ids[common] == b->ids[common]) common++;
        for (size_t k = 0; k < shorter; k++) n_equal += a->ids[k] == b->ids[k];
        n_positions += a->n > b->n ? a->n : b->n;
        n_common += common;
        n_same += same_output(a, b);
    }
    out->agreement = n_positions > 0 ? (double)n_equal / (double)n_positions : 1;
    out->first_difference = (double)n_common / (double)r->set->n;
    out->same_outputs = (double)n_same / (double)r->set->n;
}

/* ---- all of it ---- */

/* Every way decodes the record, another one first each time. */
static lf_status run_record(run *r, size_t i, lf_error *err)
{
    lf_status status = LF_OK;
    for (const side *s = r->sides; s < r->sides + N_SIDES && s->engine; s++) {
        for (int k = 0; k < r->n_arms; k++)
            LF_TRY(decode_arm(r, s, i, (int)((i + (size_t)k) % (size_t)r->n_arms), err));
        for (int k = 1; k < r->n_arms; k++)
            if (!same_output(output_of(r, s, i, 0), output_of(r, s, i, k))) s->arms[k].identical = false;
    }
    status = add_losses(r, &r->set->records[i], err);
done:
    return status;
}

static lf_status finish(run *r, lf_error *err)
{
    lf_status status = LF_OK;
    eval_result *out = r->result;
    for (const side *s = r->sides; s < r->sides + N_SIDES && s->engine; s++)
        for (int k = 0; k < r->n_arms; k++)
            LF_TRY(score_outputs(&s->arms[k].scores, r, output_of(r, s, 0, k), (size_t)r->n_arms, err));
    out->loss = r->n_loss > 0 ? r->loss_sum / (double)r->n_loss : NAN;
    if (!out->has_teacher) goto done;
    out->loss_teacher = r->n_loss > 0 ? r->loss_teacher_sum / (double)r->n_loss : NAN;
    compare_with_teacher(r);
done:
    return status;
}

static void set_arms(eval_arm *arms, const eval_params *params)
{
    *arms++ = (eval_arm){.size = EVAL_PLAIN, .identical = true};
    for (int k = 0; k < params->n_sizes; k++)
        *arms++ = (eval_arm){.size = params->sizes[k], .identical = true};
    *arms = (eval_arm){.size = EVAL_AUTO, .identical = true};
}

lf_status eval_run(eval_result *out, lf_engine *model, lf_engine *teacher, const eval_set *set,
                   const eval_params *params, lf_error *err)
{
    lf_status status = LF_OK;
    run r = {.params = params,
             .set = set,
             .sides = {{.engine = model, .arms = out->arms}, {.engine = teacher, .arms = out->teacher_arms}},
             .result = out,
             .n_arms = params->n_sizes + 2,
             .n_ctx = context_of(model)};
    const size_t n_outputs = set->n * (size_t)r.n_arms;
    if (teacher && context_of(teacher) < r.n_ctx) r.n_ctx = context_of(teacher);
    *out = (eval_result){.n = set->n, .n_arms = r.n_arms, .has_teacher = teacher != NULL};
    for (int i = 0; i < N_SIDES; i++) {
        set_arms(r.sides[i].arms, params);
        r.sides[i].outputs = calloc(n_outputs, sizeof *r.sides[i].outputs);
        if (r.sides[i].outputs) continue;
        status = lf_fail_memory(err, "outputs", n_outputs * sizeof *r.sides[i].outputs);
        goto done;
    }
    for (size_t i = 0; i < set->n; i++) {
        LF_TRY(run_record(&r, i, err));
        if (params->on_progress && !params->on_progress(params->cookie, i + 1, set->n)) {
            status = lf_fail(err, LF_ECANCELED, "stopped after %zu of %zu records", i + 1, set->n);
            goto done;
        }
    }
    status = finish(&r, err);
done:
    for (int i = 0; i < N_SIDES; i++) free_outputs(r.sides[i].outputs, n_outputs);
    return status;
}
