#include "decode/drafting.h"

#include "base/clock.h"
#include "decode/guesses.h"

#include <assert.h>
#include <stdlib.h>

lf_status lf_drafter_init(lf_drafter *d, lf_forward *forward, int n_vocab, int rows_max, lf_cost *cost,
                          lf_error *err)
{
    *d = (lf_drafter){.forward = forward, .cost = cost, .rows_max = rows_max};
    d->rows = calloc((size_t)rows_max, sizeof *d->rows);
    if (!d->rows) return lf_fail_memory(err, "a drafter", (size_t)rows_max * sizeof *d->rows);
    const lf_status status = lf_picker_create(&d->picker, n_vocab, err);
    if (status == LF_OK)
        lf_picker_use_highest(d->picker, lf_forward_kernels(forward)->highest);
    else
        lf_drafter_free(d);
    return status;
}

void lf_drafter_free(lf_drafter *d)
{
    lf_picker_free(d->picker);
    free(d->rows);
    *d = (lf_drafter){0};
}

static bool is_done(const lf_draft_lane *lane)
{
    return lane->seq->n_candidates >= lane->n_wanted;
}

/* Picks of the next pass: behind the last token or final candidate, and behind the guesses. */
static int n_picks(const lf_draft_lane *lane)
{
    return lane->seq->drafting == LF_DRAFTING_JACOBI ? lane->n_wanted - lane->seq->n_candidates : 1;
}

/* Rows for all that is not read yet, and for the guesses. */
static void add_rows(lf_drafter *d, const lf_draft_lane *lane)
{
    const lf_seq *seq = lane->seq;
    const int first_pick = (int)seq->tokens.len - 1 + seq->n_candidates, end = first_pick + n_picks(lane);
    assert(d->n_rows + end - lane->next <= d->rows_max);
    for (int pos = lane->next; pos < end; pos++)
        d->rows[d->n_rows++] = (lf_row){.seq = lane->kv,
                                        .view = lane->view,
                                        .token = seq->tokens.data[pos],
                                        .pos = pos,
                                        .wants_logits = pos >= first_pick};
}

/* Takes in the picks of a lane, whose logits begin at i_logits; returns how many. A pick is final while all guesses before it were
 * right. Where a wrong guess left nothing to pick, it stays the guess. */
static int take_picks(const lf_drafter *d, lf_draft_lane *lane, int i_logits)
{
    lf_seq *seq = lane->seq;
    int32_t *text = seq->tokens.data;
    const int len = (int)seq->tokens.len, begin = seq->n_candidates, n = n_picks(lane);
    bool is_final = true;
    for (int i = begin; i < begin + n; i++) {
        const float *logits = lf_forward_logits(d->forward, i_logits + i - begin);
        const int32_t id = lf_pick(d->picker, logits, text, len + i, &seq->pick);
        if (id < 0 && is_final) {
            lane->n_wanted = i;
            break;
        }
        if (id < 0) continue;
        if (is_final) seq->candidates[seq->n_candidates++] = id;
        is_final = is_final && text[len + i] == id;
        text[len + i] = id;
    }
    lane->next = len + (seq->n_candidates > 1 ? seq->n_candidates - 1 : 0);
    seq->draft_passes++;
    return n;
}

/* What the last pass's attention took by the cost's tables. */
static double expected_attention(const lf_drafter *d)
{
    double seconds = 0.0;
    for (int begin = 0, end; begin < d->n_rows; begin = end) {
        const lf_row *row = &d->rows[begin];
        for (end = begin + 1; end < d->n_rows && d->rows[end].seq == row->seq; end++) {
        }
        const int hidden = row->view ? row->view->recent_tile - row->view->n_selected : 0;
        seconds += lf_cost_attend(d->cost, end - begin) * (d->rows[end - 1].pos + 1 - hidden * LF_TILE_POS);
    }
    return seconds;
}

/* The next candidates of every lane that wants more; false when none does. */
static bool draft_pass(lf_drafter *d, lf_draft_lane *lanes, int n_lanes)
{
    d->n_rows = 0;
    for (int i = 0; i < n_lanes; i++)
        if (!is_done(&lanes[i])) add_rows(d, &lanes[i]);
    if (d->n_rows == 0) return false;
    lf_forward_run(d->forward, d->rows, d->n_rows);
    for (int i = 0, i_logits = 0; i < n_lanes; i++)
        if (!is_done(&lanes[i])) i_logits += take_picks(d, &lanes[i], i_logits);
    return true;
}

void lf_draft(lf_drafter *d, lf_draft_lane *lanes, int n_lanes, int64_t start_ns)
{
    const bool measured = d->cost && lf_cost_is_known(d->cost);
    double pass = 0.0, attend = 0.0;
    for (int i = 0; i < n_lanes; i++) {
        lf_seq *seq = lanes[i].seq;
        seq->n_candidates = 0;
        lanes[i].n_wanted = seq->n_wanted;
        if (seq->drafting == LF_DRAFTING_JACOBI) lf_guesses_fill(seq->guesses, seq, seq->n_wanted);
    }
    while (draft_pass(d, lanes, n_lanes)) {
        if (!measured) continue;
        pass += lf_cost_pass(d->cost, d->n_rows);
        attend += expected_attention(d);
    }
    if (measured)
        lf_cost_correct(&d->cost->draft, pass, &d->cost->draft_attend, attend,
                        (double)(lf_clock_ns() - start_ns) * 1e-9);
}
