/* Which rows a pass has. The rule, for sequences in the order they came:
 *
 *   1. Every sequence that decodes has the row of its last token.
 *   2. Sequences that read a prompt have up to prefill_rows rows together, first come, first served, while others decode; else
 *      the whole pass.
 *   3. Candidates share evenly what is left.
 *
 * So nobody starves: who decodes gets a token in every pass, and a pass that decodes is not made longer by more than prefill_rows
 * rows of prompts; the first who reads moves on in every pass, however many candidates others would like to have. */
#ifndef LF_DECODE_PLAN_H
#define LF_DECODE_PLAN_H

#include "decode/seq.h"

typedef struct lf_row_budget {
    int rows_max;     /* of a pass; at least one for each sequence */
    int logits_max;   /* rows of a pass that have logits; at least one for each sequence */
    int prefill_rows; /* of prompts in a pass that also decodes, at least 1 */
} lf_row_budget;

/* Sets decodes, n_rows, n_wanted and skip of each sequence. */
void lf_plan_rows(lf_seq *const *seqs, int n_seqs, const lf_row_budget *budget);

#endif
