/* The model, the text and the sequences of `lookfar bench magicdec`. */
#include "magicdec_lab.h"

#include "base/cpu.h"
#include "base/map.h"
#include "faithful.h"
#include "file/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_ROWS = 512, BUDGET_MIN = 256, BUDGET_SHARE = 16 };

int bench_pages_of(int n_positions)
{
    return (n_positions + LF_PAGE_POS - 1) / LF_PAGE_POS + 1;
}

int bench_own_budget(int n_prompt)
{
    return n_prompt / BUDGET_SHARE > BUDGET_MIN ? n_prompt / BUDGET_SHARE : BUDGET_MIN;
}

/* ---- text ---- */

static lf_status add_text(bench_lab *l, const char *text, size_t n, lf_error *err)
{
    return lf_tokenizer_encode(l->tokenizer, text, n, false, &l->text, err);
}

/* A line of the prompts, after a blank line; its end is an end of a sequence. */
static lf_status add_prompt(bench_lab *l, const char *line, size_t n, const char *where, lf_error *err)
{
    lf_status status = LF_OK;
    json_t *object = NULL;
    const char *prompt = NULL;
    LF_TRY(lf_json_parse(&object, line, n, where, err));
    LF_TRY(lf_json_get_string(object, where, "prompt", true, &prompt, err));
    LF_TRY(add_text(l, "\n\n", 2, err));
    LF_TRY(add_text(l, prompt, strlen(prompt), err));
    if ((l->n_ends & (l->n_ends - 1)) == 0) { /* room doubles at powers of two */
        int *ends = realloc(l->ends, (2 * l->n_ends + 1) * sizeof *ends);
        if (!ends) LF_TRY(lf_fail_memory(err, "prompts", (2 * l->n_ends + 1) * sizeof *ends));
        l->ends = ends;
    }
    l->ends[l->n_ends++] = (int)l->text.len;
done:
    json_decref(object);
    return status;
}

static lf_status add_prompts(bench_lab *l, const char *data, size_t size, lf_error *err)
{
    lf_status status = LF_OK;
    for (size_t begin = 0, n_line = 1, end; begin < size && status == LF_OK; begin = end + 1, n_line++) {
        char where[BENCH_NAME_MAX];
        const char *newline = memchr(data + begin, '\n', size - begin);
        end = newline ? (size_t)(newline - data) : size;
        (void)snprintf(where, sizeof where, "%.400s: line %zu", l->o->prompts_path, n_line);
        if (end > begin) status = add_prompt(l, data + begin, end - begin, where, err);
    }
    return status;
}

static lf_status read_text(bench_lab *l, lf_error *err)
{
    lf_map map;
    const bool is_text = l->o->text_path != NULL;
    lf_status status = lf_map_open(&map, is_text ? l->o->text_path : l->o->prompts_path, err);
    if (status != LF_OK) return status;
    status = is_text ? add_text(l, (const char *)map.data, map.size, err)
                     : add_prompts(l, (const char *)map.data, map.size, err);
    lf_map_close(&map);
    return status;
}

/* ---- opening ---- */

static lf_status load_tokenizer(lf_tokenizer **out, const lf_source *source, lf_error *err)
{
    return source->form == LF_NAMES_HF ? lf_tokenizer_from_dir(out, source->path, err)
                                       : lf_tokenizer_from_gguf(out, source->gguf, err);
}

static lf_status load_draft(bench_lab *l, const lf_load_params *load, lf_error *err)
{
    lf_status status = LF_OK;
    const char *path = l->o->draft_path;
    const lf_config *c = &l->draft_source.config;
    lf_tokenizer *tokenizer = NULL;
    LF_TRY(lf_source_open(&l->draft_source, path, err));
    LF_TRY(load_tokenizer(&tokenizer, &l->draft_source, err));
    LF_TRY(lf_tokenizer_check_same(l->tokenizer, l->o->model_path, tokenizer, path, err));
    if (c->n_vocab != l->source.config.n_vocab)
        LF_TRY(lf_fail(err, LF_EINVAL, "%s: found an embedding of %d rows, expected the %d of %s", path,
                       c->n_vocab, l->source.config.n_vocab, l->o->model_path));
    LF_TRY(lf_model_load(&l->draft_model, &l->draft_source, l->team.threads, load, err));
done:
    lf_tokenizer_free(tokenizer);
    return status;
}

lf_status bench_lab_open(bench_lab *l, lf_error *err)
{
    lf_status status = LF_OK;
    const bench_magicdec_options *o = l->o;
    const lf_load_params load = {.weight_dtype = -1};
    lf_kernels_init(&l->kernels, lf_cpu_flags() & o->cpu_mask);
    if (o->peer_command) LF_TRY(bench_peer_start(&l->peer, o->peer_command, l->hooks, err));
    LF_TRY(bench_team_open(&l->team, o->n_threads, err));
    if (o->probe_bytes > 0) LF_TRY(bench_probe_create(&l->probe, l->team.threads, o->probe_bytes, err));
    bench_team_bind(&l->team);
    LF_TRY(lf_source_open(&l->source, o->model_path, err));
    LF_TRY(load_tokenizer(&l->tokenizer, &l->source, err));
    LF_TRY(lf_model_load(&l->model, &l->source, l->team.threads, &load, err));
    if (o->draft_path) LF_TRY(load_draft(l, &load, err));
    LF_TRY(read_text(l, err));
done:
    return status;
}

void bench_lab_close(bench_lab *l)
{
    free(l->ends);
    lf_ids_free(&l->text);
    lf_model_free(&l->model);
    lf_model_free(&l->draft_model);
    lf_tokenizer_free(l->tokenizer);
    lf_source_close(&l->source);
    lf_source_close(&l->draft_source);
    bench_probe_free(l->probe);
    bench_team_close(&l->team);
    bench_peer_stop(l->peer);
}

/* ---- a cell ---- */

int bench_positions_of(const bench_lab *l)
{
    return l->n_prompt + l->o->n_tokens + LF_DRAFT_MAX + 1;
}

/* The prompt of the i-th sequence: a part of the text that is as far from the others' as can be, or what ends with the i-th prompt; the
 * text goes round. */
static lf_status make_prompt(bench_lab *l, int i, lf_error *err)
{
    bench_subject *s = &l->subjects[i];
    const size_t n = (size_t)l->n_prompt, room = (size_t)bench_positions_of(l), len = l->text.len;
    s->tokens = malloc(room * sizeof *s->tokens);
    s->plain = malloc((size_t)l->o->n_tokens * sizeof *s->plain);
    if (!s->tokens || !s->plain) return lf_fail_memory(err, "a prompt", room * sizeof *s->tokens);
    const size_t from = l->n_ends > 0 ? (size_t)l->ends[(size_t)i % l->n_ends] + len - n
                                      : (len - n) / (size_t)l->batch * (size_t)i;
    for (size_t j = 0; j < n; j++) s->tokens[j] = l->text.data[(from + j) % len];
    if (lf_tokenizer_adds_bos(l->tokenizer)) s->tokens[0] = lf_tokenizer_bos(l->tokenizer);
    return lf_kv_seq_open(&s->prompt, l->pool, bench_positions_of(l), err);
}

/* Reads all but the last rows of the prompts, one after the other. */
static lf_status read_prompts(bench_lab *l, lf_error *err)
{
    const int n = l->n_prompt - BENCH_LAST_ROWS;
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

/* Rows of the largest pass: a chunk of a prompt, the last rows of all of them, or a verify pass of the faithful baseline. */
static int count_rows(const bench_lab *l)
{
    int each = BENCH_LAST_ROWS;
    for (int i = 0; i < l->o->n_settings; i++)
        if (l->o->settings[i].g >= each) each = l->o->settings[i].g + 1;
    return l->batch * each > CHUNK_ROWS ? l->batch * each : CHUNK_ROWS;
}

/* The prompts; for a run, what it adds to them, with the copy of a shared page; for the faithful baseline's drafts. */
static lf_status open_pool(bench_lab *l, lf_error *err)
{
    size_t page_bytes = 0, bytes;
    const int n_pages = l->batch *
                            (bench_pages_of(l->n_prompt) +
                             2 * bench_pages_of(bench_positions_of(l) - l->n_prompt + BENCH_LAST_ROWS)) +
                        bench_faithful_pages(l);
    const size_t available = lf_memory_available();
    if (!lf_kv_layout_init(&l->shape.layout, l->o->kv_dtype, l->source.config.head_dim))
        return lf_fail(err, LF_EINVAL, "KV type: found %s, expected f32, f16, bf16 or q8_0",
                       lf_dtype_name(l->o->kv_dtype));
    if (!lf_kv_page_bytes(&l->shape, &page_bytes) || !lf_mul_size(page_bytes, (size_t)n_pages, &bytes) ||
        bytes > available)
        return lf_fail(err, LF_ELIMIT,
                       "batch %d, context %d: needs %.2f GiB of cache, %.2f GiB are available", l->batch,
                       l->context, (double)page_bytes * n_pages / 0x1p30, (double)available / 0x1p30);
    return lf_kv_pool_create(&l->pool, &l->shape, n_pages, err);
}

/* The smaller model's cache of all sequences, and its passes. */
static lf_status open_draft(bench_lab *l, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_config *c = &l->draft_source.config;
    lf_kv_shape shape = {.n_layers = c->n_layers, .n_kv_heads = c->n_kv_heads};
    lf_draft_env *d = &l->draft;
    size_t page_bytes = 0;
    LF_TRY(lf_draft_choose_window(&d->window, l->o->draft_window, c, bench_positions_of(l), l->o->draft_path,
                                  err));
    const int n_pages = l->batch * lf_draft_pages(d->window, bench_positions_of(l));
    if (!lf_kv_layout_init(&shape.layout, l->o->kv_dtype, c->head_dim) ||
        !lf_kv_page_bytes(&shape, &page_bytes) || !lf_mul_size(page_bytes, (size_t)n_pages, &l->draft_bytes))
        LF_TRY(lf_fail(err, LF_ELIMIT, "%s: found no room for its cache", l->o->draft_path));
    LF_TRY(lf_kv_pool_create(&d->pool, &shape, n_pages, err));
    LF_TRY(lf_forward_create(&d->forward, &l->draft_model, &l->kernels, l->team.threads, &shape.layout,
                             l->rows_max, l->rows_max, err));
    d->rows_max = l->rows_max;
    d->cost = &l->draft_cost;
done:
    return status;
}

lf_status bench_cell_open(bench_lab *l, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_config *c = &l->source.config;
    const bench_magicdec_options *o = l->o;
    const int room = c->n_ctx_max - o->n_tokens;
    l->n_prompt = l->context < room ? l->context : room;
    l->shape = (lf_kv_shape){.n_layers = c->n_layers, .n_kv_heads = c->n_kv_heads};
    l->rows_max = count_rows(l);
    if (l->n_prompt <= BENCH_LAST_ROWS || l->text.len < (size_t)l->n_prompt)
        return lf_fail(err, LF_EINVAL, "%s: found %zu tokens, expected at least %d, the context",
                       o->text_path ? o->text_path : o->prompts_path, l->text.len,
                       l->n_prompt > BENCH_LAST_ROWS ? l->n_prompt : BENCH_LAST_ROWS + 1);
    LF_TRY(open_pool(l, err));
    LF_TRY(lf_forward_create(&l->forward, &l->model, &l->kernels, l->team.threads, &l->shape.layout,
                             l->rows_max, l->rows_max, err));
    LF_TRY(lf_round_create(&l->round, l->forward, c, l->batch, l->rows_max, l->rows_max, err));
    LF_TRY(lf_picker_create(&l->picker, c->n_vocab, err));
    l->subjects = calloc((size_t)l->batch, sizeof *l->subjects);
    l->seqs = calloc((size_t)l->batch, sizeof(lf_seq *));
    l->rows = calloc((size_t)l->rows_max, sizeof *l->rows);
    if (!l->subjects || !l->seqs || !l->rows) {
        status = lf_fail_memory(err, "sequences", (size_t)l->batch * sizeof *l->subjects);
        goto done;
    }
    if (o->draft_path) LF_TRY(open_draft(l, err));
    for (int i = 0; i < l->batch; i++) LF_TRY(make_prompt(l, i, err));
    LF_TRY(read_prompts(l, err));
done:
    return status;
}

void bench_cell_close(bench_lab *l)
{
    bench_faithful_close(l->faithful);
    l->faithful = NULL;
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
    lf_picker_free(l->picker);
    lf_round_free(l->round);
    lf_forward_free(l->forward);
    lf_kv_pool_free(l->pool);
    lf_forward_free(l->draft.forward);
    lf_kv_pool_free(l->draft.pool);
    l->subjects = NULL;
    l->seqs = NULL;
    l->rows = NULL;
    l->picker = NULL;
    l->round = NULL;
    l->forward = NULL;
    l->pool = NULL;
    l->cost = l->draft_cost = (lf_cost){0};
    l->draft = (lf_draft_env){0};
}

/* ---- a run ---- */

/* Counts the output; what it says lies in the sequence's tokens. */
static bool collect(void *cookie, lf_seq *seq, int32_t id, const float *logits, bool proposed)
{
    (void)seq, (void)id, (void)logits, (void)proposed;
    bench_subject *s = cookie;
    s->n_output++;
    return true;
}

lf_status bench_subject_start(bench_lab *l, bench_subject *s, const bench_setting *setting, lf_error *err)
{
    const int n = l->n_prompt;
    s->n_output = s->n_timed = 0;
    s->seconds = 0.0;
    s->seq = (lf_seq){.tokens = {.data = s->tokens, .len = (size_t)n, .cap = (size_t)bench_positions_of(l)},
                      .len_max = n + l->o->n_tokens,
                      .n_prompt = n,
                      .emit = collect,
                      .cookie = s,
                      .draft_max = setting->g,
                      .drafting = setting->drafting,
                      .selection = setting->selection,
                      .sparse_budget = setting->budget};
    lf_pick_params_init(&s->seq.pick);
    s->seq.pick.temperature = l->o->temperature;
    s->seq.pick.seed = (uint64_t)(s - l->subjects);
    return lf_kv_seq_fork(&s->seq.kv, s->prompt, err);
}

void bench_run_count(bench_run *run, int proposed, int accepted)
{
    run->passes++;
    run->proposed += proposed;
    run->accepted += accepted;
    for (int i = 0; i < proposed; i++) run->proposed_at[i]++;
    for (int i = 0; i < accepted; i++) run->accepted_at[i]++;
}
