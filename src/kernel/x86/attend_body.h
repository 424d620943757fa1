/* Attention over blocks of KV tiles, the body of the vector kernels. A file of one instruction set includes
 * its lanes (attend_lanes_*.h), then this, and instantiates DEFINE_ATTEND for the dtypes that it makes
 * faster.
 *
 * Queries are taken in groups; within a block a group passes four phases:
 *
 *   score   q . k for rows x cols of (queries x tiles) at a time: a vector of K, once loaded, serves `rows`
 *           queries, and a tile comes from the first-level cache for the queries after those
 *   exp     per query, over the positions it sees
 *   value   p v for rows x cols of (queries x 16 dimensions) at a time, over the positions that all of these
 *           queries see, then for each query alone over the rest of its own
 *   merge   into the running state
 *
 * Row law: this blocking decides only which accumulators are in registers together. Each accumulator belongs
 * to one query and one position (or dimension) and takes the dimensions (or positions) in ascending order,
 * so its bits do not depend on rows, cols, the group, or where `value` went over from company to alone. What
 * an invisible slot holds reaches only scores that are then replaced. */
#ifndef LF_KERNEL_X86_ATTEND_BODY_H
#define LF_KERNEL_X86_ATTEND_BODY_H

#include "kernel/attend_int.h"
#include "kernel/tables.h"
#include "kernel/x86/simd.h"

#include <assert.h>
#include <math.h>

enum {
    COLS_MAX = 4,
    Q8_BLOCK = 32,
    Q8_BIAS = 128,
    LINE_BYTES = 64,
    TURN_STEPS = 2,                /* steps of a product between two turns of reading ahead */
    READ_AHEAD_BYTES = 256 * 1024, /* of the next block at most: a part of the second-level cache */
};

/* The arguments of a table entry (kernel.h). */
typedef struct attend_call {
    float *o, *m, *l; /* (n_q, o_stride), (n_q), (n_q) */
    size_t o_stride;
    const lf_kv_layout *layout;
    const void *const *tiles; /* (n_tiles) */
    int n_tiles;
    const uint8_t *q; /* (n_q, q_stride bytes) */
    size_t q_stride;
    const int *n_visible; /* (n_q) */
    int n_q;
    float scale;
    const lf_attend_mass *mass; /* or NULL */
    float *scratch;
} attend_call;

/* Reading ahead: the next block comes into the caches a little at a turn while this one is computed on, so
 * that memory and arithmetic work at the same time. */
typedef struct read_ahead {
    const char *line, *end;   /* of the tile at hand, what is still to be read */
    const void *const *tiles; /* (n_tiles) those after it */
    int n_tiles, tile_bytes;
    int turn_bytes;
} read_ahead;

/* Some queries of a call and the block they attend to. */
typedef struct attend_group {
    const lf_kv_layout *layout;
    const void *const *tiles; /* (n_tiles) of the block */
    int n_tiles;              /* up to the last that a query of the group sees */
    const uint8_t *q;         /* (n_q, q_stride bytes) */
    size_t q_stride;
    int n_q;
    int n_visible[ATTEND_GROUP]; /* (n_q) within the block, at least 1 */
    float *p;                    /* (n_q, LF_ATTN_POS) q . k, then p; for bf16 as uint16_t in the same rows */
    float *o_b;                  /* (ATTEND_ROWS, dim_padded) */
    read_ahead *ahead;
} attend_group;

ALWAYS_INLINE int min_int(int a, int b)
{
    return a < b ? a : b;
}

ALWAYS_INLINE int div_up(int a, int b)
{
    return (a + b - 1) / b;
}

/* ---- blocking ---- */

/* Accumulators that are in registers together during `score`. In `value` they are LANES_BLOCK for all
 * dtypes. */
ALWAYS_INLINE int score_block(lf_dtype dtype)
{
    return dtype == LF_DTYPE_Q8_0 ? LANES_BLOCK_Q8 : LANES_BLOCK;
}

/* How many of the next n queries to take at once, so that the parts are about equal. */
ALWAYS_INLINE int rows_of(int n, int block)
{
    return div_up(n, div_up(n, min_int(block, ATTEND_ROWS)));
}

/* The columns for which that many rows leave room. */
ALWAYS_INLINE int cols_beside(int rows, int block)
{
    return min_int(block / rows, COLS_MAX);
}

/* Elements of q or p that one step of a product takes; they fill 4 bytes. For q8_0 that holds of p only. */
ALWAYS_INLINE int step_length(lf_dtype dtype)
{
    return dtype == LF_DTYPE_BF16 ? 2 : 1;
}

/* A turn reads some of the next block. */
ALWAYS_INLINE void read_some(read_ahead *a)
{
    const char *const stop = a->end - a->line < a->turn_bytes ? a->end : a->line + a->turn_bytes;
    for (; a->line < stop; a->line += LINE_BYTES) _mm_prefetch(a->line, _MM_HINT_T0);
    if (a->line < a->end || a->n_tiles == 0) return;
    a->line = *a->tiles++;
    a->end = a->line + a->tile_bytes;
    a->n_tiles--;
}

/* Called at each step of a product. */
ALWAYS_INLINE void read_ahead_at(read_ahead *a, int i_step)
{
    if (i_step % TURN_STEPS == 0) read_some(a);
}

ALWAYS_INLINE lanes broadcast_word(const void *p)
{
    float word;
    memcpy(&word, p, sizeof word);
    return lanes_set(word);
}

ALWAYS_INLINE lanes step_product(lf_dtype dtype, lanes a, lanes b, lanes acc)
{
    return dtype == LF_DTYPE_BF16 ? lanes_dot_bf16(a, b, acc) : lanes_fma(a, b, acc);
}

/* ---- scores ---- */

/* One step of K: a dimension (bf16: pair) of the tile's positions. */
ALWAYS_INLINE lanes load_k(lf_dtype dtype, const uint8_t *k, int i)
{
    if (dtype == LF_DTYPE_F16) return lanes_load_f16(k + i * LF_TILE_POS * 2);
    return lanes_load(k + i * LF_TILE_POS * 4);
}

/* q . k of `rows` queries from i_q on and `cols` tiles from i_tile on, into p. */
ALWAYS_INLINE void score_tiles(const attend_group *g, lf_dtype dtype, int i_q, int rows, int i_tile, int cols)
{
    const uint8_t *q = g->q + (size_t)i_q * g->q_stride;
    const int n_steps = div_up(g->layout->head_dim, step_length(dtype));
    const uint8_t *tiles[COLS_MAX];
    read_ahead ahead = *g->ahead; /* in registers */
    lanes acc[ATTEND_ROWS][COLS_MAX];
    UNROLL (c, cols) tiles[c] = g->tiles[i_tile + c];
    UNROLL (r, rows)
        UNROLL (c, cols) acc[r][c] = lanes_set(0.0f);
    for (int i = 0; i < n_steps; i++) {
        read_ahead_at(&ahead, i);
        lanes k[COLS_MAX];
        UNROLL (c, cols) k[c] = load_k(dtype, tiles[c], i);
        UNROLL (r, rows) {
            const lanes a = broadcast_word(q + (size_t)r * g->q_stride + (size_t)i * 4);
            UNROLL (c, cols) acc[r][c] = step_product(dtype, a, k[c], acc[r][c]);
        }
    }
    *g->ahead = ahead;
    UNROLL (r, rows)
        UNROLL (c, cols) lanes_store(g->p + (i_q + r) * LF_ATTN_POS + (i_tile + c) * LF_TILE_POS, acc[r][c]);
}

/* The same for q8_0, where each block of 32 dimensions is first an exact integer product. */
ALWAYS_INLINE void score_tiles_q8(const attend_group *g, int i_q, int rows, int i_tile, int cols)
{
    const int n_blocks = div_up(g->layout->head_dim, Q8_BLOCK);
    const lf_act_q8 q = lf_act_q8_at(g->q + (size_t)i_q * g->q_stride, g->layout->head_dim);
    const int scales_at = n_blocks * Q8_BLOCK * LF_TILE_POS; /* f16 (n_blocks, 16) */
    lanes acc[ATTEND_ROWS][COLS_MAX];
    UNROLL (r, rows)
        UNROLL (c, cols) acc[r][c] = lanes_set(0.0f);
    for (int b = 0; b < n_blocks; b++) {
        dots dot[ATTEND_ROWS][COLS_MAX];
        UNROLL (r, rows)
            UNROLL (c, cols) dot[r][c] = dots_zero();
        for (int i = b * Q8_BLOCK; i < (b + 1) * Q8_BLOCK; i += 4) {
            read_ahead_at(g->ahead, i / 4);
            quads k[COLS_MAX];
            UNROLL (c, cols) k[c] = quads_load_u8((const uint8_t *)g->tiles[i_tile + c] + i * LF_TILE_POS);
            UNROLL (r, rows) {
                const quad a = quad_load_i8(q.q + (size_t)r * g->q_stride + i);
                UNROLL (c, cols) dot[r][c] = dots_add(dot[r][c], k[c], a);
            }
        }
        UNROLL (r, rows) {
            const size_t row_at = (size_t)r * g->q_stride;
            const int32_t *sum = (const void *)((const uint8_t *)(q.sum + 2 * b) + row_at);
            const lanes q_d = broadcast_word((const uint8_t *)(q.d + b) + row_at);
            UNROLL (c, cols) {
                const uint8_t *scales = (const uint8_t *)g->tiles[i_tile + c] + scales_at;
                const lanes d = lanes_mul(lanes_load_f16(scales + b * LF_TILE_POS * 2), q_d);
                acc[r][c] = lanes_fma(dots_to_lanes(dot[r][c], -Q8_BIAS * (sum[0] + sum[1])), d, acc[r][c]);
            }
        }
    }
    UNROLL (r, rows)
        UNROLL (c, cols) lanes_store(g->p + (i_q + r) * LF_ATTN_POS + (i_tile + c) * LF_TILE_POS, acc[r][c]);
}

/* Scores of `rows` queries over the tiles [i_tile, end). */
ALWAYS_INLINE void score_rows(const attend_group *g, lf_dtype dtype, int i_q, int rows, int i_tile, int end)
{
    const int cols = cols_beside(rows, score_block(dtype));
    if (dtype == LF_DTYPE_Q8_0) {
        for (; i_tile + cols <= end; i_tile += cols) score_tiles_q8(g, i_q, rows, i_tile, cols);
        for (; i_tile < end; i_tile++) score_tiles_q8(g, i_q, rows, i_tile, 1);
    } else {
        for (; i_tile + cols <= end; i_tile += cols) score_tiles(g, dtype, i_q, rows, i_tile, cols);
        for (; i_tile < end; i_tile++) score_tiles(g, dtype, i_q, rows, i_tile, 1);
    }
}

/* Phase `score`: the group over all its tiles, a few tiles at a time for all queries. */
ALWAYS_INLINE void score_group(const attend_group *g, lf_dtype dtype)
{
    for (int t = 0; t < g->n_tiles; t += COLS_MAX) {
        const int end = min_int(t + COLS_MAX, g->n_tiles);
        for (int i = 0, rows; i < g->n_q; i += rows) {
            rows = rows_of(g->n_q - i, score_block(dtype));
            switch (rows) {
            case 1: score_rows(g, dtype, i, 1, t, end); break;
            case 2: score_rows(g, dtype, i, 2, t, end); break;
            case 3: score_rows(g, dtype, i, 3, t, end); break;
            case 4: score_rows(g, dtype, i, 4, t, end); break;
            case 5: score_rows(g, dtype, i, 5, t, end); break;
            default: score_rows(g, dtype, i, ATTEND_ROWS, t, end); break;
            }
        }
    }
}

/* ---- softmax ---- */

/* The maximum of scale (q . k) over the n visible positions of p. */
static inline float max_score(const float *p, int n, float scale)
{
    const lanes lowest = lanes_set(-INFINITY);
    lanes max = lowest;
    for (int j = 0; j < n; j += LF_TILE_POS) {
        const lanes s = lanes_mul(lanes_set(scale), lanes_load(p + j));
        max = lanes_max(n - j < LF_TILE_POS ? lanes_first(n - j, s, lowest) : s, max);
    }
    return lanes_fold_max(max);
}

/* p (n visible): q . k in, exp(scale (q . k) - max) out, with exact zeros up to the end of the last tile;
 * returns their sum, and those of each tile unless tile_sum is NULL. A bf16 row takes the first half of the room, behind what
 * is still to be read. */
ALWAYS_INLINE float exp_scores(float *p, int n, float scale, float max, lf_dtype dtype, float *tile_sum,
                               read_ahead *next)
{
    read_ahead ahead = *next;
    lanes sum = lanes_set(0.0f);
    for (int j = 0; j < n; j += LF_TILE_POS) {
        const lanes s = lanes_mul(lanes_set(scale), lanes_load(p + j));
        lanes e = lanes_exp(lanes_sub(s, lanes_set(max)));
        if (n - j < LF_TILE_POS) e = lanes_first(n - j, e, lanes_set(0.0f));
        if (dtype == LF_DTYPE_BF16)
            e = lanes_store_bf16((uint16_t *)(void *)p + j, e);
        else
            lanes_store(p + j, e);
        if (tile_sum) *tile_sum++ = lanes_fold_sum(e);
        sum = lanes_add(sum, e);
        read_some(&ahead);
    }
    *next = ahead;
    return lanes_fold_sum(sum);
}

/* ---- values ---- */

/* The c-th 16 dimensions of V from `column` on, of position (bf16: pair of positions) i. column is a
 * multiple of 32 when there is more than one of them: in q8_0 two then share a scale. */
ALWAYS_INLINE lanes load_v(lf_dtype dtype, const uint8_t *v, int dim_padded, int i, int column, int c)
{
    const int first = i * dim_padded + column, at = first + c * LF_TILE_POS;
    if (dtype == LF_DTYPE_F16) return lanes_load_f16(v + at * 2);
    if (dtype != LF_DTYPE_Q8_0) return lanes_load(v + at * 4);
    const uint16_t *scales = (const void *)(v + LF_TILE_POS * dim_padded); /* f16 (16, dim_padded / 32) */
    return lanes_mul(lanes_load_i8(v + at),
                     lanes_set_f16(scales[(unsigned)first / Q8_BLOCK + (unsigned)c / 2]));
}

/* acc (rows, cols) += p v of one step. p: the step's words, a row of scores apart. half: the second position
 * of the pair is invisible; its p is already zero. */
ALWAYS_INLINE void value_step(lanes acc[ATTEND_ROWS][COLS_MAX], lf_dtype dtype, const float *p, int rows,
                              const uint8_t *v_tile, int dim_padded, int i, int column, int cols, bool half)
{
    lanes v[COLS_MAX];
    UNROLL (c, cols) {
        v[c] = load_v(dtype, v_tile, dim_padded, i, column, c);
        if (half) v[c] = lanes_even_bf16(v[c]);
    }
    UNROLL (r, rows) {
        const lanes a = broadcast_word(p + r * LF_ATTN_POS);
        UNROLL (c, cols) acc[r][c] = step_product(dtype, a, v[c], acc[r][c]);
    }
}

/* o_b (rows, dim_padded) [column, column + 16 cols) of the queries from i_q on, over the positions [begin,
 * end) that all of them see: set when begin is 0, otherwise added to. begin is even. */
ALWAYS_INLINE void value_columns(const attend_group *g, lf_dtype dtype, float *o_b, int i_q, int rows,
                                 int column, int cols, int begin, int end)
{
    const int dim = g->layout->dim_padded, step = step_length(dtype);
    const float *p = g->p + i_q * LF_ATTN_POS;
    read_ahead ahead = *g->ahead;
    lanes acc[ATTEND_ROWS][COLS_MAX];
    UNROLL (r, rows)
        UNROLL (c, cols)
            acc[r][c] = begin == 0 ? lanes_set(0.0f) : lanes_load(o_b + r * dim + column + c * LF_TILE_POS);
    for (int j = begin; j < end;) {
        const int i_tile = j / LF_TILE_POS, stop = min_int((i_tile + 1) * LF_TILE_POS, end);
        const uint8_t *v = (const uint8_t *)g->tiles[i_tile] + g->layout->v_offset;
        int i = j % LF_TILE_POS / step;
        for (; j + step <= stop; j += step, i++) {
            read_ahead_at(&ahead, i);
            value_step(acc, dtype, p + j / step, rows, v, dim, i, column, cols, false);
        }
        if (j < stop) {
            value_step(acc, dtype, p + j / step, rows, v, dim, i, column, cols, true);
            j = stop;
        }
    }
    *g->ahead = ahead;
    UNROLL (r, rows)
        UNROLL (c, cols) lanes_store(o_b + r * dim + column + c * LF_TILE_POS, acc[r][c]);
}

ALWAYS_INLINE void value_rows(const attend_group *g, lf_dtype dtype, float *o_b, int i_q, int rows, int begin,
                              int end)
{
    const int dim = g->layout->dim_padded, cols = cols_beside(rows, LANES_BLOCK);
    int column = 0;
    for (; column + cols * LF_TILE_POS <= dim; column += cols * LF_TILE_POS)
        value_columns(g, dtype, o_b, i_q, rows, column, cols, begin, end);
    for (; column < dim; column += LF_TILE_POS)
        value_columns(g, dtype, o_b, i_q, rows, column, 1, begin, end);
}

/* Phase `value`: o_b (rows, dim_padded) of the queries from i_q on. */
ALWAYS_INLINE void value_group(const attend_group *g, lf_dtype dtype, int i_q, int rows)
{
    const int *n_visible = g->n_visible + i_q;
    int common = LF_ATTN_POS;
    for (int r = 0; r < rows; r++) common = min_int(common, n_visible[r]);
    if (rows > 1) common &= ~1; /* a pair of which one sees half is left to each alone */
    switch (rows) {
    case 1: value_rows(g, dtype, g->o_b, i_q, 1, 0, common); break;
    case 2: value_rows(g, dtype, g->o_b, i_q, 2, 0, common); break;
    case 3: value_rows(g, dtype, g->o_b, i_q, 3, 0, common); break;
    case 4: value_rows(g, dtype, g->o_b, i_q, 4, 0, common); break;
    case 5: value_rows(g, dtype, g->o_b, i_q, 5, 0, common); break;
    default: value_rows(g, dtype, g->o_b, i_q, ATTEND_ROWS, 0, common); break;
    }
    for (int r = 0; r < rows; r++)
        if (n_visible[r] > common)
            value_rows(g, dtype, g->o_b + r * g->layout->dim_padded, i_q + r, 1, common, n_visible[r]);
}

/* ---- the call ---- */

/* Takes the block's o_b, m_b and l_b (rows) of the queries from i_q on into their running state. */
static inline void merge(const attend_call *call, int i_q, int rows, const float *o_b, const float *m_b,
                         const float *l_b)
{
    const int dim = call->layout->dim_padded;
    float *m = call->m + i_q, *l = call->l + i_q;
    float factor[2][LF_TILE_POS / 2] = {{0}}; /* exp(m - m') and exp(m_b - m'), of all rows at once */
    for (int r = 0; r < rows; r++) {
        const float m_new = m_b[r] > m[r] ? m_b[r] : m[r];
        factor[0][r] = m[r] - m_new;
        factor[1][r] = m_b[r] - m_new;
        m[r] = m_new;
    }
    lanes_store(factor[0], lanes_exp(lanes_load(factor)));
    for (int r = 0; r < rows; r++) {
        const lanes a = lanes_set(factor[0][r]), b = lanes_set(factor[1][r]);
        float *o = call->o + (size_t)(i_q + r) * call->o_stride;
        l[r] = fmaf(l[r], factor[0][r], l_b[r] * factor[1][r]);
        for (int i = 0; i < dim; i += LF_TILE_POS)
            lanes_store(o + i, lanes_fma(lanes_load(o + i), a, lanes_mul(lanes_load(o_b + r * dim + i), b)));
    }
}

/* The phases that are compiled per dtype; not inlined, see flush_subnormals. */
typedef struct attend_phases {
    lf_dtype dtype;
    void (*score)(const attend_group *g);
    void (*value)(const attend_group *g, int i_q, int rows);
} attend_phases;

/* Where the sums of a query's tiles from i_tile on go, or NULL; its maximum in that block is noted. */
static float *note_mass(const lf_attend_mass *mass, int i_q, int i_tile, float m_b)
{
    if (!mass) return NULL;
    mass->max[(size_t)i_q * mass->max_stride + (size_t)(i_tile / LF_ATTN_TILES)] = m_b;
    return mass->sum + (size_t)i_q * mass->sum_stride + (size_t)i_tile;
}

static void attend_one_group(const attend_call *call, const attend_phases *phases, const attend_group *g,
                             int i_first)
{
    const lf_dtype dtype = phases->dtype;
    const bool flushed = dtype == LF_DTYPE_BF16 && LANES_BF16_NEEDS_FLUSH;
    float m_b[ATTEND_GROUP], l_b[ATTEND_GROUP];

    unsigned saved = flushed ? flush_subnormals() : 0;
    phases->score(g);
    if (flushed) _mm_setcsr(saved);

    /* All maxima first: the sums of one query then wait for nothing that the one before is still at. */
    for (int i = 0; i < g->n_q; i++) m_b[i] = max_score(g->p + i * LF_ATTN_POS, g->n_visible[i], call->scale);
    for (int i = 0; i < g->n_q; i++) {
        float *p = g->p + i * LF_ATTN_POS;
        float *tile_sum = note_mass(call->mass, i_first + i, (int)(g->tiles - call->tiles), m_b[i]);
        l_b[i] = dtype == LF_DTYPE_BF16
                     ? exp_scores(p, g->n_visible[i], call->scale, m_b[i], LF_DTYPE_BF16, tile_sum, g->ahead)
                     : exp_scores(p, g->n_visible[i], call->scale, m_b[i], LF_DTYPE_F32, tile_sum, g->ahead);
    }
    for (int i = 0, rows; i < g->n_q; i += rows) {
        rows = rows_of(g->n_q - i, LANES_BLOCK);
        saved = flushed ? flush_subnormals() : 0;
        phases->value(g, i, rows);
        if (flushed) _mm_setcsr(saved);
        merge(call, i_first + i, rows, g->o_b, m_b + i, l_b + i);
    }
}

/* Register blocks that make up n_rows x n_cols accumulators. */
static int count_blocks(int n_rows, int n_cols, int block)
{
    const int rows = rows_of(n_rows, block);
    return div_up(n_rows, rows) * div_up(n_cols, cols_beside(rows, block));
}

/* Spreads the next block evenly over the steps and exponentials of this one, counted as if all queries saw all of it. */
static read_ahead plan_read_ahead(const attend_call *call, lf_dtype dtype, int n_tiles, int next_tile)
{
    const int dim = call->layout->dim_padded, tile_bytes = (int)call->layout->tile_bytes;
    const int score_steps = div_up(dim, dtype == LF_DTYPE_Q8_0 ? 4 : step_length(dtype));
    const int value_steps = n_tiles * LF_TILE_POS / step_length(dtype);
    const int n_steps = count_blocks(call->n_q, n_tiles, score_block(dtype)) * score_steps +
                        count_blocks(call->n_q, dim / LF_TILE_POS, LANES_BLOCK) * value_steps;
    const int n_turns = div_up(n_steps, TURN_STEPS) + call->n_q * n_tiles;
    const int n_left = min_int(call->n_tiles - next_tile, LF_ATTN_TILES);
    const int n_ahead = min_int(n_left, READ_AHEAD_BYTES / tile_bytes);
    const int n_lines = n_ahead * (tile_bytes / LINE_BYTES);
    return (read_ahead){
        .line = call->tiles[0], /* none left of this one: the first turn goes on to the next block's */
        .end = call->tiles[0],
        .tiles = call->tiles + next_tile,
        .n_tiles = n_ahead,
        .tile_bytes = tile_bytes,
        .turn_bytes = div_up(n_lines, n_turns) * LINE_BYTES,
    };
}

/* Fills the group with the queries from i_first on that see some of the block, up to the first that does not
 * and ATTEND_GROUP at most; their number may be 0. */
static void gather_group(attend_group *g, const attend_call *call, int i_first, int first_pos)
{
    int longest = 0;
    g->n_q = 0;
    for (int i = i_first; i < call->n_q && g->n_q < ATTEND_GROUP; i++) {
        const int n = min_int(call->n_visible[i] - first_pos, LF_ATTN_POS);
        if (n <= 0) break;
        g->n_visible[g->n_q++] = n;
        if (n > longest) longest = n;
    }
    g->n_tiles = div_up(longest, LF_TILE_POS);
    g->q = call->q + (size_t)i_first * call->q_stride;
}

static void attend_blocks(const attend_call *call, const attend_phases *phases)
{
    assert(call->n_q >= 1);
    for (int first = 0; first < call->n_tiles; first += LF_ATTN_TILES) {
        const int n_tiles = min_int(call->n_tiles - first, LF_ATTN_TILES);
        read_ahead ahead = plan_read_ahead(call, phases->dtype, n_tiles, first + n_tiles);
        attend_group g = {
            .layout = call->layout,
            .tiles = call->tiles + first,
            .q_stride = call->q_stride,
            .o_b = call->scratch,
            .p = call->scratch + ATTEND_ROWS * LF_HEAD_DIM_MAX,
            .ahead = &ahead,
        };
        for (int i = 0; i < call->n_q;) {
            gather_group(&g, call, i, first * LF_TILE_POS);
            if (g.n_q == 0) {
                i++;
                continue;
            }
            attend_one_group(call, phases, &g, i);
            i += g.n_q;
        }
    }
}

/* Defines the table entry attend_<name> for a KV dtype. */
#define DEFINE_ATTEND(name, dtype)                                                                           \
    __attribute__((noinline)) static void score_##name(const attend_group *g)                                \
    {                                                                                                        \
        score_group(g, dtype);                                                                               \
    }                                                                                                        \
    __attribute__((noinline)) static void value_##name(const attend_group *g, int i_q, int rows)             \
    {                                                                                                        \
        value_group(g, dtype, i_q, rows);                                                                    \
    }                                                                                                        \
    static void attend_##name(float *o, size_t o_stride, float *m, float *l, const lf_kv_layout *layout,     \
                              const void *const *tiles, int n_tiles, const void *q, size_t q_stride,         \
                              const int *n_visible, int n_q, float scale, const lf_attend_mass *mass,        \
                              void *scratch)                                                                 \
    {                                                                                                        \
        const attend_phases phases = {dtype, score_##name, value_##name};                                    \
        const attend_call call = {                                                                           \
            .o = o,                                                                                          \
            .m = m,                                                                                          \
            .l = l,                                                                                          \
            .o_stride = o_stride,                                                                            \
            .layout = layout,                                                                                \
            .tiles = tiles,                                                                                  \
            .n_tiles = n_tiles,                                                                              \
            .q = q,                                                                                          \
            .q_stride = q_stride,                                                                            \
            .n_visible = n_visible,                                                                          \
            .n_q = n_q,                                                                                      \
            .scale = scale,                                                                                  \
            .mass = mass,                                                                                    \
            .scratch = scratch,                                                                              \
        };                                                                                                   \
        attend_blocks(&call, &phases);                                                                       \
    }

#endif
