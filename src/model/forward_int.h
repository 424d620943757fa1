/* What forward.c (the pass) and attention.c (its attention phase) share. */
#ifndef LF_MODEL_FORWARD_INT_H
#define LF_MODEL_FORWARD_INT_H

#include "base/team_size.h"
#include "model/forward.h"

enum {
    /* Query vectors that one attention call handles: at least one row of a group. */
    LF_QUERIES_MAX = LF_GROUP_MAX,
    /* The attention state starts afresh every so many tiles of a view, and the states of these segments are merged in
     * order: so segments can be computed by different threads. Part of the numbers' definition, like LF_ATTN_TILES. */
    LF_SEGMENT_TILES = 256,
    LF_SEGMENT_POS = LF_SEGMENT_TILES * LF_TILE_POS,
    /* (row, segment) pairs of a pass whose attention is split by segments. */
    LF_PARTS_MAX = 256,
};

/* Activations of rows in the forms that the next products take: one buffer per form, filled only when needed. */
typedef struct lf_forms {
    uint8_t *rows[LF_ACT_COUNT]; /* (rows_max, stride) */
    size_t stride[LF_ACT_COUNT]; /* bytes */
} lf_forms;

/* The positions of a pass's rows, and by what they rotate queries and keys. */
typedef struct lf_angles {
    int32_t *pos;     /* (rows_max) */
    float *cos, *sin; /* (rows_max, head_dim / 2) */
} lf_angles;

/* Consecutive rows of one sequence and view. */
typedef struct lf_run {
    int begin, end;
} lf_run;

/* Running attention states of some queries. */
typedef struct lf_attend_state {
    float *o;     /* (n_q, dim_padded) */
    float *m, *l; /* (n_q) */
} lf_attend_state;

/* What one thread has to itself. */
typedef struct lf_forward_thread {
    float *row;    /* (max(dim, n_heads head_dim)) one row being converted */
    uint8_t *head; /* one head of K or V as a row of LF_ACT_BF16 */
    float *y;      /* (2, rows_max, take_outputs) what the products of a take give, before it goes on */
    /* attention */
    lf_attend_state all, segment; /* (LF_QUERIES_MAX) */
    uint8_t *q;                   /* (LF_QUERIES_MAX, q_stride): the queries of a unit, gathered */
    int *n_visible;               /* (LF_QUERIES_MAX) */
    void *scratch;
    lf_attend_mass mass; /* (LF_QUERIES_MAX); allocated by lf_forward_enable_mass */
} lf_forward_thread;

struct lf_forward {
    const lf_model *model;
    const lf_kernels *kernels;
    lf_threads *threads;
    lf_kv_layout layout;
    int rows_max, logits_max;
    int head_take;    /* outputs of one take of a product whose outputs are heads: whole heads and tiles */
    int take_outputs; /* of any take at most */
    size_t q_stride;  /* bytes of one query in activation form */
    size_t vocab_width;

    uint8_t *memory;     /* everything below lies in it */
    float *x;            /* (rows_max, dim) the residual stream */
    lf_angles angles[2]; /* of this pass and the last one, by turns */
    uint8_t *q_act;      /* (rows_max, n_heads, q_stride) */
    float *att;          /* (rows_max, n_heads head_dim), only when heads_fit_act is false */
    float *logits;       /* (logits_max, vocab_width) */
    lf_forms in,
        mid; /* inputs of the products at hand; of `down`, which others still make while some read `in` */
    lf_attend_state parts;      /* (LF_PARTS_MAX, n_heads) as (row, segment, head) */
    lf_forward_thread *scratch; /* (n_threads) */
    lf_team_size team_size;
    bool
        heads_fit_act; /* the heads of a group are whole blocks of an activation row: each unit converts its own */

    /* attention mass */
    void *mass_memory;
    int mass_tiles; /* stride of lf_row.mass; 0: not enabled */

    /* the pass at hand */
    const lf_angles *now, *last; /* last: NULL in the first pass */
    int n_last;                  /* rows of the last pass */
    const lf_row *rows;
    int n_rows, n_logits, n_runs;
    lf_run *runs;    /* (rows_max) */
    int *logit_rows; /* (logits_max) indices into rows */
    bool split;      /* attention goes by segments */
    bool has_mass;
};

/* Attention of all rows of the pass in a layer, from q_act and the cache to the form that attn_output takes; ends at a
 * barrier. */
void lf_forward_attend(const lf_forward *f, int i_thread, int i_layer);

/* Decides how the attention of a new pass is cut; before its threads start. */
void lf_forward_plan_attention(lf_forward *f);

/* Row r of a pass (n values) in the form that products with w take. */
void lf_forward_convert_row(const lf_forward *f, const lf_forms *forms, const lf_packed *w, int r,
                            const float *values);

#endif
