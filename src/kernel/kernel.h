/* The kernel table: every loop over numbers that inference runs, behind function pointers.
 *
 * scalar is the specification. avx2 and avx512 override entries, chosen once by lf_kernels_init; there is no
 * dispatch inside loops. Every entry gives the same bits at every level: floats are combined by
 * single-rounded multiply-add (fmaf) in one stated order, so a vector lane and the scalar loop do the same
 * operations. bf16 products follow vdpbf16ps: for each pair the odd element first, acc = fma(a[2i+1],
 * b[2i+1], acc), then the even one, with subnormal inputs and results of each step taken as zero of the same
 * sign.
 *
 * Reductions that have no natural order (norms, softmax sums) are spread over 16 lanes by index modulo 16 and
 * folded 8, 4, 2, 1: lane i += lane i + 8, then i + 4, i + 2, i + 1. */
#ifndef LF_KERNEL_KERNEL_H
#define LF_KERNEL_KERNEL_H

#include "kernel/act.h"
#include "kernel/kv_tile.h"
#include "kernel/packed.h"

/* Tiles of one attention block: the softmax is evaluated for 256 positions at a time, counted from the start
 * of the view, and blocks are merged in ascending order. Part of the numbers' definition, not a tuning knob.
 */
enum { LF_ATTN_TILES = 16, LF_ATTN_POS = LF_ATTN_TILES * LF_TILE_POS };

/* y (n_rows, y_stride)[:, 16 tile_begin .. 16 tile_end) = x (n_rows, n_in) times those outputs of w.
 * y_stride: floats, at least 16 w->n_tiles (outputs past n_out are written too, with no meaning).
 * x: rows in the form lf_act_for(w->dtype), x_stride bytes apart (a multiple of 64). n_rows >= 1.
 * next: a hint: where the weights are that the caller will probably multiply with after these, or NULL. Towards the end they are
 * fetched into the cache; nothing else is done with the address.
 *
 * Per output and row, the accumulator starts at 0 and takes in ascending order
 *   f32, f16    each input i:        acc = fma(x[i], w[i], acc)
 *   bf16        each pair of inputs as above
 *   q8_0, q4_0  each block of 32:    acc = fma((float)dot, dw * dx, acc)          dot: exact integer of the block
 *   q4_k, q5_k  each block of 32:    acc = fma((float)dot, (d * sc) * dx, acc), then acc = fma(-(dmin * m), ds, acc)
 *   q6_k        each 16 inputs:      acc = fma((float)dot, (d * sc) * dx, acc)    dot: of the values - 32 */
typedef void lf_matmul_fn(float *y, size_t y_stride, const lf_packed *w, int tile_begin, int tile_end,
                          const void *x, size_t x_stride, int n_rows, const void *next);

/* Where an attend call leaves how much weight each tile got, for who wants to know. Only what a query sees is written: its tiles
 * up to the last it sees, its blocks likewise; both counted from the first tile of the call. The share of a tile in the
 * query's attention is sum * lf_exp(max - m) / l, with the final m and l. */
typedef struct lf_attend_mass {
    float *sum;        /* (n_q, sum_stride) the sum of the tile's p, in 16 lanes as above */
    size_t sum_stride; /* at least n_tiles */
    float *max;        /* (n_q, max_stride) m_b of the block */
    size_t max_stride; /* at least the number of blocks */
} lf_attend_mass;

/* Attends n_q >= 1 query vectors to n_tiles tiles of the same KV head, in blocks of LF_ATTN_TILES, and merges
 * each block's result into the running state. A call over many blocks gives the bits of a call per block and is
 * faster: it reads the next block from memory while it computes on this one.
 *   o (n_q, o_stride)  running sum of p v, not yet divided; o_stride >= layout->dim_padded; starts as 0
 *   m, l (n_q)         running maximum (starts as -INFINITY) and sum of p (starts as 0)
 *   q (n_q)            queries as rows of lf_act_for(layout->dtype), q_stride bytes apart
 *   n_visible (n_q)    how many leading positions of the tiles each query sees, 0 .. 16 n_tiles; a block of
 *                      which it sees none leaves its state untouched
 *   mass               NULL, or where the mass goes
 *   scratch            lf_attend_scratch_bytes(n_q) bytes, 64-byte aligned
 *
 * For a query and a block, over the positions j of the block that it sees:
 *   s_j    = scale * (q . k_j)     the product summed over the head's dimensions in ascending order (bf16: pairs as
 *                                  above; q8_0: per block of 32, acc = fma((float)dot, dk * dq, acc))
 *   m_b    = max_j s_j
 *   p_j    = lf_exp(s_j - m_b)     rounded to bf16 when the cache is bf16
 *   l_b    = sum of p_j            in 16 lanes as above
 *   o_b[d] = sum of p_j v_j[d]     j ascending, by fma (bf16: pairs of positions as above, an invisible partner counts
 *                                  as an exact zero; q8_0: fma(p, d * (float)q, acc))
 * and the merge, with m' = max(m, m_b), a = lf_exp(m - m'), b = lf_exp(m_b - m'):
 *   l = fma(l, a, l_b * b),  o[d] = fma(o[d], a, o_b[d] * b),  m = m'. */
typedef void lf_attend_fn(float *o, size_t o_stride, float *m, float *l, const lf_kv_layout *layout,
                          const void *const *tiles, int n_tiles, const void *q, size_t q_stride,
                          const int *n_visible, int n_q, float scale, const lf_attend_mass *mass,
                          void *scratch);

size_t lf_attend_scratch_bytes(int n_q);

typedef struct lf_kernels {
    const char *name; /* "scalar", "avx2", "avx512" or "avx512+bf16" */

    lf_matmul_fn *matmul[LF_DTYPE_COUNT];
    lf_attend_fn *attend[LF_DTYPE_COUNT]; /* by KV dtype; NULL for dtypes a cache cannot have */

    /* Elements [first, first + count) of a row of n in the given form, from x (count); the row has lf_act_row_bytes(act, n)
     * bytes at dst. first is a multiple of 32; count is one, too, or the part ends the row, whose padding then becomes zero.
     * Parts of a row may be written by several threads. */
    void (*act_part[LF_ACT_COUNT])(void *dst, int n, const float *x, int first, int count);

    /* y (n) = (x / rms(x)) w: ss = sum of fma(x, x, lane) in 16 lanes; r = 1 / sqrt(ss / n + eps); y = (x r)
     * w. y may be x. */
    void (*rms_norm)(float *y, const float *x, const float *w, int n, float eps);

    /* y (n) = gate / (1 + lf_exp(-gate)) * up, in this order; y may be gate. */
    void (*silu_mul)(float *y, const float *gate, const float *up, int n);

    /* Merges the attention state (o_part (n), m_part, l_part) of later positions into (o (n), m, l), as attend merges a block.
     * A part that saw nothing (m_part = -INFINITY) changes nothing. */
    void (*attend_merge)(float *o, float *m, float *l, const float *o_part, float m_part, float l_part,
                         int n);

    /* y (n) = (o (n) + 0) / l: what a finished attention state gives. Adding 0 takes the sign of a zero away, as merging does, so
     * that a state that was never merged gives the same bits. */
    void (*attend_finish)(float *y, const float *o, float l, int n);

    /* The highest of x (n), NaN aside; -INFINITY when there is nothing else. */
    float (*highest)(const float *x, int n);

    /* y (n) += x (n). */
    void (*add)(float *y, const float *x, int n);

    /* Rotates n_heads heads of x (n_heads, head_dim) in place: pairs (i, i + head_dim / 2), angles given as
     * cos (head_dim / 2) and sin (head_dim / 2): (a, b) -> (a cos - b sin, b cos + a sin), each as
     * fma(a, cos, -(b sin)) and fma(a, sin, b cos). */
    void (*rope)(float *x, const float *cos, const float *sin, int n_heads, int head_dim);
} lf_kernels;

/* Fills the table for the given cpu flags (lf_cpu_flags() and a user's mask). */
void lf_kernels_init(lf_kernels *k, unsigned cpu_flags);

/* A whole row. */
static inline void lf_act_row(const lf_kernels *k, lf_act act, void *dst, const float *x, int n)
{
    k->act_part[act](dst, n, x, 0, n);
}

/* exp(x) by one stated sequence of operations, the same in every kernel: relative error below 2e-7 for
 * -87.3 <= x <= 88.3, exactly 1 at 0, exactly 0 below -87.33 (so exp(-inf) = 0), NaN for NaN. */
float lf_exp(float x);

#endif
