/* Drafting: candidates of many sequences by passes of a forward, over whatever cache and view each brings. All sequences share
 * the passes, and candidates are picked with the noise that the target's picks will have, so they agree as often as they can.
 *
 *   single   a pass picks the next candidate of each sequence
 *   jacobi   a pass carries a guess for every candidate but the last and picks all of them anew. Those up to the first wrong
 *            guess are final, and one behind it, too; the picks behind that are the next guesses. So each pass settles at
 *            least one more candidate, and the g-th pass at the latest reaches the fixed point. By the Row law and the Pick
 *            law that is, bit for bit, what single steps give
 *
 *   text          t(n-1)   x0   x1   x2   x3         x: guesses behind the tokens, g = 4
 *   rows of the 1st pass    row      row  row  row       (x3 needs no row: nobody picks behind it)
 *   picks            y0   y1   y2   y3         y0 == x0, y1 != x1: y0 and y1 are final, y2 and y3 are guesses
 *   rows of the 2nd pass              row  row  row      of y1, y2, y3: K/V of t(n-1) and y0 are in place */
#ifndef LF_DECODE_DRAFTING_H
#define LF_DECODE_DRAFTING_H

#include "decode/cost.h"
#include "decode/seq.h"

/* What a sequence brings to the passes. */
typedef struct lf_draft_lane {
    lf_seq *seq;         /* n_wanted >= 1 candidates are asked for; with LF_DRAFTING_JACOBI it has guesses */
    lf_kv_seq *kv;       /* slots up to that of the last candidate but one are reserved */
    const lf_view *view; /* what its rows see */
    int next;            /* first position of the text (tokens, then candidates) whose K/V are not in kv */
    int n_wanted;        /* set by lf_draft: candidates still hoped for */
} lf_draft_lane;

typedef struct lf_drafter {
    lf_forward *forward;
    lf_cost *cost; /* once it is measured, lf_draft corrects its factors of draft passes; or NULL */
    lf_picker *picker;
    lf_row *rows; /* (rows_max) */
    int rows_max, n_rows;
} lf_drafter;

/* Passes of up to rows_max rows over a forward that is made for as many rows and logits; forward and cost are borrowed.
 * LF_ENOMEM. */
lf_status lf_drafter_init(lf_drafter *d, lf_forward *forward, int n_vocab, int rows_max, lf_cost *cost,
                          lf_error *err);
void lf_drafter_free(lf_drafter *d); /* a zeroed drafter is fine */

/* Drafts up to n_wanted candidates of each lane's sequence, fewer where there is nothing to pick, and moves each lane's `next` on
 * over all that is right. Unread tokens and candidates of all lanes together are rows_max at most. start_ns (lf_clock_ns) is when
 * the work began that each draft takes. */
void lf_draft(lf_drafter *d, lf_draft_lane *lanes, int n_lanes, int64_t start_ns);

#endif
