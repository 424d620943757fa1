/* Between attention.c, which divides the work, and the kernels that do it, one version for each
 * instruction set.
 *
 * Products read two operands in 32-bit cells: a float, or a pair of bf16 neighbours along the dimension
 * that is summed. In cells all products have one form, c (m, n) += a (m, k) b (k, n): a cell of a is
 * broadcast, n runs along the lanes. Of a tile of a head, (64 rows, dim_padded), three arrangements are in
 * use:
 *
 *   rows       as it lies in memory          cells (64, dim_padded / per_cell)      a in products over dims
 *   turned     the same cells transposed     cells (dim_padded / per_cell, 64)      b in products over dims
 *   summed     for sums over rows            cells (64 / per_cell, dim_padded)      b in products over rows
 *
 * For floats `summed` is `rows`. */
#ifndef LF_TRAIN_ATTENTION_INT_H
#define LF_TRAIN_ATTENTION_INT_H

#include "train/attention.h"

/* What a row sees of a tile of keys. */
typedef enum lf_sight { LF_SEES_NOTHING, LF_SEES_SOME, LF_SEES_ALL } lf_sight;

/* Everything that the kernels need; arrays by head start head_bytes apart. */
typedef struct lf_attention_job {
    int n, n_tiles;
    int n_heads, n_kv_heads, head_dim, dim_padded, rows_padded;
    size_t tile_bytes, head_bytes; /* of one tile of elements and of a whole head */
    const lf_train_rows *rows;
    const uint8_t *sight; /* (n_tiles of queries, n_tiles of keys) lf_sight */
    lf_dtype operand;

    const uint8_t *q, *k, *v;      /* heads as rows */
    uint8_t *k_turned, *v_turned;  /* (n_kv_heads) */
    uint8_t *k_summed, *v_summed;  /* (n_kv_heads) */
    uint8_t *q_summed, *do_summed; /* (n_heads) */
    uint8_t *d_out;                /* (n_heads) gradient of the result, as rows */
    void *out;                     /* (n, n_heads head_dim) operand */
    float *lse;                    /* (n_heads, rows_padded) */
    float *delta;                  /* (n_heads, rows_padded) d_out . out */
    const float *d_out_rows;       /* (n, n_heads head_dim) */
    float *dq, *dk, *dv;           /* see lf_attention_gradient; dq is one part */
} lf_attention_job;

typedef struct lf_attention_kernel {
    lf_dtype dtype; /* of heads */
    /* keys and values of a tile, turned and summed: what the forward takes, and in the backward the rest */
    void (*arrange_keys)(const lf_attention_job *job, int i_kv_head, int i_tile);
    void (*arrange_keys_backward)(const lf_attention_job *job, int i_kv_head, int i_tile);
    void (*arrange_queries_backward)(const lf_attention_job *job, int i_head, int i_tile);
    void (*forward)(const lf_attention_job *job, int i_head, int i_tile, void *scratch);
    /* key tiles [begin, end) of a KV head, with all its queries */
    void (*backward)(const lf_attention_job *job, int i_kv_head, int begin, int end, void *scratch);
    size_t scratch_bytes;
} lf_attention_kernel;

extern const lf_attention_kernel lf_attention_portable, lf_attention_avx2, lf_attention_avx512,
    lf_attention_avx512bf16;

#endif
