/* Products of rows with packed weights, the body of the vector kernels. A file of one instruction set includes its
 * lanes (matmul_lanes_*.h), then this, and instantiates DEFINE_MATMUL for the dtypes that it makes faster.
 *
 * A patch is rows x cols accumulators held in registers, each of them 16 outputs (a tile) of one row: a vector of
 * weights that was loaded, or unpacked, serves all rows of the patch, a broadcast input all of its tiles.
 *
 *                 tile t   t + 1   ...              the cols tiles x some inputs of one span stay in the second-level
 *      row r     [ acc ]  [ acc ]                   cache while the patches of all rows pass over them
 *      row r+1   [ acc ]  [ acc ]
 *
 * Row law: every output of every row has one accumulator that takes the inputs in ascending order, by the operations
 * of kernel.h. The shape of the patch and the order of patches only say which accumulators are in registers together;
 * where a span ends before the inputs do, the accumulators wait in y, as the floats that they are. */
#ifndef LF_KERNEL_X86_MATMUL_BODY_H
#define LF_KERNEL_X86_MATMUL_BODY_H

#include "kernel/packed_records.h"
#include "kernel/tables.h"
#include "kernel/x86/simd.h"

#include <string.h>

enum {
    ROWS_MAX = 6, /* of any patch */
    COLS_MAX = 4,
    LINE_BYTES = 64,
    SPAN_BYTES = 128 << 10, /* of weights: this span and the next take a part of the second-level cache */
    AHEAD_BYTES =
        8 << 10, /* how far a single patch reads ahead: about memory's latency times its bandwidth */
    NEAR_BYTES = 20 << 10, /* of weights taken as one piece: it and the next fit the first-level cache */
};

/* The part of a product that is computed between loading and storing accumulators. */
typedef struct span {
    const uint8_t *w; /* the first tile, the others tile_bytes apart */
    size_t tile_bytes;
    int n_groups;     /* of so many tiles as a patch has; more than one only of whole tiles */
    const uint8_t *x; /* the first row of all */
    size_t x_stride;
    lf_act_q8 quant; /* its arrays, for quantised weights */
    size_t x_at;     /* bytes from the first row of all to that of the patch */
    float *y;        /* of the patch's first row and tile */
    size_t y_stride;
    int n_in, begin, end; /* inputs [begin, end) of n_in; begin is a multiple of PACKED_CHUNK */
    int ahead;            /* records between those in use and those that are fetched, in the same tiles */
    int groups_ahead;     /* groups between them where the tiles end before that */
    const uint8_t *after; /* the first tile's weights after this span; the others' lie as here */
    int turn, turns; /* of so many patches that share the fetching: this one does it at every turns-th step */
} span;

typedef lanes patch_acc[ROWS_MAX][COLS_MAX];

ALWAYS_INLINE float *acc_at(const span *s, int i_group, int r, int c, int cols)
{
    return s->y + (size_t)r * s->y_stride + (size_t)(i_group * cols + c) * LF_TILE_OUT;
}

/* The accumulators of group i_group. */
ALWAYS_INLINE void load_acc(patch_acc acc, const span *s, int i_group, int rows, int cols)
{
    UNROLL (r, rows)
        UNROLL (c, cols)
            acc[r][c] = s->begin == 0 ? lanes_set(0.0f) : lanes_load(acc_at(s, i_group, r, c, cols));
}

ALWAYS_INLINE void store_acc(const span *s, patch_acc acc, int i_group, int rows, int cols)
{
    UNROLL (r, rows)
        UNROLL (c, cols) lanes_store(acc_at(s, i_group, r, c, cols), acc[r][c]);
}

ALWAYS_INLINE lanes broadcast_word(const void *p)
{
    float word;
    memcpy(&word, p, sizeof word);
    return lanes_set(word);
}

/* The processor's own read-ahead does not see through the order in which a record's parts are used, nor past its end.
 * So with each step of a product its `bytes` of what comes later are fetched: of the same tiles, and from their record `jump` on of
 * the tiles after them. */
typedef struct reader {
    const uint8_t *p, *after;
    int jump, left, turns;
} reader;

/* For a walk over the records [begin, end) of a group. */
ALWAYS_INLINE reader open_reader(const span *s, const uint8_t *tiles, int i_group, int cols, int begin,
                                 int end, size_t record_bytes)
{
    const size_t group_bytes = (size_t)cols * s->tile_bytes;
    const int past = i_group + s->groups_ahead - s->n_groups; /* the end of the span, in groups */
    return (reader){.p = tiles + (size_t)(begin + s->ahead) * record_bytes,
                    .after = past < 0 ? tiles + (size_t)s->groups_ahead * group_bytes
                                      : s->after + (size_t)past * group_bytes,
                    .jump = end - begin > s->ahead ? end - s->ahead : begin,
                    .left = s->turn,
                    .turns = s->turns};
}

/* At the beginning of record i. */
ALWAYS_INLINE void enter_record(reader *a, int i)
{
    if (i == a->jump) a->p = a->after;
}

/* Addresses past the last tile are harmless. */
ALWAYS_INLINE void read_ahead(reader *a, const span *s, int bytes, int cols)
{
    const uint8_t *const p = a->p;
    a->p += bytes;
    if (a->left-- > 0) return;
    a->left = a->turns - 1;
    UNROLL (c, cols)
        UNROLL (i, (bytes + LINE_BYTES - 1) / LINE_BYTES)
            _mm_prefetch((const char *)p + (size_t)c * s->tile_bytes + i * LINE_BYTES, _MM_HINT_T0);
}

/* ---- float formats ---- */

/* Step i of a tile: 16 weights, or 16 pairs of bf16 weights. */
ALWAYS_INLINE lanes load_step(lf_dtype dtype, const uint8_t *tile, size_t i)
{
    if (dtype == LF_DTYPE_F16) return lanes_load_f16(tile + i * LF_TILE_OUT * 2);
    return lanes_load(tile + i * LF_TILE_OUT * 4);
}

ALWAYS_INLINE void float_group(const span *s, lf_dtype dtype, int i_group, int rows, int cols)
{
    const int inputs = packed_record_inputs(dtype), begin = s->begin / inputs,
              end = (s->end + inputs - 1) / inputs;
    const uint8_t *const tiles = s->w + (size_t)(i_group * cols) * s->tile_bytes;
    reader ahead = open_reader(s, tiles, i_group, cols, begin, end, packed_record_bytes(dtype));
    patch_acc acc;
    load_acc(acc, s, i_group, rows, cols);
    for (int i = begin; i < end; i++) {
        lanes w[COLS_MAX];
        enter_record(&ahead, i);
        read_ahead(&ahead, s, (int)packed_record_bytes(dtype), cols);
        UNROLL (c, cols) w[c] = load_step(dtype, tiles + (size_t)c * s->tile_bytes, (size_t)i);
        UNROLL (r, rows) {
            const lanes x = broadcast_word(s->x + s->x_at + (size_t)r * s->x_stride + (size_t)i * 4);
            UNROLL (c, cols)
                acc[r][c] = dtype == LF_DTYPE_BF16 ? lanes_dot_bf16(w[c], x, acc[r][c])
                                                   : lanes_fma(w[c], x, acc[r][c]);
        }
    }
    store_acc(s, acc, i_group, rows, cols);
}

/* ---- quantised formats: exact integer products of blocks, then their scales ---- */

/* Group v + 4 half (v: 0..3) of four-bit values. */
ALWAYS_INLINE byte_lanes load_nibbles(const packed_nibbles q, int v, int half)
{
    const byte_lanes pair = bytes_load(q[v][0]);
    return bytes_and(half == 0 ? pair : bytes_right(pair, 4), 0x0f);
}

/* The bits above them: those of group v at bit 0 after a shift, those of group v + 4 at bit 4. */
ALWAYS_INLINE byte_lanes place_upper(byte_lanes shifted, int half, uint8_t mask)
{
    return bytes_and(half == 0 ? bytes_left(shifted, 4) : shifted, mask);
}

/* The stored values of group v + 4 half of block b of a record. */
ALWAYS_INLINE byte_lanes load_group(lf_dtype dtype, const void *record, int b, int v, int half)
{
    switch (dtype) {
    case LF_DTYPE_Q8_0: return bytes_load(((const packed_q8_0 *)record)->q[b][v + 4 * half][0]);
    case LF_DTYPE_Q4_0: return load_nibbles(((const packed_q4_0 *)record)->q[b], v, half);
    case LF_DTYPE_Q4_K: return load_nibbles(((const packed_q4_k *)record)->q[b], v, half);
    case LF_DTYPE_Q5_K: {
        const packed_q5_k *q5 = record;
        const byte_lanes shifted = bytes_right_by(bytes_load(q5->h[b][0]), v);
        return bytes_or(load_nibbles(q5->q[b], v, half), place_upper(shifted, half, 0x10));
    }
    default: {
        const packed_q6_k *q6 = record;
        const byte_lanes shifted = bytes_right_by(bytes_load(q6->qh[b][v % 2][0]), v / 2 * 2);
        return bytes_or(load_nibbles(q6->ql[b], v, half), place_upper(shifted, half, 0x30));
    }
    }
}

/* The scale of part `part` of block b of a record. */
ALWAYS_INLINE lanes load_scale(lf_dtype dtype, const void *record, int b, int part)
{
    switch (dtype) {
    case LF_DTYPE_Q8_0: return lanes_load_f16(((const packed_q8_0 *)record)->d[b]);
    case LF_DTYPE_Q4_0: return lanes_load_f16(((const packed_q4_0 *)record)->d[b]);
    case LF_DTYPE_Q4_K: {
        const packed_q4_k *q4 = record;
        return lanes_mul(lanes_load_f16(q4->d), lanes_load_u8(q4->sc[b]));
    }
    case LF_DTYPE_Q5_K: {
        const packed_q5_k *q5 = record;
        return lanes_mul(lanes_load_f16(q5->d), lanes_load_u8(q5->sc[b]));
    }
    default: {
        const packed_q6_k *q6 = record;
        return lanes_mul(lanes_load_f16(q6->d), lanes_load_i8(q6->sc[2 * b + part]));
    }
    }
}

/* The minimum of block b, of q4_k and q5_k. */
ALWAYS_INLINE lanes load_minimum(lf_dtype dtype, const void *record, int b)
{
    const packed_q4_k *q4 = record;
    const packed_q5_k *q5 = record;
    return dtype == LF_DTYPE_Q4_K ? lanes_mul(lanes_load_f16(q4->dmin), lanes_load_u8(q4->m[b]))
                                  : lanes_mul(lanes_load_f16(q5->dmin), lanes_load_u8(q5->m[b]));
}

/* The first row of a patch: the arrays of act.h, from the block at hand on.
 *
 * The addresses of six rows are one that moves and three distances that stay, of which the processor adds up to four times one. Left
 * to itself the compiler makes a moving pointer for every row and array, and runs out of registers for them: so to it the distances
 * change with every block. */
typedef struct quant_rows {
    const uint8_t *q, *d, *ds, *start, *sum;
    size_t stride, stride_3, stride_5;
} quant_rows;

ALWAYS_INLINE quant_rows open_rows(const span *s, size_t i_block)
{
    const lf_act_q8 *const of = &s->quant;
    return (quant_rows){.q = (const uint8_t *)(of->q + PACKED_BLOCK * i_block) + s->x_at,
                        .d = (const uint8_t *)(of->d + i_block) + s->x_at,
                        .ds = (const uint8_t *)(of->ds + i_block) + s->x_at,
                        .start = (const uint8_t *)(of->start + i_block) + s->x_at,
                        .sum = (const uint8_t *)(of->sum + 2 * i_block) + s->x_at,
                        .stride = s->x_stride,
                        .stride_3 = 3 * s->x_stride,
                        .stride_5 = 5 * s->x_stride};
}

ALWAYS_INLINE void next_block(quant_rows *x)
{
    x->q += PACKED_BLOCK;
    x->d += sizeof(float);
    x->ds += sizeof(float);
    x->start += sizeof(int32_t);
    x->sum += 2 * sizeof(int32_t);
    x->stride = opaque(x->stride);
    x->stride_3 = opaque(x->stride_3);
    x->stride_5 = opaque(x->stride_5);
}

/* Word i of row r, counted from where `array` is at hand. */
ALWAYS_INLINE const void *word_at(const uint8_t *array, const quant_rows *x, int r, int i)
{
    const size_t row_at = r == 3 ? x->stride_3 : r == 5 ? x->stride_5 : (size_t)r * x->stride;
    return array + row_at + 4 * i;
}

/* What an exact product of row r starts from, to undo the bias of the stored values. */
ALWAYS_INLINE int_lanes start_dot(lf_dtype dtype, const quant_rows *x, int r, int part)
{
    const int32_t *const start = word_at(x->start, x, r, 0), *const sum = word_at(x->sum, x, r, part);
    switch (dtype) {
    case LF_DTYPE_Q8_0: return ints_start_biased(start);
    case LF_DTYPE_Q4_0: return ints_set(*start / (LF_ACT_Q8_BIAS / Q4_0_BIAS));
    case LF_DTYPE_Q6_K: return ints_set(-Q6_K_BIAS * *sum);
    default: return ints_set(0);
    }
}

typedef int_lanes patch_dot[ROWS_MAX][COLS_MAX];

/* dot += the products of the groups v and v + 4 of a block, or of one of the two; the sums are exact in any order. */
ALWAYS_INLINE void add_groups(patch_dot dot, lf_dtype dtype, const quant_rows *x,
                              const uint8_t *const records[COLS_MAX], int b, int v, int half, int rows,
                              int cols)
{
    byte_lanes w[COLS_MAX];
    UNROLL (c, cols) w[c] = load_group(dtype, records[c], b, v, half);
    UNROLL (r, rows) {
        int32_t word;
        memcpy(&word, word_at(x->q, x, r, v + 4 * half), sizeof word);
        const byte_lanes q = bytes_set(word);
        UNROLL (c, cols)
            dot[r][c] = dtype == LF_DTYPE_Q8_0 ? ints_add_biased(dot[r][c], w[c], q)
                                               : ints_add_u7(dot[r][c], w[c], q);
    }
}

/* One block, the b-th of the record. A part of it has one scale: all of it, or
 * in q6_k one of its halves. */
ALWAYS_INLINE void quant_block(patch_acc acc, lf_dtype dtype, const quant_rows *x,
                               const uint8_t *const records[COLS_MAX], int b, int rows, int cols)
{
    const int parts = dtype == LF_DTYPE_Q6_K ? 2 : 1, halves = 2 / parts;
    UNROLL (part, parts) {
        patch_dot dot;
        UNROLL (r, rows) {
            const int_lanes start = start_dot(dtype, x, r, part);
            UNROLL (c, cols) dot[r][c] = start;
        }
        UNROLL (v, PACKED_GROUPS / 2)
            UNROLL (half, halves) add_groups(dot, dtype, x, records, b, v, part + half, rows, cols);
        UNROLL (c, cols) {
            const lanes scale = load_scale(dtype, records[c], b, part);
            UNROLL (r, rows) {
                const lanes d = broadcast_word(word_at(x->d, x, r, 0));
                acc[r][c] = lanes_fma(ints_to_lanes(dot[r][c]), lanes_mul(scale, d), acc[r][c]);
            }
        }
    }
    if (dtype != LF_DTYPE_Q4_K && dtype != LF_DTYPE_Q5_K) return;
    UNROLL (c, cols) {
        const lanes minimum = load_minimum(dtype, records[c], b);
        UNROLL (r, rows)
            acc[r][c] = lanes_fma_negated(minimum, broadcast_word(word_at(x->ds, x, r, 0)), acc[r][c]);
    }
}

ALWAYS_INLINE void quant_group(const span *s, lf_dtype dtype, int i_group, int rows, int cols)
{
    const int inputs = packed_record_inputs(dtype), blocks = inputs / PACKED_BLOCK;
    const int begin = s->begin / inputs, end = (s->end + inputs - 1) / inputs;
    quant_rows x = open_rows(s, (size_t)(begin * blocks));
    const uint8_t *const tiles = s->w + (size_t)(i_group * cols) * s->tile_bytes;
    reader ahead = open_reader(s, tiles, i_group, cols, begin, end, packed_record_bytes(dtype));
    patch_acc acc;
    load_acc(acc, s, i_group, rows, cols);
    for (int i = begin; i < end; i++) {
        const uint8_t *records[COLS_MAX];
        enter_record(&ahead, i);
        UNROLL (c, cols)
            records[c] = tiles + (size_t)c * s->tile_bytes + (size_t)i * packed_record_bytes(dtype);
        for (int b = 0; b < blocks; b++) {
            read_ahead(&ahead, s, (int)packed_record_bytes(dtype) / blocks, cols);
            quant_block(acc, dtype, &x, records, b, rows, cols);
            next_block(&x);
        }
    }
    store_acc(s, acc, i_group, rows, cols);
}

/* ---- the product as patches ---- */

/* The largest patch of a dtype, and how many tiles one has that takes all of few rows: what bounds those is how fast weights come.
 * Long tiles are those of large models, whose weights come from memory, and memory likes few streams. */
typedef struct patch_shape {
    int rows, cols, rows_of_few, cols_of_few, cols_of_long;
} patch_shape;

typedef void patch_fn(const span *s, int rows, int cols);

static bool are_short(size_t tile_bytes, int n_tiles)
{
    return (size_t)n_tiles * tile_bytes <= NEAR_BYTES;
}

static int cols_of_patch(const lf_packed *w, int n_tiles, int n_rows, patch_shape shape)
{
    const bool few = n_rows <= shape.rows_of_few;
    const int cols = !few                                          ? shape.cols
                     : are_short(w->tile_bytes, shape.cols_of_few) ? shape.cols_of_few
                                                                   : shape.cols_of_long;
    return n_tiles >= cols ? cols : 1;
}

ALWAYS_INLINE void patch(const span *of, lf_dtype dtype, int rows, int cols)
{
    const span s = *of; /* the compiler need not fear that stores to y change it */
    for (int i = 0; i < s.n_groups; i++) {
        if (dtype <= LF_DTYPE_BF16)
            float_group(&s, dtype, i, rows, cols);
        else
            quant_group(&s, dtype, i, rows, cols);
    }
}

/* The code for the patches of `rows` rows that cols_of_patch may ask for. */
ALWAYS_INLINE void patch_of_rows(const span *s, lf_dtype dtype, int rows, int cols, patch_shape shape)
{
    if (rows > shape.rows) return;
    if (shape.cols > 1 && cols == shape.cols)
        patch(s, dtype, rows, shape.cols);
    else if (rows <= shape.rows_of_few && shape.cols_of_few > 1 && cols == shape.cols_of_few)
        patch(s, dtype, rows, shape.cols_of_few);
    else
        patch(s, dtype, rows, 1);
}

ALWAYS_INLINE void patch_of_shape(const span *s, lf_dtype dtype, int rows, int cols, patch_shape shape)
{
    switch (rows) {
    case 1: patch_of_rows(s, dtype, 1, cols, shape); break;
    case 2: patch_of_rows(s, dtype, 2, cols, shape); break;
    case 3: patch_of_rows(s, dtype, 3, cols, shape); break;
    case 4: patch_of_rows(s, dtype, 4, cols, shape); break;
    case 5: patch_of_rows(s, dtype, 5, cols, shape); break;
    default: patch_of_rows(s, dtype, ROWS_MAX, cols, shape); break;
    }
}

static int div_up(int a, int b)
{
    return (a + b - 1) / b;
}

/* The inputs of a span: all of them when one patch has all rows and no weight is used twice; otherwise equal parts. Two patches pass
 * so quickly that the second-level cache could not give weights to each: where a span and the next can stay in the first, they do.
 * Parts are equal because a span fetches as much of the next as it has itself. */
static int inputs_of_span(const lf_packed *w, int n_patches, patch_shape shape)
{
    if (n_patches == 1) return w->n_in;
    const int chunk_records = PACKED_CHUNK / packed_record_inputs(w->dtype);
    const int chunk_bytes = (int)packed_record_bytes(w->dtype) * chunk_records * shape.cols;
    const int n_chunks = div_up(w->n_in, PACKED_CHUNK), near = NEAR_BYTES / chunk_bytes,
              most = chunk_bytes < SPAN_BYTES ? SPAN_BYTES / chunk_bytes : 1;
    if (n_patches == 2 && near > 0 && n_chunks % near == 0) return near * PACKED_CHUNK;
    return div_up(n_chunks, div_up(n_chunks, most)) * PACKED_CHUNK;
}

/* How many groups of tiles a patch passes over at once: all when one patch has all rows; otherwise as many as stay in the first-level
 * cache for the others. */
static int groups_of_span(const lf_packed *w, int n_tiles, int cols, int n_patches)
{
    const int n = n_tiles / cols, group_bytes = cols * (int)w->tile_bytes;
    const int most = group_bytes < NEAR_BYTES ? NEAR_BYTES / group_bytes : 1;
    return n_patches == 1 || n < most ? n : most;
}

/* How many records ahead of their use weights are fetched, so that memory works while the processor computes. Not past the end of
 * the tiles, beyond which another lies that is in use already; a jump to the next ones comes before that. With several patches each
 * fetches its share of the next span's. */
static int records_ahead(const lf_packed *w, int n_patches, int cols)
{
    if (n_patches > 1 || (cols > 1 && are_short(w->tile_bytes, cols))) return w->n_in;
    return AHEAD_BYTES / cols / (int)packed_record_bytes(w->dtype);
}

/* The weights of the first tile that follow a span, `after_tiles` if that is the last of its tiles. */
static const uint8_t *after_span(const span *s, const lf_packed *w, const uint8_t *after_tiles)
{
    if (s->end == s->n_in) return after_tiles;
    return s->w + (size_t)(s->end / packed_record_inputs(w->dtype)) * packed_record_bytes(w->dtype);
}

/* All rows over a span. */
static void span_rows(span *s, float *y, int n_rows, int n_patches, int cols, patch_fn *patch_rows)
{
    for (int i = 0, rows, first = 0; i < n_patches; i++, first += rows) {
        rows = div_up(n_rows - first, n_patches - i); /* about equal */
        s->turn = i;
        s->x_at = (size_t)first * s->x_stride;
        s->y = y + (size_t)first * s->y_stride;
        patch_rows(s, rows, cols);
    }
}

static void matmul_patches(float *y, size_t y_stride, const lf_packed *w, int tile_begin, int tile_end,
                           const uint8_t *x, size_t x_stride, int n_rows, const uint8_t *next,
                           patch_fn *patch_rows, patch_shape shape)
{
    const int n_patches = div_up(n_rows, shape.rows);
    const int inputs = inputs_of_span(w, n_patches, shape);
    span s = {.tile_bytes = w->tile_bytes,
              .x = x,
              .x_stride = x_stride,
              .quant = w->dtype > LF_DTYPE_BF16 ? lf_act_q8_at(x, w->n_in) : (lf_act_q8){0},
              .y_stride = y_stride,
              .n_in = w->n_in,
              .turns = n_patches};
    for (int t = tile_begin; t < tile_end;) {
        const int cols = cols_of_patch(w, tile_end - t, n_rows, shape);
        s.w = w->data + (size_t)t * w->tile_bytes;
        s.n_groups = inputs < w->n_in ? 1 : groups_of_span(w, tile_end - t, cols, n_patches);
        s.ahead = records_ahead(w, n_patches, cols);
        s.groups_ahead = n_patches == 1 ? 1 : s.n_groups;
        float *const tile_y = y + (size_t)t * LF_TILE_OUT;
        t += s.n_groups * cols;
        for (s.begin = 0; s.begin < w->n_in; s.begin = s.end) {
            s.end = w->n_in - s.begin < inputs ? w->n_in : s.begin + inputs;
            s.after = after_span(&s, w, t < tile_end || !next ? w->data + (size_t)t * w->tile_bytes : next);
            span_rows(&s, tile_y, n_rows, n_patches, cols, patch_rows);
        }
    }
}

/* Defines the table entry matmul_<name> for a dtype and a patch_shape. bf16 runs with subnormals flushed where its product is not one instruction. */
#define DEFINE_MATMUL(name, dtype, rows, cols, rows_of_few, cols_of_few, cols_of_long)                       \
    __attribute__((noinline)) static void patch_##name(const span *s, int n_rows, int n_cols)                \
    {                                                                                                        \
        patch_of_shape(s, dtype, n_rows, n_cols,                                                             \
                       (patch_shape){rows, cols, rows_of_few, cols_of_few, cols_of_long});                   \
    }                                                                                                        \
    static void matmul_##name(float *y, size_t y_stride, const lf_packed *w, int tile_begin, int tile_end,   \
                              const void *x, size_t x_stride, int n_rows, const void *next)                  \
    {                                                                                                        \
        const bool flushed = dtype == LF_DTYPE_BF16 && LANES_BF16_NEEDS_FLUSH;                               \
        const unsigned saved = flushed ? flush_subnormals() : 0;                                             \
        matmul_patches(y, y_stride, w, tile_begin, tile_end, x, x_stride, n_rows, next, patch_##name,        \
                       (patch_shape){rows, cols, rows_of_few, cols_of_few, cols_of_long});                   \
        if (flushed) _mm_setcsr(saved);                                                                      \
    }

#endif
