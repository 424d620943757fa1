#include "decode/plan.h"

#include <assert.h>

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* A candidate whose pick could not be emitted any more is not worth a row. */
static void plan_candidates(lf_seq *seq, int share)
{
    const int left = seq->len_max - (int)seq->tokens.len - 1;
    seq->n_wanted = 0;
    seq->skip = left <= 0 ? LF_SKIP_LAST : share <= 0 ? LF_SKIP_ROWS : LF_SKIP_NOTHING;
    if (left > 0 && share > 0) seq->n_wanted = min_int(min_int(seq->draft_max, share), left);
}

void lf_plan_rows(lf_seq *const *seqs, int n_seqs, const lf_row_budget *budget)
{
    assert(budget->rows_max >= n_seqs && budget->logits_max >= n_seqs && budget->prefill_rows >= 1);
    int n_decoding = 0, n_prefill = 0;
    for (int i = 0; i < n_seqs; i++) {
        lf_seq *seq = seqs[i];
        seq->decodes = !seq->finished && lf_seq_n_pending(seq) == 1;
        seq->n_rows = seq->decodes;
        seq->n_wanted = seq->n_candidates = 0;
        n_decoding += seq->decodes;
    }
    const int room = budget->rows_max - n_decoding,
              prefill_max = n_decoding > 0 ? min_int(room, budget->prefill_rows) : room;
    int n_logits = budget->logits_max - n_seqs; /* left, when each sequence has its own */
    for (int i = 0; i < n_seqs; i++) {
        lf_seq *seq = seqs[i];
        if (seq->finished || seq->decodes) continue;
        seq->n_rows = min_int(lf_seq_n_pending(seq), prefill_max - n_prefill);
        if (seq->on_prompt && seq->n_rows > 0) {
            seq->n_rows = min_int(seq->n_rows, 1 + n_logits);
            n_logits -= seq->n_rows - 1;
        }
        n_prefill += seq->n_rows;
    }
    if (n_decoding == 0) return;
    const int share = min_int(room - n_prefill, n_logits) / n_decoding;
    for (int i = 0; i < n_seqs; i++)
        if (seqs[i]->decodes && seqs[i]->proposer) plan_candidates(seqs[i], share);
}
