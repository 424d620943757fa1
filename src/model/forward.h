/* The forward pass over a ragged batch of rows.
 *
 * A row is one token at one position of one sequence. A pass takes any mix of rows: whole prompt chunks, single tokens,
 * a last token with its candidates. Every number of a row is a function of the weights, its token and position, and the
 * K/V it sees (the Row law): rows share the loads of weights and cache, never a sum. */
#ifndef LF_MODEL_FORWARD_H
#define LF_MODEL_FORWARD_H

#include "kernel/kernel.h"
#include "kv/kv.h"
#include "model/model.h"

typedef struct lf_row {
    lf_kv_seq *seq;      /* slots for `pos` are reserved */
    const lf_view *view; /* NULL: the row sees every position up to its own */
    int32_t token;       /* 0 <= token < n_vocab */
    int32_t pos;
    bool wants_logits;
    /* NULL, or where the pass adds how much attention the row gave to each tile of its sequence: (n_layers, n_kv_heads,
     * stride of lf_forward_enable_mass), summed over the heads of a group, 1 for each head in all. Rows of a run may share it.
     * Only for rows with the full view. */
    float *mass;
} lf_row;

typedef struct lf_forward lf_forward;

/* Buffers for passes of up to rows_max rows, of which logits_max want logits; nothing is allocated later. model, kernels
 * and threads are borrowed and must outlive it. */
lf_status lf_forward_create(lf_forward **out, const lf_model *model, const lf_kernels *kernels,
                            lf_threads *threads, const lf_kv_layout *layout, int rows_max, int logits_max,
                            lf_error *err);
void lf_forward_free(lf_forward *f); /* NULL is fine */

/* Lets rows ask for their attention mass, for sequences of up to n_ctx positions: the stride of lf_row.mass is the number of
 * tiles, n_ctx / 16 rounded up. Called again, for no longer ones, it does nothing. LF_ENOMEM. */
lf_status lf_forward_enable_mass(lf_forward *f, int n_ctx, lf_error *err);

/* The bytes lf_forward_create would allocate. */
size_t lf_forward_plan_bytes(const lf_config *config, const lf_kv_layout *layout, int n_threads, int rows_max,
                             int logits_max);

const lf_kernels *lf_forward_kernels(const lf_forward *f);

/* Runs one pass: writes the K/V of every row to its slot and computes logits for the rows that want them.
 * Rows of one sequence stand together in ascending position order, and within a sequence rows of one view stand together.
 * A row sees the rows of its sequence before it in the same pass. 1 <= n_rows <= rows_max. Cannot fail. */
void lf_forward_run(lf_forward *f, const lf_row *rows, int n_rows);

/* The logits (n_vocab) of the i-th row that wanted them in the last pass, valid until the next. */
const float *lf_forward_logits(const lf_forward *f, int i);

#endif
