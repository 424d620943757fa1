/* The attention kernels of attention_int.h for one instruction set. Before this file is included:
 *
 *   lanes                                          16 floats, or 16 cells
 *   lanes_set, _load, _store, _add, _sub, _mul, _max, _exp, _fold_sum, _fold_max
 *   lanes_dot(a, b, acc)                           acc + the products of the cells of a and b
 *   CELL_VALUES                                    1: a cell is a float; 2: a pair of bf16, and then also
 *   lanes_join(lo, hi), lanes_pair(even, odd)      32 floats as the cells of neighbours; two rows of 16 as pairs
 *   BLOCK_ROWS, BLOCK_LANES                        how much of a product lies in registers at a time
 *   LF_ATTENTION_KERNEL                            what the table is called */
#include "train/attention_int.h"

#include "kernel/exp.h"
#include "kernel/x86/simd.h"

#include <string.h>

#define VECTOR              _Pragma("omp simd")
#define VECTOR_SUM(s)       VECTOR_PRAGMA(omp simd reduction(+ : s))
#define VECTOR_PRAGMA(text) _Pragma(#text)

enum {
    TILE = LF_TRAIN_TILE,
    LANES = 16,
    TILE_CELLS = TILE / CELL_VALUES, /* cells of a row of scores */
    ELEMENT_BYTES = 4 / CELL_VALUES,
};

typedef uint32_t cell __attribute__((may_alias)); /* the memory was written as bf16 or float */

/* ---- products ---- */

/* c (m, n) of cells a (m, k), element (i, j) at a[i row_step + j col_step], and b (k, n), rows b_stride
 * apart. */
typedef struct operands {
    float *c;
    size_t c_stride;
    const cell *a;
    size_t row_step, col_step;
    const cell *b;
    size_t b_stride;
    int k;
    bool add; /* to c, rather than replacing it */
} operands;

/* BLOCK_ROWS rows by n_lanes vectors of lanes, the sums in registers. */
ALWAYS_INLINE void multiply_block(const operands *p, int row, int col, const int n_lanes)
{
    lanes sum[BLOCK_ROWS][BLOCK_LANES];
    float *c = p->c + (size_t)row * p->c_stride + col;
    UNROLL (i, BLOCK_ROWS)
        UNROLL (j, n_lanes)
            sum[i][j] = p->add ? lanes_load(c + (size_t)i * p->c_stride + j * LANES) : lanes_set(0.0f);
    const cell *a = p->a + (size_t)row * p->row_step, *b = p->b + col;
    for (int k = 0; k < p->k; k++, a += p->col_step, b += p->b_stride) {
        lanes column[BLOCK_LANES];
        UNROLL (j, n_lanes) column[j] = lanes_load(b + j * LANES);
        UNROLL (i, BLOCK_ROWS) {
            const lanes factor = lanes_set(lf_bits_to_float(a[(size_t)i * p->row_step]));
            UNROLL (j, n_lanes) sum[i][j] = lanes_dot(factor, column[j], sum[i][j]);
        }
    }
    UNROLL (i, BLOCK_ROWS)
        UNROLL (j, n_lanes) lanes_store(c + (size_t)i * p->c_stride + j * LANES, sum[i][j]);
}

/* m is a multiple of BLOCK_ROWS, n one of LANES. */
static void multiply(const operands *p, int m, int n)
{
    int col = 0;
    for (; col + BLOCK_LANES * LANES <= n; col += BLOCK_LANES * LANES)
        for (int row = 0; row < m; row += BLOCK_ROWS) multiply_block(p, row, col, BLOCK_LANES);
    for (; col < n; col += LANES)
        for (int row = 0; row < m; row += BLOCK_ROWS) multiply_block(p, row, col, 1);
}

/* s (TILE, TILE) = a b over the head's dims. */
static void multiply_over_dims(float *s, const void *rows, const void *turned, int dim_padded)
{
    const operands p = {.c = s,
                        .c_stride = TILE,
                        .a = rows,
                        .row_step = (size_t)(dim_padded / CELL_VALUES),
                        .col_step = 1,
                        .b = turned,
                        .b_stride = TILE,
                        .k = dim_padded / CELL_VALUES};
    multiply(&p, TILE, TILE);
}

/* out (TILE, dim_padded) += weights times a tile of a head: sums over keys, with weights as rows. */
static void add_over_keys(float *out, const cell *weights, const void *summed, int dim_padded)
{
    const operands p = {.c = out,
                        .c_stride = (size_t)dim_padded,
                        .a = weights,
                        .row_step = TILE_CELLS,
                        .col_step = 1,
                        .b = summed,
                        .b_stride = (size_t)dim_padded,
                        .k = TILE_CELLS,
                        .add = true};
    multiply(&p, TILE, dim_padded);
}

/* The same for the transposed weights, sums over queries: weights as `summed`, (TILE_CELLS of queries,
 * TILE of keys). */
static void add_over_queries(float *out, const cell *weights, const void *summed, int dim_padded)
{
    const operands p = {.c = out,
                        .c_stride = (size_t)dim_padded,
                        .a = weights,
                        .row_step = 1,
                        .col_step = TILE,
                        .b = summed,
                        .b_stride = (size_t)dim_padded,
                        .k = TILE_CELLS,
                        .add = true};
    multiply(&p, TILE, dim_padded);
}

/* ---- arrangements ---- */

/* Scores (TILE, TILE) as cells, with neighbours in a row together, or neighbours in a column. Floats are
 * cells as they are. */
#if CELL_VALUES == 1
static const cell *scores_as_rows(cell *out, const float *s)
{
    const void *cells = s;
    (void)out;
    return cells;
}

static const cell *scores_as_summed(cell *out, const float *s)
{
    return scores_as_rows(out, s);
}
#else
static const cell *scores_as_rows(cell *out, const float *s)
{
    for (int i = 0; i < TILE * TILE / (2 * LANES); i++)
        lanes_store_cells(out + i * LANES,
                          lanes_join(lanes_load(s + 2 * i * LANES), lanes_load(s + (2 * i + 1) * LANES)));
    return out;
}

static const cell *scores_as_summed(cell *out, const float *s)
{
    for (int row = 0; row < TILE; row += 2)
        for (int col = 0; col < TILE; col += LANES)
            lanes_store_cells(out + row / 2 * TILE + col, lanes_pair(lanes_load(s + row * TILE + col),
                                                                     lanes_load(s + (row + 1) * TILE + col)));
    return out;
}
#endif

static void turn_tile(void *out, const void *rows, int dim_padded)
{
    const int n_cells = dim_padded / CELL_VALUES;
    const cell *restrict from = rows;
    cell *restrict to = out;
    for (int c = 0; c < n_cells; c++)
        for (int row = 0; row < TILE; row++) to[c * TILE + row] = from[row * n_cells + c];
}

static void arrange_summed(void *out, const void *rows, int dim_padded)
{
#if CELL_VALUES == 1
    memcpy(out, rows, (size_t)(TILE * dim_padded) * sizeof(cell));
#else
    for (int row = 0; row < TILE; row += 2) {
        const uint16_t *restrict even = (const uint16_t *)rows + row * dim_padded, *restrict odd = even +
                                                                                                   dim_padded;
        cell *restrict to = (cell *)out + row / 2 * dim_padded;
        VECTOR
        for (int i = 0; i < dim_padded; i++) to[i] = even[i] | (cell)odd[i] << 16;
    }
#endif
}

static size_t tile_at(const lf_attention_job *job, int i_head, int i_tile)
{
    return (size_t)i_head * job->head_bytes + (size_t)i_tile * job->tile_bytes;
}

static void arrange_keys(const lf_attention_job *job, int i_kv_head, int i_tile)
{
    const size_t at = tile_at(job, i_kv_head, i_tile);
    turn_tile(job->k_turned + at, job->k + at, job->dim_padded);
    arrange_summed(job->v_summed + at, job->v + at, job->dim_padded);
}

static void arrange_keys_backward(const lf_attention_job *job, int i_kv_head, int i_tile)
{
    const size_t at = tile_at(job, i_kv_head, i_tile);
    turn_tile(job->k_turned + at, job->k + at, job->dim_padded);
    turn_tile(job->v_turned + at, job->v + at, job->dim_padded);
    arrange_summed(job->k_summed + at, job->k + at, job->dim_padded);
}

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* The rows of a tile that the batch has. */
static int rows_of_tile(const lf_attention_job *job, int i_tile)
{
    return min_int(TILE, job->n - i_tile * TILE);
}

static void store_element(void *to, size_t at, const float *restrict x, int n, lf_dtype dtype)
{
    if (dtype == LF_DTYPE_F32) {
        memcpy((float *)to + at, x, (size_t)n * sizeof *x);
        return;
    }
    uint16_t *restrict h = (uint16_t *)to + at;
    VECTOR
    for (int i = 0; i < n; i++) h[i] = lf_bf16_from_float(x[i]);
}

/* delta of a row: d_out . out. */
static float dot_with_out(const lf_attention_job *job, const float *restrict d_out, size_t at)
{
    float sum = 0.0f;
    if (job->operand == LF_DTYPE_F32) {
        const float *restrict out = (const float *)job->out + at;
        VECTOR_SUM(sum)
        for (int i = 0; i < job->head_dim; i++) sum += d_out[i] * out[i];
    } else {
        const uint16_t *restrict out = (const uint16_t *)job->out + at;
        VECTOR_SUM(sum)
        for (int i = 0; i < job->head_dim; i++) sum += d_out[i] * lf_bf16_to_float(out[i]);
    }
    return sum;
}

static void arrange_queries_backward(const lf_attention_job *job, int i_head, int i_tile)
{
    const size_t at = tile_at(job, i_head, i_tile);
    const lf_dtype dtype = CELL_VALUES == 1 ? LF_DTYPE_F32 : LF_DTYPE_BF16;
    const int n_rows = rows_of_tile(job, i_tile);
    arrange_summed(job->q_summed + at, job->q + at, job->dim_padded);
    memset(job->d_out + at, 0, job->tile_bytes);
    for (int row = 0; row < n_rows; row++) {
        const int i_row = i_tile * TILE + row;
        const size_t from = ((size_t)i_row * (size_t)job->n_heads + (size_t)i_head) * (size_t)job->head_dim;
        store_element(job->d_out + at, (size_t)(row * job->dim_padded), job->d_out_rows + from, job->head_dim,
                      dtype);
        job->delta[(size_t)i_head * (size_t)job->rows_padded + (size_t)i_row] = dot_with_out(
            job, job->d_out_rows + from, from);
    }
    arrange_summed(job->do_summed + at, job->d_out + at, job->dim_padded);
}

/* ---- scores ---- */

static lf_sight sight_of(const lf_attention_job *job, int query_tile, int key_tile)
{
    return (lf_sight)job->sight[(size_t)query_tile * (size_t)job->n_tiles + (size_t)key_tile];
}

/* Scores (TILE) of row i_row with a tile of keys: minus infinity where the row does not see the key. */
static void hide_unseen(float *restrict s, const lf_train_rows *rows, int i_row, int key_tile)
{
    const int base = key_tile * TILE;
    const int first = rows->first ? rows->first[i_row] - base : 0;
    const int first_end = rows->first ? rows->first_end[i_row] - base : 0;
    const int own = rows->own[i_row] - base, own_end = i_row - base;
    VECTOR
    for (int j = 0; j < TILE; j++) {
        const bool seen = ((j >= first) & (j < first_end)) | ((j >= own) & (j <= own_end));
        s[j] = seen ? s[j] : -INFINITY;
    }
}

static float max_of(const float *s, float max)
{
    lanes all = lanes_set(max);
    UNROLL (i, TILE / LANES) all = lanes_max(all, lanes_load(s + i * LANES));
    return lanes_fold_max(all);
}

/* s becomes exp(s - shift); the sum is returned. */
static float exp_of(float *s, float shift)
{
    lanes sum = lanes_set(0.0f);
    UNROLL (i, TILE / LANES) {
        const lanes e = lanes_exp(lanes_sub(lanes_load(s + i * LANES), lanes_set(shift)));
        lanes_store(s + i * LANES, e);
        sum = lanes_add(sum, e);
    }
    return lanes_fold_sum(sum);
}

/* ---- forward ---- */

typedef struct forward_scratch {
    float s[TILE * TILE];              /* scores, then probabilities, (queries, keys) */
    cell p[TILE * TILE_CELLS];         /* the latter as rows */
    float o[TILE * LF_TRAIN_HEAD_MAX]; /* (TILE, dim_padded) result so far, not yet divided by sum */
    float max[TILE], sum[TILE];
} forward_scratch;

/* Scores become probabilities, in units of exp(-max); what is summed so far is brought to the new maximum. */
static void fold_scores(const lf_attention_job *job, forward_scratch *f, int query_tile, int key_tile)
{
    const bool partial = sight_of(job, query_tile, key_tile) == LF_SEES_SOME;
    const int n_rows = rows_of_tile(job, query_tile);
    for (int row = 0; row < n_rows; row++) {
        float *s = f->s + row * TILE;
        if (partial) hide_unseen(s, job->rows, query_tile * TILE + row, key_tile);
        const float max = max_of(s, f->max[row]);
        if (max > f->max[row]) {
            const float scale = exp_spec(f->max[row] - max);
            float *restrict o = f->o + row * job->dim_padded;
            VECTOR
            for (int i = 0; i < job->dim_padded; i++) o[i] *= scale;
            f->sum[row] *= scale;
            f->max[row] = max;
        }
        f->sum[row] += exp_of(s, max);
    }
    memset(f->s + n_rows * TILE, 0, (size_t)((TILE - n_rows) * TILE) * sizeof *f->s);
}

static void forward(const lf_attention_job *job, int i_head, int query_tile, void *scratch)
{
    forward_scratch *f = scratch;
    const int d = job->dim_padded, i_kv_head = i_head / (job->n_heads / job->n_kv_heads);
    memset(f->o, 0, (size_t)(TILE * d) * sizeof *f->o);
    for (int i = 0; i < TILE; i++) {
        f->max[i] =
            -1e30f; /* finite: a row that sees nothing of its first tiles takes exp(-inf - max) = 0 from them */
        f->sum[i] = 0.0f;
    }
    for (int key_tile = 0; key_tile <= query_tile; key_tile++) {
        if (sight_of(job, query_tile, key_tile) == LF_SEES_NOTHING) continue;
        const size_t keys_at = tile_at(job, i_kv_head, key_tile);
        multiply_over_dims(f->s, job->q + tile_at(job, i_head, query_tile), job->k_turned + keys_at, d);
        fold_scores(job, f, query_tile, key_tile);
        add_over_keys(f->o, scores_as_rows(f->p, f->s), job->v_summed + keys_at, d);
    }
    for (int row = 0; row < rows_of_tile(job, query_tile); row++) {
        const int i_row = query_tile * TILE + row;
        const float scale = 1.0f / f->sum[row];
        float *restrict o = f->o + row * d;
        VECTOR
        for (int i = 0; i < job->head_dim; i++) o[i] *= scale;
        store_element(job->out,
                      ((size_t)i_row * (size_t)job->n_heads + (size_t)i_head) * (size_t)job->head_dim, o,
                      job->head_dim, job->operand);
        job->lse[(size_t)i_head * (size_t)job->rows_padded + (size_t)i_row] = f->max[row] + logf(f->sum[row]);
    }
}

/* ---- backward ---- */

typedef struct backward_scratch {
    float p[TILE * TILE];  /* scores, then probabilities, (queries, keys) */
    float dp[TILE * TILE]; /* their gradient, then that of the scores */
    cell as_rows[TILE * TILE_CELLS], as_summed[TILE * TILE_CELLS];
    float dk[TILE * LF_TRAIN_HEAD_MAX], dv[TILE * LF_TRAIN_HEAD_MAX]; /* (TILE, dim_padded) */
} backward_scratch;

/* p = exp(s - lse) and ds = p (dp - delta); rows past the end have no part in sums over rows. */
static void score_gradients(const lf_attention_job *job, backward_scratch *b, int i_head, int query_tile,
                            int key_tile)
{
    const bool partial = sight_of(job, query_tile, key_tile) == LF_SEES_SOME;
    const int n_rows = rows_of_tile(job, query_tile);
    const size_t at = (size_t)i_head * (size_t)job->rows_padded + (size_t)(query_tile * TILE);
    for (int row = 0; row < n_rows; row++) {
        float *p = b->p + row * TILE, *dp = b->dp + row * TILE;
        const lanes lse = lanes_set(job->lse[at + (size_t)row]),
                    delta = lanes_set(job->delta[at + (size_t)row]);
        if (partial) hide_unseen(p, job->rows, query_tile * TILE + row, key_tile);
        UNROLL (i, TILE / LANES) {
            const lanes e = lanes_exp(lanes_sub(lanes_load(p + i * LANES), lse));
            lanes_store(p + i * LANES, e);
            lanes_store(dp + i * LANES, lanes_mul(e, lanes_sub(lanes_load(dp + i * LANES), delta)));
        }
    }
    const size_t rest = (size_t)((TILE - n_rows) * TILE) * sizeof *b->p;
    memset(b->p + n_rows * TILE, 0, rest);
    memset(b->dp + n_rows * TILE, 0, rest);
}

static void backward_pair(const lf_attention_job *job, backward_scratch *b, int i_head, int query_tile,
                          int i_kv_head, int key_tile)
{
    const int d = job->dim_padded;
    const size_t keys_at = tile_at(job, i_kv_head, key_tile), queries_at = tile_at(job, i_head, query_tile);
    multiply_over_dims(b->p, job->q + queries_at, job->k_turned + keys_at, d);
    multiply_over_dims(b->dp, job->d_out + queries_at, job->v_turned + keys_at, d);
    score_gradients(job, b, i_head, query_tile, key_tile);
    add_over_queries(b->dv, scores_as_summed(b->as_summed, b->p), job->do_summed + queries_at, d);
    add_over_queries(b->dk, scores_as_summed(b->as_summed, b->dp), job->q_summed + queries_at, d);
    float *dq = job->dq +
                ((size_t)i_head * (size_t)job->rows_padded + (size_t)(query_tile * TILE)) * (size_t)d;
    add_over_keys(dq, scores_as_rows(b->as_rows, b->dp), job->k_summed + keys_at, d);
}

static void backward(const lf_attention_job *job, int i_kv_head, int begin, int end, void *scratch)
{
    backward_scratch *b = scratch;
    const int d = job->dim_padded, group = job->n_heads / job->n_kv_heads;
    const size_t tile_floats = (size_t)(TILE * d), head_floats = (size_t)job->rows_padded * (size_t)d;
    memset(job->dq + (size_t)(i_kv_head * group) * head_floats, 0,
           (size_t)group * head_floats * sizeof *job->dq);
    for (int key_tile = begin; key_tile < end; key_tile++) {
        memset(b->dk, 0, tile_floats * sizeof *b->dk);
        memset(b->dv, 0, tile_floats * sizeof *b->dv);
        for (int i_head = i_kv_head * group; i_head < (i_kv_head + 1) * group; i_head++)
            for (int query_tile = key_tile; query_tile < job->n_tiles; query_tile++)
                if (sight_of(job, query_tile, key_tile) != LF_SEES_NOTHING)
                    backward_pair(job, b, i_head, query_tile, i_kv_head, key_tile);
        const size_t at = (size_t)i_kv_head * head_floats + (size_t)key_tile * tile_floats;
        memcpy(job->dk + at, b->dk, tile_floats * sizeof *b->dk);
        memcpy(job->dv + at, b->dv, tile_floats * sizeof *b->dv);
    }
}

const lf_attention_kernel LF_ATTENTION_KERNEL = {
    .dtype = CELL_VALUES == 1 ? LF_DTYPE_F32 : LF_DTYPE_BF16,
    .arrange_keys = arrange_keys,
    .arrange_keys_backward = arrange_keys_backward,
    .arrange_queries_backward = arrange_queries_backward,
    .forward = forward,
    .backward = backward,
    .scratch_bytes = sizeof(backward_scratch) > sizeof(forward_scratch) ? sizeof(backward_scratch)
                                                                        : sizeof(forward_scratch),
};
