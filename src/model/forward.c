/* One pass is one parallel region. The threads of the team walk the layers together; each phase hands out work by
 * lf_threads_take and ends at a barrier. Phases, for each layer:
 *
 *   norm      rows     rms norm of x -> activation forms that q, k, v take
 *   qkv       heads    products; bias, QK norm, RoPE; K/V to the cache; q -> activation form of the cache
 *   attend    units    walks the cache; its output -> activation form (attention.c)
 *   project   tiles    product with attn_output, added to x
 *   norm      rows     rms norm of x -> activation forms that gate and up take
 *   gate/up   tiles    products; silu(gate) * up -> activation form
 *   down      tiles    product, added to x
 *
 * What a product gives is used up by the thread that computed it, while it is in its cache: no buffer of a whole layer's
 * outputs exists. Each product is told with which weights its thread probably goes on, so that memory does not rest between
 * takes and phases. No phase combines numbers of different rows, and no sum depends on how the work was cut: that is the Row
 * law. */
#include "model/forward_int.h"

#include "base/carve.h"
#include "base/clock.h"
#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    TAKE_OUTPUTS = 128, /* outputs of one take of a product at most: enough for a long stream of weights */
    BLOCK_OUTPUTS = 32, /* a take of gate/up is whole blocks of its activation form */
};

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static int div_up(int a, int b)
{
    return (a + b - 1) / b;
}

static int round_up(int n, int multiple)
{
    return div_up(n, multiple) * multiple;
}

/* ---- planning ---- */

static int widest_input(const lf_config *c)
{
    return c->n_heads * c->head_dim > c->dim ? c->n_heads * c->head_dim : c->dim;
}

/* Outputs that are whole heads and whole tiles. */
static int outputs_of_heads(int head_dim)
{
    int n = head_dim;
    while (n % LF_TILE_OUT != 0) n += head_dim;
    return round_up(TAKE_OUTPUTS, n);
}

static lf_forms carve_forms(carver *c, size_t rows, int n)
{
    lf_forms forms;
    for (int a = 0; a < LF_ACT_COUNT; a++) {
        forms.stride[a] = lf_act_row_bytes((lf_act)a, n);
        forms.rows[a] = carve(c, rows, forms.stride[a]);
    }
    return forms;
}

static lf_attend_state carve_state(carver *c, size_t n, int dim_padded)
{
    return (lf_attend_state){.o = carve(c, n * (size_t)dim_padded, sizeof(float)),
                             .m = carve(c, n, sizeof(float)),
                             .l = carve(c, n, sizeof(float))};
}

static lf_forward_thread carve_thread(const lf_forward *f, carver *c, const lf_config *config)
{
    return (lf_forward_thread){
        .row = carve(c, (size_t)widest_input(config), sizeof(float)),
        .head = carve(c, 1, lf_act_row_bytes(LF_ACT_BF16, config->head_dim)),
        .y = carve(c, 2 * (size_t)f->rows_max * (size_t)f->take_outputs, sizeof(float)),
        .all = carve_state(c, LF_QUERIES_MAX, f->layout.dim_padded),
        .segment = carve_state(c, LF_QUERIES_MAX, f->layout.dim_padded),
        .q = carve(c, LF_QUERIES_MAX, f->q_stride),
        .n_visible = carve(c, LF_QUERIES_MAX, sizeof(int)),
        .scratch = carve(c, 1, lf_attend_scratch_bytes(LF_QUERIES_MAX)),
    };
}

static void plan(lf_forward *f, carver *c, const lf_config *config, int n_threads)
{
    const size_t rows = (size_t)f->rows_max, heads = (size_t)config->n_heads;
    const size_t half = (size_t)config->head_dim / 2;
    const int group_outputs = config->n_heads / config->n_kv_heads * config->head_dim;
    f->vocab_width = (size_t)round_up(config->n_vocab, LF_TILE_OUT);
    f->q_stride = lf_act_row_bytes(lf_act_for(f->layout.dtype), config->head_dim);
    f->head_take = outputs_of_heads(config->head_dim);
    f->take_outputs = f->head_take > TAKE_OUTPUTS ? f->head_take : TAKE_OUTPUTS;
    f->heads_fit_act = group_outputs % BLOCK_OUTPUTS == 0;

    f->x = carve(c, rows * (size_t)config->dim, sizeof(float));
    f->q_act = carve(c, rows * heads, f->q_stride);
    f->att = carve(c, f->heads_fit_act ? 0 : rows * heads * (size_t)config->head_dim, sizeof(float));
    for (int i = 0; i < 2; i++)
        f->angles[i] = (lf_angles){.pos = carve(c, rows, sizeof(int32_t)),
                                   .cos = carve(c, rows * half, sizeof(float)),
                                   .sin = carve(c, rows * half, sizeof(float))};
    f->logits = carve(c, (size_t)f->logits_max * f->vocab_width, sizeof(float));
    f->in = carve_forms(c, rows, widest_input(config));
    f->mid = carve_forms(c, rows, config->ffn_dim);
    f->parts = carve_state(c, n_threads > 1 ? LF_PARTS_MAX * heads : 0, f->layout.dim_padded);
    f->runs = carve(c, rows, sizeof *f->runs);
    f->logit_rows = carve(c, (size_t)f->logits_max, sizeof *f->logit_rows);
    f->scratch = carve(c, (size_t)n_threads, sizeof *f->scratch);
    for (int i = 0; i < n_threads; i++) {
        const lf_forward_thread thread = carve_thread(f, c, config);
        if (c->base) f->scratch[i] = thread;
    }
}

size_t lf_forward_plan_bytes(const lf_config *config, const lf_kv_layout *layout, int n_threads, int rows_max,
                             int logits_max)
{
    lf_forward f = {.layout = *layout, .rows_max = rows_max, .logits_max = logits_max};
    carver c = {0};
    plan(&f, &c, config, n_threads);
    return c.overflow ? SIZE_MAX : c.used;
}

lf_status lf_forward_create(lf_forward **out, const lf_model *model, const lf_kernels *kernels,
                            lf_threads *threads, const lf_kv_layout *layout, int rows_max, int logits_max,
                            lf_error *err)
{
    assert(rows_max >= 1 && logits_max >= 1 && logits_max <= rows_max);
    *out = NULL;
    lf_forward *f = calloc(1, sizeof *f);
    if (!f) return lf_fail_memory(err, "a forward pass", sizeof *f);
    *f = (lf_forward){.model = model,
                      .kernels = kernels,
                      .threads = threads,
                      .layout = *layout,
                      .rows_max = rows_max,
                      .logits_max = logits_max};
    const int n_threads = lf_threads_count(threads);
    carver c = {0};
    plan(f, &c, &model->config, n_threads);
    if (!c.overflow) f->memory = lf_calloc_aligned(c.used);
    if (!f->memory) {
        free(f);
        return lf_fail_memory(err, "the buffers of a forward pass", c.used);
    }
    c = (carver){.base = f->memory};
    plan(f, &c, &model->config, n_threads);
    *out = f;
    return LF_OK;
}

lf_status lf_forward_enable_mass(lf_forward *f, int n_ctx, lf_error *err)
{
    const int n_threads = lf_threads_count(f->threads);
    const size_t tiles = (size_t)round_up(n_ctx, LF_SEGMENT_POS) / LF_TILE_POS,
                 blocks = tiles / LF_ATTN_TILES;
    const size_t each = LF_QUERIES_MAX * (tiles + blocks), bytes = (size_t)n_threads * each * sizeof(float);
    assert(!f->mass_memory || n_ctx <= f->mass_tiles * LF_TILE_POS);
    if (f->mass_memory) return LF_OK;
    float *memory = lf_calloc_aligned(bytes);
    if (!memory) return lf_fail_memory(err, "the attention mass", bytes);
    for (int i = 0; i < n_threads; i++) {
        float *at = memory + (size_t)i * each;
        f->scratch[i].mass = (lf_attend_mass){
            .sum = at, .sum_stride = tiles, .max = at + LF_QUERIES_MAX * tiles, .max_stride = blocks};
    }
    f->mass_memory = memory;
    f->mass_tiles = (n_ctx + LF_TILE_POS - 1) / LF_TILE_POS;
    return LF_OK;
}

void lf_forward_free(lf_forward *f)
{
    if (!f) return;
    free(f->mass_memory);
    free(f->memory);
    free(f);
}

const lf_kernels *lf_forward_kernels(const lf_forward *f)
{
    return f->kernels;
}

const float *lf_forward_logits(const lf_forward *f, int i)
{
    assert(i >= 0 && i < f->n_logits);
    return f->logits + (size_t)i * f->vocab_width;
}

/* ---- phases over rows ---- */

void lf_forward_convert_row(const lf_forward *f, const lf_forms *forms, const lf_packed *w, int r,
                            const float *values)
{
    const lf_act act = lf_act_for(w->dtype);
    lf_act_row(f->kernels, act, forms->rows[act] + (size_t)r * forms->stride[act], values, w->n_in);
}

/* Row r of `in` in every form that the given matrices take. */
static void convert_row(const lf_forward *f, int r, const float *values, const lf_packed *const *matrices,
                        int n)
{
    for (int i = 0; i < n; i++) {
        bool done = false;
        for (int j = 0; j < i; j++) done |= lf_act_for(matrices[j]->dtype) == lf_act_for(matrices[i]->dtype);
        if (!done) lf_forward_convert_row(f, &f->in, matrices[i], r, values);
    }
}

static void norm_phase(const lf_forward *f, int i_thread, const float *weight,
                       const lf_packed *const *matrices, int n_matrices)
{
    const lf_config *c = &f->model->config;
    float *normed = f->scratch[i_thread].row;
    for (int r; (r = lf_threads_take(f->threads, 1)) < f->n_rows;) {
        f->kernels->rms_norm(normed, f->x + (size_t)r * (size_t)c->dim, weight, c->dim, c->norm_eps);
        convert_row(f, r, normed, matrices, n_matrices);
    }
    lf_threads_barrier(f->threads);
}

/* The row of the last pass at a position, or -1; among the first ones only. */
static int find_last(const lf_forward *f, int pos)
{
    enum { ENOUGH = 64 };
    for (int r = 0; r < min_int(f->n_last, ENOUGH); r++)
        if (f->last->pos[r] == pos) return r;
    return -1;
}

/* cos and sin of row r. The positions of a window come again pass by pass. */
static void find_angles(const lf_forward *f, int r)
{
    const int half = f->model->config.head_dim / 2, pos = f->rows[r].pos, same = find_last(f, pos);
    float *cosines = f->now->cos + (size_t)r * (size_t)half, *sines = f->now->sin + (size_t)r * (size_t)half;
    f->now->pos[r] = pos;
    if (same >= 0) {
        memcpy(cosines, f->last->cos + (size_t)same * (size_t)half, (size_t)half * sizeof *cosines);
        memcpy(sines, f->last->sin + (size_t)same * (size_t)half, (size_t)half * sizeof *sines);
        return;
    }
    for (int i = 0; i < half; i++) {
        /* the angle in float, as transformers and the models' training had it */
        const double angle = (double)((float)pos * f->model->rope_freqs[i]);
        cosines[i] = (float)cos(angle);
        sines[i] = (float)sin(angle);
    }
}

static void embed_phase(const lf_forward *f)
{
    const lf_config *c = &f->model->config;
    for (int r; (r = lf_threads_take(f->threads, 1)) < f->n_rows;) {
        lf_model_embed(f->x + (size_t)r * (size_t)c->dim, f->model, f->rows[r].token);
        find_angles(f, r);
    }
    lf_threads_barrier(f->threads);
}

/* ---- products ---- */

/* y (n_rows, stride) = the input's rows times the outputs [begin, begin + n) of w; begin is that of a tile. next: see lf_matmul_fn. */
static void multiply(const lf_forward *f, float *y, size_t stride, const lf_packed *w, const lf_forms *in,
                     int begin, int n, int n_rows, const void *next)
{
    const lf_act act = lf_act_for(w->dtype);
    lf_packed part = *w;
    part.data += (size_t)(begin / LF_TILE_OUT) * w->tile_bytes;
    f->kernels->matmul[w->dtype](y, stride, &part, 0, (n + LF_TILE_OUT - 1) / LF_TILE_OUT, in->rows[act],
                                 in->stride[act], n_rows, next);
}

/* Outputs of one take of a product of n_out outputs, so that every thread has as many takes: where they are few, one that is short
 * would leave a thread waiting for most of another's. */
static int take_of(const lf_forward *f, int n_out)
{
    const int n_takes = round_up(div_up(n_out, TAKE_OUTPUTS), lf_threads_count(f->threads));
    return round_up(div_up(n_out, n_takes), BLOCK_OUTPUTS);
}

/* A matrix, and how many of its outputs a take is. */
typedef struct cut {
    const lf_packed *w;
    int take;
} cut;

static cut cut_of(const lf_forward *f, const lf_packed *w)
{
    return (cut){w, take_of(f, w->n_out)};
}

/* The weights of take i_take of n matrices, one after the other; NULL past the last. */
static const void *weights_of_take(const cut *cuts, int n, int i_take)
{
    for (int i = 0; i < n; i++) {
        const int n_takes = div_up(cuts[i].w->n_out, cuts[i].take);
        if (i_take < n_takes)
            return cuts[i].w->data + (size_t)(i_take * cuts[i].take / LF_TILE_OUT) * cuts[i].w->tile_bytes;
        i_take -= n_takes;
    }
    return NULL;
}

/* What a thread probably multiplies with after take i_take: threads take in turns as a rule, in the next phase, too. */
static const void *weights_after(const lf_forward *f, const cut *cuts, int n, int i_take)
{
    return weights_of_take(cuts, n, i_take + lf_threads_count(f->threads));
}

/* What becomes of the q, k or v of the whole heads from output `begin` on, n outputs of row r. */
static void finish_q(const lf_forward *f, const lf_layer *l, int r, float *q, int begin, int n)
{
    const lf_config *c = &f->model->config;
    const int hd = c->head_dim;
    const size_t angles = (size_t)r * (size_t)hd / 2;
    const lf_act act = lf_act_for(f->layout.dtype);
    uint8_t *q_act = f->q_act + ((size_t)r * (size_t)c->n_heads + (size_t)(begin / hd)) * f->q_stride;
    if (l->q_bias) f->kernels->add(q, l->q_bias + begin, n);
    for (int h = 0; l->q_norm && h < n; h += hd)
        f->kernels->rms_norm(q + h, q + h, l->q_norm, hd, c->norm_eps);
    f->kernels->rope(q, f->now->cos + angles, f->now->sin + angles, n / hd, hd);
    for (int h = 0; h < n; h += hd, q_act += f->q_stride) lf_act_row(f->kernels, act, q_act, q + h, hd);
}

static void *tile_of_row(const lf_forward *f, int i_layer, int i_head, int r)
{
    return lf_kv_seq_tile(f->rows[r].seq, i_layer, i_head, f->rows[r].pos / LF_TILE_POS);
}

/* K or V of one head of row r (head_dim) into the cache; into bf16 by the kernel that rounds rows of activations. */
static void store_head(const lf_forward *f, lf_forward_thread *t, void *tile, int slot, const float *x,
                       bool is_k)
{
    const lf_kv_layout *layout = &f->layout;
    if (layout->dtype != LF_DTYPE_BF16) {
        (is_k ? lf_kv_tile_store_k : lf_kv_tile_store_v)(tile, layout, slot, x);
        return;
    }
    lf_act_row(f->kernels, LF_ACT_BF16, t->head, x, layout->head_dim);
    (is_k ? lf_kv_tile_store_k_bf16 : lf_kv_tile_store_v_bf16)(tile, layout, slot, (const void *)t->head);
}

static void finish_k(const lf_forward *f, lf_forward_thread *t, const lf_layer *l, int i_layer, int r,
                     float *k, int begin, int n)
{
    const lf_config *c = &f->model->config;
    const int hd = c->head_dim, slot = f->rows[r].pos % LF_TILE_POS;
    const size_t angles = (size_t)r * (size_t)hd / 2;
    if (l->k_bias) f->kernels->add(k, l->k_bias + begin, n);
    for (int h = 0; l->k_norm && h < n; h += hd)
        f->kernels->rms_norm(k + h, k + h, l->k_norm, hd, c->norm_eps);
    f->kernels->rope(k, f->now->cos + angles, f->now->sin + angles, n / hd, hd);
    for (int h = 0; h < n; h += hd)
        store_head(f, t, tile_of_row(f, i_layer, (begin + h) / hd, r), slot, k + h, true);
}

static void finish_v(const lf_forward *f, lf_forward_thread *t, const lf_layer *l, int i_layer, int r,
                     float *v, int begin, int n)
{
    const int hd = f->model->config.head_dim, slot = f->rows[r].pos % LF_TILE_POS;
    if (l->v_bias) f->kernels->add(v, l->v_bias + begin, n);
    for (int h = 0; h < n; h += hd)
        store_head(f, t, tile_of_row(f, i_layer, (begin + h) / hd, r), slot, v + h, false);
}

/* Takes of q, then k, then v: whole heads. */
static void qkv_phase(const lf_forward *f, int i_thread, int i_layer)
{
    const lf_layer *l = &f->model->layers[i_layer];
    const int take = f->head_take;
    const cut w[] = {{&l->q, take}, {&l->k, take}, {&l->v, take}};
    lf_forward_thread *t = &f->scratch[i_thread];
    float *y = t->y;
    int i_take = lf_threads_take(f->threads, 1), base = 0;
    for (int i = 0; i < 3; i++) {
        const int n_takes = div_up(w[i].w->n_out, take);
        for (; i_take < base + n_takes; i_take = lf_threads_take(f->threads, 1)) {
            const int begin = (i_take - base) * take, n = min_int(take, w[i].w->n_out - begin);
            multiply(f, y, (size_t)take, w[i].w, &f->in, begin, n, f->n_rows, weights_after(f, w, 3, i_take));
            for (int r = 0; r < f->n_rows; r++) {
                float *row = y + (size_t)r * (size_t)take;
                if (i == 0) finish_q(f, l, r, row, begin, n);
                if (i == 1) finish_k(f, t, l, i_layer, r, row, begin, n);
                if (i == 2) finish_v(f, t, l, i_layer, r, row, begin, n);
            }
        }
        base += n_takes;
    }
    lf_threads_barrier(f->threads);
}

/* x += in times w; the next product is with `after`. */
static void add_phase(const lf_forward *f, int i_thread, const lf_packed *w, const lf_forms *in, cut after)
{
    const cut cuts[] = {cut_of(f, w), after};
    const int dim = w->n_out, take = cuts[0].take;
    float *y = f->scratch[i_thread].y;
    for (int i; (i = lf_threads_take(f->threads, 1)) * take < dim;) {
        const int begin = i * take, n = min_int(take, dim - begin);
        multiply(f, y, (size_t)take, w, in, begin, n, f->n_rows, weights_after(f, cuts, 2, i));
        for (int r = 0; r < f->n_rows; r++)
            f->kernels->add(f->x + (size_t)r * (size_t)dim + begin, y + (size_t)r * (size_t)take, n);
    }
    lf_threads_barrier(f->threads);
}

/* mid = silu(in times gate) * (in times up), in the form that `down` takes. */
static void gate_up_phase(const lf_forward *f, int i_thread, const lf_layer *l)
{
    const cut gate_cut = cut_of(f, &l->gate), up_cut = {&l->up, gate_cut.take};
    const cut cuts[] = {gate_cut, cut_of(f, &l->down)};
    const int ffn_dim = l->gate.n_out, take = gate_cut.take;
    const lf_act act = lf_act_for(l->down.dtype);
    float *gate = f->scratch[i_thread].y, *up = gate + (size_t)f->rows_max * (size_t)f->take_outputs;
    for (int i; (i = lf_threads_take(f->threads, 1)) * take < ffn_dim;) {
        const int begin = i * take, n = min_int(take, ffn_dim - begin);
        multiply(f, gate, (size_t)take, &l->gate, &f->in, begin, n, f->n_rows,
                 weights_of_take(&up_cut, 1, i));
        multiply(f, up, (size_t)take, &l->up, &f->in, begin, n, f->n_rows, weights_after(f, cuts, 2, i));
        for (int r = 0; r < f->n_rows; r++) {
            float *g = gate + (size_t)r * (size_t)take;
            f->kernels->silu_mul(g, g, up + (size_t)r * (size_t)take, n);
            f->kernels->act_part[act](f->mid.rows[act] + (size_t)r * f->mid.stride[act], ffn_dim, g, begin,
                                      n);
        }
    }
    lf_threads_barrier(f->threads);
}

/* ---- the pass ---- */

static void layer_pass(const lf_forward *f, int i_thread, int i_layer)
{
    const lf_layer *l = &f->model->layers[i_layer];
    const bool last = i_layer + 1 == f->model->config.n_layers;
    const cut next_layer = last ? cut_of(f, &f->model->output) : (cut){&l[1].q, f->head_take};
    const lf_packed *const qkv[] = {&l->q, &l->k, &l->v}, *const gate_up[] = {&l->gate, &l->up};
    norm_phase(f, i_thread, l->attn_norm, qkv, 3);
    qkv_phase(f, i_thread, i_layer);
    lf_forward_attend(f, i_thread, i_layer);
    add_phase(f, i_thread, &l->attn_output, &f->in, cut_of(f, &l->gate));
    norm_phase(f, i_thread, l->ffn_norm, gate_up, 2);
    gate_up_phase(f, i_thread, l);
    add_phase(f, i_thread, &l->down, &f->mid, next_layer);
}

/* The output norm and the logits, for the rows that want them only. */
static void output_pass(const lf_forward *f, int i_thread)
{
    const lf_config *c = &f->model->config;
    const lf_packed *output = &f->model->output;
    const cut all = cut_of(f, output);
    const int take = all.take;
    float *normed = f->scratch[i_thread].row;
    for (int i; (i = lf_threads_take(f->threads, 1)) < f->n_logits;) {
        const float *x = f->x + (size_t)f->logit_rows[i] * (size_t)c->dim;
        f->kernels->rms_norm(normed, x, f->model->output_norm, c->dim, c->norm_eps);
        lf_forward_convert_row(f, &f->in, output, i, normed);
    }
    lf_threads_barrier(f->threads);
    for (int i; (i = lf_threads_take(f->threads, 1)) * take < c->n_vocab;) {
        const int begin = i * take, n = min_int(take, c->n_vocab - begin);
        multiply(f, f->logits + begin, f->vocab_width, output, &f->in, begin, n, f->n_logits,
                 weights_after(f, &all, 1, i));
    }
    lf_threads_barrier(f->threads);
}

static void pass_thread(void *arg, int i_thread)
{
    const lf_forward *f = arg;
    embed_phase(f);
    for (int i = 0; i < f->model->config.n_layers; i++) layer_pass(f, i_thread, i);
    if (f->n_logits > 0) output_pass(f, i_thread);
}

/* On as many threads as are faster. A kind of pass is one of 1, 2, 3 to 4, 5 to 8 ... rows. */
static void run_pass(lf_forward *f)
{
    const int n_max = lf_threads_count(f->threads);
    int kind = 0;
    while (kind < LF_RUN_KINDS - 1 && 1 << kind < f->n_rows) kind++;
    const int n = lf_team_size_next(&f->team_size, n_max, kind);
    const int64_t start = lf_clock_ns();
    lf_threads_run_few(f->threads, n, pass_thread, f);
    lf_team_size_observe(&f->team_size, n_max, kind, lf_clock_ns() - start);
}

void lf_forward_run(lf_forward *f, const lf_row *rows, int n_rows)
{
    assert(n_rows >= 1 && n_rows <= f->rows_max);
    lf_angles *const other = f->now == &f->angles[0] ? &f->angles[1] : &f->angles[0];
    f->last = f->now;
    f->n_last = f->now ? f->n_rows : 0;
    f->now = other;
    f->rows = rows;
    f->n_rows = n_rows;
    f->n_logits = f->n_runs = 0;
    for (int r = 0; r < n_rows; r++) {
        assert(rows[r].token >= 0 && rows[r].token < f->model->config.n_vocab && rows[r].pos >= 0);
        const bool joins = r > 0 && rows[r].seq == rows[r - 1].seq && rows[r].view == rows[r - 1].view;
        assert(!joins || rows[r].pos > rows[r - 1].pos);
        if (!joins) f->runs[f->n_runs++].begin = r;
        f->runs[f->n_runs - 1].end = r + 1;
        assert(!rows[r].mass || (f->mass_tiles > 0 && !rows[r].view));
        if (!rows[r].wants_logits) continue;
        assert(f->n_logits < f->logits_max);
        f->logit_rows[f->n_logits++] = r;
    }
    lf_forward_plan_attention(f);
    run_pass(f);
}
