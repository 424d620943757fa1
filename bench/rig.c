#include "rig.h"

#include "base/clock.h"
#include "base/mem.h"
#include "decode/round.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

struct bench_rig {
    const bench_hooks *hooks;
    const char *label;
    lf_threads *threads;
    bench_rig_size size;
    lf_source source;
    lf_model model;
    lf_kv_shape shape;
    lf_kv_pool *pool;
    lf_forward *forward;
    lf_row *rows;   /* (pass_rows) */
    lf_view *views; /* (size.n_seqs) of BENCH_VIEW */
    int32_t
        *tiles; /* (size.n_seqs, n_layers, n_kv_heads, tiles of size.view_pos) those that the views select */
    lf_kv_seq **seqs; /* (size.n_seqs), n_seqs of them open */
    int n_seqs, depth, n_new;
    lf_picker *picker;
    lf_round *round;
    lf_seq *
        decoded; /* (size.n_seqs) the sequences as BENCH_TP and BENCH_TR decode them; tokens have room for n_pos */
    lf_seq **decoded_list; /* (size.n_seqs) their addresses */
    float *noise;          /* (NOISE + head_dim) what K and V are taken from */
};

/* ---- opening ---- */

enum { NOISE = 1 << 16 };

/* Uniform with variance 1, so that scores are spread as with a trained model's K. */
static void fill_noise(float *noise, size_t n)
{
    uint64_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        noise[i] = ((float)(state >> 40) * 0x1p-23f - 1.0f) * 1.7320508f;
    }
}

static int tiles_of(int n_pos)
{
    return (n_pos + LF_TILE_POS - 1) / LF_TILE_POS;
}

static int pages_of(const bench_rig_size *size)
{
    return (size->n_pos + LF_PAGE_POS - 1) / LF_PAGE_POS * size->n_seqs;
}

static lf_status plan_memory(const bench_rig *rig, lf_error *err)
{
    size_t weights, page, cache, total;
    const bench_rig_size *size = &rig->size;
    const size_t buffers = lf_forward_plan_bytes(&rig->source.config, &rig->shape.layout,
                                                 lf_threads_count(rig->threads), size->pass_rows,
                                                 size->pass_logits);
    const size_t available = lf_memory_available();
    const bool countable = lf_model_plan_bytes(&rig->source, -1, &weights) &&
                           lf_kv_page_bytes(&rig->shape, &page) &&
                           lf_mul_size(page, (size_t)pages_of(size), &cache);
    if (countable && lf_add_size(weights, cache, &total) && lf_add_size(total, buffers, &total) &&
        total <= available)
        return LF_OK;
    if (!countable)
        return lf_fail(err, LF_ELIMIT, "%s: the size of a cache of %d sequences of %d positions overflows",
                       rig->label, size->n_seqs, size->n_pos);
    return lf_fail(err, LF_ELIMIT,
                   "%s: needs %.2f GiB for weights, %.2f GiB for the cache of %d sequences of %d positions "
                   "and %.2f GiB for buffers; %.2f GiB are available",
                   rig->label, (double)weights / 0x1p30, (double)cache / 0x1p30, size->n_seqs, size->n_pos,
                   (double)buffers / 0x1p30, (double)available / 0x1p30);
}

/* Room for the sparse views. */
static lf_status open_views(bench_rig *rig, lf_error *err)
{
    const size_t n_seqs = (size_t)rig->size.n_seqs, n_tiles = (size_t)tiles_of(rig->size.view_pos);
    const size_t n = n_seqs * (size_t)rig->shape.n_layers * (size_t)rig->shape.n_kv_heads * n_tiles;
    rig->views = calloc(n_seqs, sizeof *rig->views);
    rig->tiles = calloc(n ? n : 1, sizeof *rig->tiles);
    return rig->views && rig->tiles ? LF_OK : lf_fail_memory(err, "sparse views", n * sizeof *rig->tiles);
}

static bool goes_on(void *cookie, lf_seq *seq, int32_t id, const float *logits, bool proposed)
{
    (void)cookie, (void)seq, (void)id, (void)logits, (void)proposed;
    return true;
}

static bool on_load(void *cookie, size_t done, size_t total)
{
    const bench_rig *rig = cookie;
    char what[BENCH_NAME_MAX];
    (void)snprintf(what, sizeof what, "%s: loading", rig->label);
    rig->hooks->on_progress(rig->hooks->cookie, what, total ? (double)done / (double)total : 1.0);
    return !rig->hooks->canceled(rig->hooks->cookie);
}

/* What the tests with picks need: sequences whose tokens are all there already, up to the depth of the cache. */
static lf_status open_loop(bench_rig *rig, lf_error *err)
{
    lf_status status = LF_OK;
    const bench_rig_size *size = &rig->size;
    const size_t n = (size_t)size->n_seqs, n_tokens = (size_t)size->n_pos + 1 + LF_DRAFT_MAX;
    rig->decoded = calloc(n, sizeof *rig->decoded);
    rig->decoded_list = calloc(n, sizeof(lf_seq *));
    if (!rig->decoded || !rig->decoded_list) return lf_fail_memory(err, "sequences", n * sizeof(lf_seq));
    for (size_t i = 0; i < n; i++) {
        lf_seq *seq = rig->decoded_list[i] = &rig->decoded[i];
        *seq = (lf_seq){.len_max = size->n_pos + 1, .emit = goes_on};
        lf_pick_params_init(&seq->pick);
        seq->tokens.data = calloc(n_tokens, sizeof *seq->tokens.data);
        seq->tokens.cap = n_tokens;
        if (!seq->tokens.data) return lf_fail_memory(err, "tokens", n_tokens * sizeof *seq->tokens.data);
    }
    LF_TRY(lf_picker_create(&rig->picker, rig->model.config.n_vocab, err));
    lf_picker_use_highest(rig->picker, lf_forward_kernels(rig->forward)->highest);
    LF_TRY(lf_round_create(&rig->round, rig->forward, &rig->model.config, size->n_seqs, size->pass_rows,
                           size->pass_logits, err));
done:
    return status;
}

lf_status bench_rig_open(bench_rig **out, const char *path, const char *label, lf_dtype kv_dtype,
                         const bench_rig_size *size, const lf_kernels *kernels, lf_threads *threads,
                         const bench_hooks *hooks, lf_error *err)
{
    lf_status status = LF_OK;
    *out = NULL;
    bench_rig *rig = calloc(1, sizeof *rig);
    if (!rig) return lf_fail_memory(err, "a bench", sizeof *rig);
    *rig = (bench_rig){.hooks = hooks, .label = label, .threads = threads, .size = *size};
    const lf_load_params load = {.weight_dtype = -1, .progress = on_load, .cookie = rig};
    LF_TRY(lf_source_open(&rig->source, path, err));
    const lf_config *c = &rig->source.config;
    rig->shape = (lf_kv_shape){.n_layers = c->n_layers, .n_kv_heads = c->n_kv_heads};
    if (!lf_kv_layout_init(&rig->shape.layout, kv_dtype, c->head_dim)) {
        status = lf_fail(err, LF_EINVAL, "KV type: found %s, expected f32, f16, bf16 or q8_0",
                         lf_dtype_of(kv_dtype)->name);
        goto done;
    }
    LF_TRY(plan_memory(rig, err));
    LF_TRY(lf_model_load(&rig->model, &rig->source, threads, &load, err));
    LF_TRY(lf_kv_pool_create(&rig->pool, &rig->shape, pages_of(size), err));
    LF_TRY(lf_forward_create(&rig->forward, &rig->model, kernels, threads, &rig->shape.layout,
                             size->pass_rows, size->pass_logits, err));
    const size_t n_noise = NOISE + (size_t)c->head_dim;
    rig->rows = calloc((size_t)size->pass_rows, sizeof *rig->rows);
    rig->seqs = calloc((size_t)size->n_seqs, sizeof(lf_kv_seq *));
    rig->noise = malloc(n_noise * sizeof *rig->noise);
    if (!rig->rows || !rig->seqs || !rig->noise) {
        status = lf_fail_memory(err, "rows", (size_t)size->pass_rows * sizeof *rig->rows);
        goto done;
    }
    fill_noise(rig->noise, n_noise);
    LF_TRY(open_views(rig, err));
    LF_TRY(open_loop(rig, err));
    *out = rig;
done:
    if (status != LF_OK) bench_rig_close(rig);
    return status;
}

static void close_seqs(bench_rig *rig)
{
    while (rig->n_seqs > 0) lf_kv_seq_close(rig->seqs[--rig->n_seqs]);
}

void bench_rig_close(bench_rig *rig)
{
    if (!rig) return;
    close_seqs(rig);
    for (int i = 0; rig->decoded && i < rig->size.n_seqs; i++) lf_ids_free(&rig->decoded[i].tokens);
    free(rig->decoded);
    free(rig->decoded_list);
    lf_round_free(rig->round);
    lf_picker_free(rig->picker);
    lf_forward_free(rig->forward);
    lf_kv_pool_free(rig->pool);
    lf_model_free(&rig->model);
    lf_source_close(&rig->source);
    free(rig->noise);
    free(rig->seqs);
    free(rig->tiles);
    free(rig->views);
    free(rig->rows);
    free(rig);
}

lf_dtype bench_rig_dtype(const bench_rig *rig)
{
    return rig->model.layers[0].gate.dtype;
}

/* ---- depth ---- */

/* Where in the noise the K (and a little further on the V) of a position begins: any spread will do. */
static size_t noise_at(int i_seq, int i_layer, int i_head, int pos)
{
    const uint64_t mixed = (uint64_t)pos * 0x9E3779B97F4A7C15u + (uint64_t)i_layer * 0xBF58476D1CE4E5B9u +
                           (uint64_t)i_head * 0x94D049BB133111EBu + (uint64_t)i_seq * 0xD6E8FEB86659FD93u;
    return (size_t)(mixed >> 48);
}

static void fill_tile(const bench_rig *rig, int i_seq, int i_layer, int i_head, int i_tile)
{
    void *tile = lf_kv_seq_tile(rig->seqs[i_seq], i_layer, i_head, i_tile);
    for (int slot = 0; slot < LF_TILE_POS; slot++) {
        const size_t k = noise_at(i_seq, i_layer, i_head, i_tile * LF_TILE_POS + slot);
        lf_kv_tile_store(tile, &rig->shape.layout, slot, rig->noise + k,
                         rig->noise + (k + NOISE / 2) % NOISE);
    }
}

/* Units are (sequence, layer, tile). Whole tiles are filled; what lies past the depth no row will see. */
static void fill_thread(void *arg, int i_thread)
{
    (void)i_thread;
    const bench_rig *rig = arg;
    const int n_tiles = tiles_of(rig->depth);
    for (int i_seq = 0; i_seq < rig->n_seqs; i_seq++)
        for (int i_layer = 0; i_layer < rig->shape.n_layers; i_layer++) {
            for (int i; (i = lf_threads_take(rig->threads, 1)) < n_tiles;)
                for (int i_head = 0; i_head < rig->shape.n_kv_heads; i_head++)
                    fill_tile(rig, i_seq, i_layer, i_head, i);
            lf_threads_barrier(rig->threads);
        }
}

lf_status bench_rig_set_depth(bench_rig *rig, int n_seqs, int depth, int n_new, lf_error *err)
{
    assert(n_seqs <= rig->size.n_seqs && depth + n_new <= rig->size.n_pos);
    lf_status status = LF_OK;
    close_seqs(rig);
    rig->depth = depth;
    rig->n_new = n_new;
    for (int i = 0; i < n_seqs; i++) {
        LF_TRY(lf_kv_seq_open(&rig->seqs[i], rig->pool, depth + n_new, err));
        rig->n_seqs++;
        LF_TRY(lf_kv_seq_reserve(rig->seqs[i], depth + n_new, err));
    }
    lf_threads_run(rig->threads, fill_thread, rig);
    for (int i = 0; i < n_seqs; i++) lf_kv_seq_commit(rig->seqs[i], depth);
done:
    return status;
}

/* ---- sparse views ---- */

enum { RECENT_SHARE = 4 }; /* one in so many tiles of a view is recent */

/* A view of `budget` positions, rounded up to tiles, for the row at the depth: without its selection. The whole cache when that
 * is no more. */
static lf_view view_of(const bench_rig *rig, int budget)
{
    const int n_all = rig->depth / LF_TILE_POS + 1, n = tiles_of(budget);
    const int n_recent = n < RECENT_SHARE ? 1 : n / RECENT_SHARE;
    if (n >= n_all) return (lf_view){0};
    return (lf_view){.recent_tile = n_all - n_recent, .n_selected = n - n_recent};
}

/* The first tile, a sink, and one out of each of as many equal parts of what lies before the recent tiles: ascending. */
static void select_tiles(const lf_view *view, int32_t *selected, int i_seq, int i_layer, int i_head)
{
    const int64_t n_parts = view->n_selected - 1, n_tiles = view->recent_tile - 1;
    selected[0] = 0;
    for (int i = 0; i < n_parts; i++) {
        const int begin = (int)(1 + i * n_tiles / n_parts), end = (int)(1 + (i + 1) * n_tiles / n_parts);
        assert(begin < end);
        selected[1 + i] = begin + (int)(noise_at(i_seq, i_layer, i_head, i) % (size_t)(end - begin));
    }
}

/* Views of all sequences. */
static void make_views(bench_rig *rig, int budget)
{
    int32_t *at = rig->tiles;
    assert(budget <= rig->size.view_pos);
    for (int i = 0; i < rig->n_seqs; i++) {
        lf_view *view = &rig->views[i];
        *view = view_of(rig, budget);
        view->selected = at;
        for (int l = 0; view->n_selected && l < rig->shape.n_layers; l++)
            for (int h = 0; h < rig->shape.n_kv_heads; h++, at += view->n_selected)
                select_tiles(view, at, i, l, h);
    }
}

/* ---- running ---- */

static int rows_of_test(const bench_rig *rig, const bench_test *test)
{
    return test->kind == BENCH_VIEW ? rig->n_seqs : test->n * rig->n_seqs;
}

/* Rows first .. first + n_rows of a test: sequences one after the other, or all of them at each position. */
static lf_status run_pass(bench_rig *rig, const bench_test *test, int first, int n_rows, lf_error *err)
{
    if (rig->hooks->canceled(rig->hooks->cookie)) return lf_fail(err, LF_ECANCELED, "interrupted");
    const bool by_position = test->kind == BENCH_TG || test->kind == BENCH_VIEW;
    for (int r = 0; r < n_rows; r++) {
        const int i = first + r;
        const int i_new = by_position ? i / rig->n_seqs : i % test->n;
        const int i_seq = by_position ? i % rig->n_seqs : i / test->n;
        rig->rows[r] = (lf_row){
            .seq = rig->seqs[i_seq],
            .view = test->kind == BENCH_VIEW ? &rig->views[i_seq] : NULL,
            .token = (int32_t)(noise_at(i_seq, 0, 0, i_new) % (size_t)rig->model.config.n_vocab),
            .pos = rig->depth + i_new,
            .wants_logits = test->kind != BENCH_PP || i_new == test->n - 1,
        };
    }
    lf_forward_run(rig->forward, rig->rows, n_rows);
    return LF_OK;
}

static int rows_of_pass(const bench_rig *rig, const bench_test *test)
{
    switch (test->kind) {
    case BENCH_PP: return rig->size.pass_rows;
    case BENCH_ROWS: return rows_of_test(rig, test);
    default: return rig->n_seqs;
    }
}

/* ---- running with picks ---- */

/* One pass of the last token of each sequence, and its pick: plain decoding with nothing around it. */
static void step_by_hand(bench_rig *rig)
{
    for (int i = 0; i < rig->n_seqs; i++) {
        const lf_ids *tokens = &rig->decoded[i].tokens;
        rig->rows[i] = (lf_row){.seq = rig->seqs[i],
                                .token = tokens->data[tokens->len - 1],
                                .pos = (int)tokens->len - 1,
                                .wants_logits = true};
    }
    lf_forward_run(rig->forward, rig->rows, rig->n_seqs);
    for (int i = 0; i < rig->n_seqs; i++) {
        lf_seq *seq = &rig->decoded[i];
        const int n = (int)seq->tokens.len;
        seq->tokens.data[n] = lf_pick(rig->picker, lf_forward_logits(rig->forward, i), seq->tokens.data, n,
                                      &seq->pick);
        seq->tokens.len++;
        lf_kv_seq_commit(seq->kv, 1);
    }
}

static lf_status run_steps(bench_rig *rig, const bench_test *test, lf_error *err)
{
    lf_status status = LF_OK;
    lf_step step;
    for (int i = 0; i < test->n; i++) {
        if (rig->hooks->canceled(rig->hooks->cookie)) return lf_fail(err, LF_ECANCELED, "interrupted");
        if (test->kind == BENCH_TP) {
            step_by_hand(rig);
            continue;
        }
        LF_TRY(lf_round_step(rig->round, rig->decoded_list, rig->n_seqs, &step, err));
    }
done:
    return status;
}

/* Decodes, and puts the sequences back to the depth. */
static lf_status run_picks(bench_rig *rig, const bench_test *test, double *seconds, lf_error *err)
{
    for (int i = 0; i < rig->n_seqs; i++) {
        lf_seq *seq = &rig->decoded[i];
        seq->kv = rig->seqs[i];
        seq->tokens.len = (size_t)rig->depth + 1;
        seq->finished = false;
    }
    const int64_t start = lf_clock_ns();
    lf_status status = run_steps(rig, test, err);
    *seconds = (double)(lf_clock_ns() - start) * 1e-9;
    for (int i = 0; i < rig->n_seqs; i++) {
        lf_kv_seq_truncate(rig->seqs[i], rig->depth);
        const lf_status again = lf_kv_seq_reserve(rig->seqs[i], rig->n_new, err);
        if (status == LF_OK) status = again;
    }
    return status;
}

lf_status bench_rig_run(bench_rig *rig, const bench_test *test, double *seconds, lf_error *err)
{
    lf_status status = LF_OK;
    if (test->kind == BENCH_TP || test->kind == BENCH_TR) return run_picks(rig, test, seconds, err);
    const int n_rows = rows_of_test(rig, test), most = rows_of_pass(rig, test);
    if (test->kind == BENCH_VIEW) make_views(rig, test->n);
    const int64_t start = lf_clock_ns();
    for (int first = 0; first < n_rows; first += most)
        LF_TRY(run_pass(rig, test, first, n_rows - first < most ? n_rows - first : most, err));
    *seconds = (double)(lf_clock_ns() - start) * 1e-9;
done:
    return status;
}

/* ---- what must be read ---- */

static double weight_bytes(const bench_rig *rig)
{
    double bytes = 0;
    const lf_tensor_info *embd = lf_source_find(&rig->source, LF_W_TOKEN_EMBD, 0);
    for (size_t i = 0; i < lf_source_n_tensors(&rig->source); i++) {
        const lf_tensor_info *t = lf_source_tensor_at(&rig->source, i);
        const bool looked_up = t == embd && !rig->source.config.tied; /* a row for each token only */
        bytes += looked_up ? 0 : (double)t->bytes;
    }
    return bytes;
}

double bench_rig_bytes(const bench_rig *rig, const bench_test *test)
{
    const double position_bytes = (double)rig->shape.layout.tile_bytes / LF_TILE_POS * rig->shape.n_layers *
                                  rig->shape.n_kv_heads;
    const bool steps = test->kind == BENCH_TG || test->kind == BENCH_TP || test->kind == BENCH_TR;
    const int n_passes = steps ? test->n : 1, n_new = test->kind == BENCH_VIEW ? 1 : test->n;
    const lf_view view = test->kind == BENCH_VIEW ? view_of(rig, test->n) : (lf_view){0};
    const double last_sees = rig->depth + n_new + (view.n_selected - view.recent_tile) * LF_TILE_POS;
    /* passes of one row see one position more each */
    const double n_seen = steps ? n_passes * (last_sees - (test->n - 1) / 2.0) : last_sees;
    return n_passes * weight_bytes(rig) + n_seen * position_bytes * rig->n_seqs;
}
