/* One pass is one parallel region. The threads of the team walk the layers together; each phase hands out work by
 * lf_threads_take and ends at a barrier. Phases, for each layer:
 *
 *   norm      rows     x -> rms norm -> activation forms that q, k, v take
 *   qkv       tiles    products q, k, v
 *   rotate    rows     bias, QK norm, RoPE; K/V to the cache; q -> activation form of the cache
 *   attend    units    (run, KV head, chunk of rows): walks the cache
 *   convert   rows     attention output -> activation form
 *   project   tiles    product with attn_output
 *   norm      rows     x += projection; rms norm -> activation forms that gate and up take
 *   gate/up   tiles
 *   swiglu    rows     silu(gate) * up -> activation form
 *   down      tiles    and the next norm adds it to x
 *
 * No phase combines numbers of different rows, and no sum depends on how the work was cut: that is the Row law. */
#include "model/forward.h"

#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUERIES_MAX =
        LF_GROUP_MAX, /* query vectors that one attention call handles: at least one row of a group */
    TILES_PER_CALL =
        256, /* tiles of one attention call: blocks enough that one is fetched while another is computed */
    TILES_PER_TAKE = 8, /* weight tiles of one take */
};

/* Activations of all rows in the forms that the next products take: one buffer per form, filled only when needed. */
typedef struct forms {
    uint8_t *rows[LF_ACT_COUNT]; /* (rows_max, stride) */
    size_t stride[LF_ACT_COUNT]; /* bytes */
} forms;

/* Consecutive rows of one sequence and view. */
typedef struct run {
    int begin, end;
} run;

/* The attention state of one thread. */
typedef struct attend_state {
    float *o;       /* (QUERIES_MAX, dim_padded) */
    float *m, *l;   /* (QUERIES_MAX) */
    uint8_t *q;     /* (QUERIES_MAX, q_stride): the queries of a unit, gathered */
    int *n_visible; /* (QUERIES_MAX) */
    void *scratch;
} attend_state;

struct lf_forward {
    const lf_model *model;
    const lf_kernels *kernels;
    lf_threads *threads;
    lf_kv_layout layout;
    int rows_max, logits_max;
    size_t q_stride; /* bytes of one query in activation form */
    size_t q_width, kv_width, dim_width, ffn_width,
        vocab_width; /* row strides in floats: outputs rounded up to tiles */

    uint8_t *memory;      /* everything below lies in it */
    float *x;             /* (rows_max, dim) the residual stream */
    float *normed;        /* (n_threads, max(dim, n_heads head_dim, ffn_dim)) one row being converted */
    float *q, *k, *v;     /* (rows_max, q_width), (rows_max, kv_width) twice */
    uint8_t *q_act;       /* (rows_max, n_heads, q_stride) */
    float *att;           /* (rows_max, n_heads head_dim) */
    float *proj;          /* (rows_max, dim_width) what the next norm adds to x */
    float *gate, *up;     /* (rows_max, ffn_width) */
    float *cos, *sin;     /* (rows_max, head_dim / 2) */
    float *logits;        /* (logits_max, vocab_width) */
    forms in;             /* input of the products at hand */
    attend_state *attend; /* (n_threads) */

    /* the pass at hand */
    const lf_row *rows;
    int n_rows, n_logits, n_runs;
    run *runs;       /* (rows_max) */
    int *logit_rows; /* (logits_max) indices into rows */
};

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* ---- planning ---- */

static size_t tile_width(int n_out)
{
    return (size_t)(n_out + LF_TILE_OUT - 1) / LF_TILE_OUT * LF_TILE_OUT;
}

/* Hands out 64-byte aligned pieces of one block; with base NULL it only measures. */
typedef struct carver {
    uint8_t *base;
    size_t used;
} carver;

static void *carve(carver *c, size_t n, size_t item_bytes)
{
    void *piece = c->base ? c->base + c->used : NULL;
    c->used += (n * item_bytes + 63) & ~(size_t)63;
    return piece;
}

static int widest_row(const lf_config *c)
{
    int widest = c->n_heads * c->head_dim;
    if (c->dim > widest) widest = c->dim;
    return c->ffn_dim > widest ? c->ffn_dim : widest;
}

static void plan(lf_forward *f, carver *c, const lf_config *config, int n_threads)
{
    const size_t rows = (size_t)f->rows_max, heads = (size_t)config->n_heads;
    const size_t widest = (size_t)widest_row(config);
    f->q_width = tile_width(config->n_heads * config->head_dim);
    f->kv_width = tile_width(config->n_kv_heads * config->head_dim);
    f->dim_width = tile_width(config->dim);
    f->ffn_width = tile_width(config->ffn_dim);
    f->vocab_width = tile_width(config->n_vocab);
    f->q_stride = lf_act_row_bytes(lf_act_for(f->layout.dtype), config->head_dim);

    f->x = carve(c, rows * (size_t)config->dim, sizeof(float));
    f->normed = carve(c, (size_t)n_threads * widest, sizeof(float));
    f->q = carve(c, rows * f->q_width, sizeof(float));
    f->k = carve(c, rows * f->kv_width, sizeof(float));
    f->v = carve(c, rows * f->kv_width, sizeof(float));
    f->q_act = carve(c, rows * heads, f->q_stride);
    f->att = carve(c, rows * heads * (size_t)config->head_dim, sizeof(float));
    f->proj = carve(c, rows * f->dim_width, sizeof(float));
    f->gate = carve(c, rows * f->ffn_width, sizeof(float));
    f->up = carve(c, rows * f->ffn_width, sizeof(float));
    f->cos = carve(c, rows * (size_t)config->head_dim / 2, sizeof(float));
    f->sin = carve(c, rows * (size_t)config->head_dim / 2, sizeof(float));
    f->logits = carve(c, (size_t)f->logits_max * f->vocab_width, sizeof(float));
    for (int a = 0; a < LF_ACT_COUNT; a++) {
        f->in.stride[a] = lf_act_row_bytes((lf_act)a, widest_row(config));
        f->in.rows[a] = carve(c, rows, f->in.stride[a]);
    }
    f->runs = carve(c, rows, sizeof *f->runs);
    f->logit_rows = carve(c, (size_t)f->logits_max, sizeof *f->logit_rows);
    f->attend = carve(c, (size_t)n_threads, sizeof *f->attend);
    for (int i = 0; i < n_threads; i++) {
        const attend_state s = {
            .o = carve(c, (size_t)QUERIES_MAX * (size_t)f->layout.dim_padded, sizeof(float)),
            .m = carve(c, QUERIES_MAX, sizeof(float)),
            .l = carve(c, QUERIES_MAX, sizeof(float)),
            .q = carve(c, QUERIES_MAX, f->q_stride),
            .n_visible = carve(c, QUERIES_MAX, sizeof(int)),
            .scratch = carve(c, 1, lf_attend_scratch_bytes(QUERIES_MAX)),
        };
        if (c->base) f->attend[i] = s;
    }
}

size_t lf_forward_plan_bytes(const lf_config *config, const lf_kv_layout *layout, int n_threads, int rows_max,
                             int logits_max)
{
    lf_forward f = {.layout = *layout, .rows_max = rows_max, .logits_max = logits_max};
    carver c = {0};
    plan(&f, &c, config, n_threads);
    return c.used;
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
    f->memory = lf_calloc_aligned(c.used);
    if (!f->memory) {
        free(f);
        return lf_fail_memory(err, "the buffers of a forward pass", c.used);
    }
    c = (carver){.base = f->memory};
    plan(f, &c, &model->config, n_threads);
    *out = f;
    return LF_OK;
}

void lf_forward_free(lf_forward *f)
{
    if (!f) return;
    free(f->memory);
    free(f);
}

const float *lf_forward_logits(const lf_forward *f, int i)
{
    assert(i >= 0 && i < f->n_logits);
    return f->logits + (size_t)i * f->vocab_width;
}

/* ---- phases over rows ---- */

/* Row r of x (dim floats of `values`) in every form that the given matrices take. */
static void convert_row(const lf_forward *f, int r, const float *values, const lf_packed *const *matrices,
                        int n)
{
    bool filled[LF_ACT_COUNT] = {false};
    for (int i = 0; i < n; i++) {
        const lf_act act = lf_act_for(matrices[i]->dtype);
        if (filled[act]) continue;
        f->kernels->act_row[act](f->in.rows[act] + (size_t)r * f->in.stride[act], values, matrices[i]->n_in);
        filled[act] = true;
    }
}

static float *thread_row(const lf_forward *f, int i_thread)
{
    return f->normed + (size_t)i_thread * (size_t)widest_row(&f->model->config);
}

/* x += proj (unless it is the pass's first norm, when x is the embedding), then the norm and its forms. */
static void norm_phase(const lf_forward *f, int i_thread, bool adds, const float *weight,
                       const lf_packed *const *matrices, int n_matrices)
{
    const lf_config *c = &f->model->config;
    float *normed = thread_row(f, i_thread);
    for (int r; (r = lf_threads_take(f->threads, 1)) < f->n_rows;) {
        float *x = f->x + (size_t)r * (size_t)c->dim;
        if (adds) f->kernels->add(x, f->proj + (size_t)r * f->dim_width, c->dim);
        f->kernels->rms_norm(normed, x, weight, c->dim, c->norm_eps);
        convert_row(f, r, normed, matrices, n_matrices);
    }
    lf_threads_barrier(f->threads);
}

static void embed_phase(const lf_forward *f)
{
    const lf_config *c = &f->model->config;
    const int half = c->head_dim / 2;
    for (int r; (r = lf_threads_take(f->threads, 1)) < f->n_rows;) {
        lf_model_embed(f->x + (size_t)r * (size_t)c->dim, f->model, f->rows[r].token);
        for (int i = 0; i < half; i++) {
            /* the angle in float, as transformers and the models' training had it */
            const double angle = (double)((float)f->rows[r].pos * f->model->rope_freqs[i]);
            f->cos[r * half + i] = (float)cos(angle);
            f->sin[r * half + i] = (float)sin(angle);
        }
    }
    lf_threads_barrier(f->threads);
}

static void add_bias(const lf_forward *f, float *y, const float *bias, int n)
{
    if (bias) f->kernels->add(y, bias, n);
}

static void norm_heads(const lf_forward *f, float *y, const float *weight, int n_heads)
{
    const lf_config *c = &f->model->config;
    for (int h = 0; weight && h < n_heads; h++)
        f->kernels->rms_norm(y + h * c->head_dim, y + h * c->head_dim, weight, c->head_dim, c->norm_eps);
}

static void rotate_phase(const lf_forward *f, int i_layer)
{
    const lf_config *c = &f->model->config;
    const lf_layer *layer = &f->model->layers[i_layer];
    const int hd = c->head_dim, half = hd / 2;
    const lf_act act = lf_act_for(f->layout.dtype);
    for (int r; (r = lf_threads_take(f->threads, 1)) < f->n_rows;) {
        const lf_row *row = &f->rows[r];
        float *q = f->q + (size_t)r * f->q_width, *k = f->k + (size_t)r * f->kv_width,
              *v = f->v + (size_t)r * f->kv_width;
        add_bias(f, q, layer->q_bias, c->n_heads * hd);
        add_bias(f, k, layer->k_bias, c->n_kv_heads * hd);
        add_bias(f, v, layer->v_bias, c->n_kv_heads * hd);
        norm_heads(f, q, layer->q_norm, c->n_heads);
        norm_heads(f, k, layer->k_norm, c->n_kv_heads);
        f->kernels->rope(q, f->cos + (size_t)r * (size_t)half, f->sin + (size_t)r * (size_t)half, c->n_heads,
                         hd);
        f->kernels->rope(k, f->cos + (size_t)r * (size_t)half, f->sin + (size_t)r * (size_t)half,
                         c->n_kv_heads, hd);
        for (int h = 0; h < c->n_kv_heads; h++)
            lf_kv_tile_store(lf_kv_seq_tile(row->seq, i_layer, h, row->pos / LF_TILE_POS), &f->layout,
                             row->pos % LF_TILE_POS, k + h * hd, v + h * hd);
        uint8_t *q_act = f->q_act + (size_t)r * (size_t)c->n_heads * f->q_stride;
        for (int h = 0; h < c->n_heads; h++)
            f->kernels->act_row[act](q_act + (size_t)h * f->q_stride, q + h * hd, hd);
    }
    lf_threads_barrier(f->threads);
}

static void swiglu_phase(const lf_forward *f, const lf_layer *layer)
{
    const lf_packed *const down[] = {&layer->down};
    for (int r; (r = lf_threads_take(f->threads, 1)) < f->n_rows;) {
        float *gate = f->gate + (size_t)r * f->ffn_width;
        f->kernels->silu_mul(gate, gate, f->up + (size_t)r * f->ffn_width, f->model->config.ffn_dim);
        convert_row(f, r, gate, down, 1);
    }
    lf_threads_barrier(f->threads);
}

static void convert_phase(const lf_forward *f, const lf_packed *matrix)
{
    for (int r; (r = lf_threads_take(f->threads, 1)) < f->n_rows;)
        convert_row(f, r, f->att + (size_t)r * (size_t)matrix->n_in, &matrix, 1);
    lf_threads_barrier(f->threads);
}

/* ---- products ---- */

typedef struct product {
    float *y;
    size_t stride;
    const lf_packed *w;
} product;

/* y = in * w for matrices of the same input, their tiles counted through. */
static void product_phase(const lf_forward *f, const product *products, int n_products, int n_rows)
{
    int n_tiles = 0;
    for (int i = 0; i < n_products; i++) n_tiles += products[i].w->n_tiles;
    for (int begin; (begin = lf_threads_take(f->threads, TILES_PER_TAKE)) < n_tiles;) {
        int first = begin;
        const int end = min_int(begin + TILES_PER_TAKE, n_tiles);
        int base = 0;
        for (int i = 0; i < n_products && first < end; base += products[i].w->n_tiles, i++) {
            const product *p = &products[i];
            const int tile_end = min_int(end - base, p->w->n_tiles);
            if (first - base >= tile_end) continue;
            const lf_act act = lf_act_for(p->w->dtype);
            f->kernels->matmul[p->w->dtype](p->y, p->stride, p->w, first - base, tile_end, f->in.rows[act],
                                            f->in.stride[act], n_rows);
            first = base + tile_end;
        }
    }
    lf_threads_barrier(f->threads);
}

/* ---- attention ---- */

/* The tiles that a row sees in one layer and KV head, counted through its view: selected ones, then recent ones. */
typedef struct tile_list {
    const lf_kv_seq *seq;
    const int32_t *selected; /* (n_selected) */
    int n_selected, recent_tile;
    int i_layer, i_head;
} tile_list;

static tile_list tiles_of(const lf_forward *f, const lf_row *row, int i_layer, int i_head)
{
    tile_list list = {.seq = row->seq, .i_layer = i_layer, .i_head = i_head};
    if (row->view) {
        list.recent_tile = row->view->recent_tile;
        list.n_selected = row->view->n_selected;
        list.selected = row->view->selected +
                        ((size_t)i_layer * (size_t)f->model->config.n_kv_heads + (size_t)i_head) *
                            (size_t)list.n_selected;
    }
    return list;
}

/* How many positions of the list the row at pos sees: all before its own tile, and up to itself in that. */
static int visible_positions(const tile_list *list, int pos)
{
    return (list->n_selected + pos / LF_TILE_POS - list->recent_tile) * LF_TILE_POS + pos % LF_TILE_POS + 1;
}

static void gather_tiles(const void *tiles[TILES_PER_CALL], const tile_list *list, int first, int n)
{
    for (int i = 0; i < n; i++) {
        const int j = first + i;
        const int tile = j < list->n_selected ? list->selected[j] : list->recent_tile + j - list->n_selected;
        tiles[i] = lf_kv_seq_tile(list->seq, list->i_layer, list->i_head, tile);
    }
}

/* Rows begin..end of one run against one KV head: queries are (row, head of the group), rows outermost. */
static void attend_unit(const lf_forward *f, attend_state *s, int i_layer, int i_head, int begin, int end)
{
    const lf_config *c = &f->model->config;
    const int group = c->n_heads / c->n_kv_heads, n_q = (end - begin) * group;
    const size_t width = (size_t)f->layout.dim_padded;
    const tile_list list = tiles_of(f, &f->rows[begin], i_layer, i_head);
    for (int i = 0; i < n_q; i++) {
        const size_t head = (size_t)(begin + i / group) * (size_t)c->n_heads +
                            (size_t)(i_head * group + i % group);
        memcpy(s->q + (size_t)i * f->q_stride, f->q_act + head * f->q_stride, f->q_stride);
        s->m[i] = -INFINITY;
        s->l[i] = 0.0f;
    }
    memset(s->o, 0, (size_t)n_q * width * sizeof *s->o);

    const int n_pos = visible_positions(&list, f->rows[end - 1].pos);
    for (int first = 0; first < n_pos; first += TILES_PER_CALL * LF_TILE_POS) {
        const void *tiles[TILES_PER_CALL];
        const int n_tiles = min_int((n_pos - first + LF_TILE_POS - 1) / LF_TILE_POS, TILES_PER_CALL);
        gather_tiles(tiles, &list, first / LF_TILE_POS, n_tiles);
        for (int i = 0; i < n_q; i++) {
            const int visible = visible_positions(&list, f->rows[begin + i / group].pos) - first;
            s->n_visible[i] = visible < 0 ? 0 : min_int(visible, n_tiles * LF_TILE_POS);
        }
        f->kernels->attend[f->layout.dtype](s->o, width, s->m, s->l, &f->layout, tiles, n_tiles, s->q,
                                            f->q_stride, s->n_visible, n_q, 1.0f / sqrtf((float)c->head_dim),
                                            s->scratch);
    }
    for (int i = 0; i < n_q; i++) {
        float *att = f->att + ((size_t)(begin + i / group) * (size_t)c->n_heads +
                               (size_t)(i_head * group + i % group)) *
                                  (size_t)c->head_dim;
        for (int d = 0; d < c->head_dim; d++) att[d] = s->o[(size_t)i * width + (size_t)d] / s->l[i];
    }
}

/* Units are numbered through runs, chunks of a run's rows, and KV heads. */
static void attend_phase(const lf_forward *f, int i_thread, int i_layer)
{
    const lf_config *c = &f->model->config;
    const int group = c->n_heads / c->n_kv_heads;
    const int chunk = QUERIES_MAX / group; /* rows of a unit */
    int unit = lf_threads_take(f->threads, 1), base = 0;
    for (int i = 0; i < f->n_runs; i++) {
        const run *r = &f->runs[i];
        const int n_chunks = (r->end - r->begin + chunk - 1) / chunk, n_units = n_chunks * c->n_kv_heads;
        for (; unit < base + n_units; unit = lf_threads_take(f->threads, 1)) {
            const int begin = r->begin + (unit - base) / c->n_kv_heads * chunk;
            attend_unit(f, &f->attend[i_thread], i_layer, (unit - base) % c->n_kv_heads, begin,
                        min_int(begin + chunk, r->end));
        }
        base += n_units;
    }
    lf_threads_barrier(f->threads);
}

/* ---- the pass ---- */

static void layer_pass(const lf_forward *f, int i_thread, int i_layer)
{
    const lf_layer *l = &f->model->layers[i_layer];
    const lf_packed *const qkv[] = {&l->q, &l->k, &l->v}, *const gate_up[] = {&l->gate, &l->up};
    const product qkv_products[] = {
        {f->q, f->q_width, &l->q}, {f->k, f->kv_width, &l->k}, {f->v, f->kv_width, &l->v}};
    const product output_product = {f->proj, f->dim_width, &l->attn_output};
    const product gate_up_products[] = {{f->gate, f->ffn_width, &l->gate}, {f->up, f->ffn_width, &l->up}};
    const product down_product = {f->proj, f->dim_width, &l->down};

    norm_phase(f, i_thread, i_layer > 0, l->attn_norm, qkv, 3);
    product_phase(f, qkv_products, 3, f->n_rows);
    rotate_phase(f, i_layer);
    attend_phase(f, i_thread, i_layer);
    convert_phase(f, &l->attn_output);
    product_phase(f, &output_product, 1, f->n_rows);
    norm_phase(f, i_thread, true, l->ffn_norm, gate_up, 2);
    product_phase(f, gate_up_products, 2, f->n_rows);
    swiglu_phase(f, l);
    product_phase(f, &down_product, 1, f->n_rows);
}

/* The last residual, the output norm and the logits, for the rows that want them only. */
static void output_pass(const lf_forward *f, int i_thread)
{
    const lf_config *c = &f->model->config;
    const lf_packed *const output[] = {&f->model->output};
    const product output_product = {f->logits, f->vocab_width, &f->model->output};
    float *normed = thread_row(f, i_thread);
    for (int i; (i = lf_threads_take(f->threads, 1)) < f->n_logits;) {
        const size_t r = (size_t)f->logit_rows[i];
        float *x = f->x + r * (size_t)c->dim;
        f->kernels->add(x, f->proj + r * f->dim_width, c->dim);
        f->kernels->rms_norm(normed, x, f->model->output_norm, c->dim, c->norm_eps);
        convert_row(f, i, normed, output, 1);
    }
    lf_threads_barrier(f->threads);
    product_phase(f, &output_product, 1, f->n_logits);
}

static void pass_thread(void *arg, int i_thread)
{
    const lf_forward *f = arg;
    embed_phase(f);
    for (int i = 0; i < f->model->config.n_layers; i++) layer_pass(f, i_thread, i);
    if (f->n_logits > 0) output_pass(f, i_thread);
}

void lf_forward_run(lf_forward *f, const lf_row *rows, int n_rows)
{
    assert(n_rows >= 1 && n_rows <= f->rows_max);
    f->rows = rows;
    f->n_rows = n_rows;
    f->n_logits = f->n_runs = 0;
    for (int r = 0; r < n_rows; r++) {
        assert(rows[r].token >= 0 && rows[r].token < f->model->config.n_vocab && rows[r].pos >= 0);
        const bool joins = r > 0 && rows[r].seq == rows[r - 1].seq && rows[r].view == rows[r - 1].view;
        assert(!joins || rows[r].pos > rows[r - 1].pos);
        if (!joins) f->runs[f->n_runs++].begin = r;
        f->runs[f->n_runs - 1].end = r + 1;
        if (!rows[r].wants_logits) continue;
        assert(f->n_logits < f->logits_max);
        f->logit_rows[f->n_logits++] = r;
    }
    lf_threads_run(f->threads, pass_thread, f);
}
