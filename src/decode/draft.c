/* Speculation by a smaller model (Leviathan et al., arXiv 2211.17192) with a bounded cache of its own: it sees the first tokens of a
 * text and its last ones, as in StreamingLLM (arXiv 2309.17453), so it costs the same at any length and never looks further than it
 * was trained to.
 *
 * K is stored rotated, and only the distance between two positions matters to RoPE. So tokens keep their absolute positions, and it
 * is the sinks, the first tile of the text, that move: when the window has left STEP positions behind, what came before is
 * forgotten, pages and all, and the sinks are read again right before the window. 16 rows; nothing else is computed twice, and no
 * distance grows. (Sinks that stayed at position 0 would drift out of what the model knows.)
 *
 *   positions   0      16                                       len        the text
 *               [sinks][ ........................................ ]
 *   in cache            forgotten        [sinks][ window ........ ][ candidates ]
 *                                        begin: a multiple of STEP; all rows see what is from here on
 *
 * A prompt is not read before its sequence drafts, and then only its sinks and its window. What the target emits beyond the draft
 * is read with the next draft pass. K/V of accepted candidates stay. */
#include "base/clock.h"
#include "decode/drafting.h"
#include "decode/guesses.h"
#include "decode/proposer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { SINKS = LF_TILE_POS, STEP = 4 * LF_TILE_POS, WINDOW_DEFAULT = 512 };

typedef struct state {
    lf_view view; /* all from `begin` on */
    int begin;    /* the sinks' position; 0: they are where they belong */
    int n_sinks;  /* read at begin */
    /* Tokens (n_ahead) whose K/V stand behind the committed ones: the last of the text when it drafted, and candidates. */
    int n_ahead;
    int32_t ahead[LF_DRAFT_MAX];
} state;

typedef struct draft {
    lf_proposer base;
    lf_draft_env env;
    int n_ctx;
    lf_drafter drafter;
    lf_draft_lane *lanes; /* (seqs_max) */
} draft;

/* A view needs an address of its selected tiles even if there are none. */
static const int32_t no_tiles[1];

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

int lf_draft_reach(int window)
{
    return SINKS + window + STEP - 1 + LF_DRAFT_MAX;
}

int lf_draft_pages(int window, int n_ctx)
{
    /* begin need not be that of a page */
    const int positions = min_int(lf_draft_reach(window) + LF_PAGE_POS - STEP, n_ctx);
    return (positions + LF_PAGE_POS - 1) / LF_PAGE_POS;
}

lf_status lf_draft_choose_window(int *window, int asked, const lf_config *config, int n_ctx, const char *path,
                                 lf_error *err)
{
    const int reach = config->sliding_window > 0 ? min_int(config->sliding_window, config->n_ctx_max)
                                                 : config->n_ctx_max;
    /* where the whole text is in reach, so is every window */
    const int most = n_ctx <= reach ? n_ctx : reach - lf_draft_reach(0);
    if (most < 1)
        return lf_fail(err, LF_EINVAL, "%s: found a context of %d positions, expected more than %d", path,
                       reach, lf_draft_reach(0));
    if (asked > most)
        return lf_fail(err, LF_ELIMIT, "draft window: found %d, expected at most %d, for the context of %s",
                       asked, most, path);
    *window = asked > 0 ? asked : min_int(most, WINDOW_DEFAULT);
    return LF_OK;
}

static void close_draft(lf_proposer *self)
{
    draft *p = (draft *)(void *)self;
    lf_drafter_free(&p->drafter);
    free(p->lanes);
    free(p);
}

static lf_status open_draft(lf_proposer **out, const lf_proposer_env *env, lf_error *err)
{
    lf_status status = LF_OK;
    *out = NULL;
    if (!env->draft)
        return lf_fail(err, LF_EINVAL,
                       "proposer: found \"draft\", but the engine was opened without a draft model");
    assert(env->draft->rows_max >= env->rows_max);
    draft *p = calloc(1, sizeof *p);
    if (!p) return lf_fail_memory(err, "a draft proposer", sizeof *p);
    *p = (draft){.base.ops = &lf_proposer_draft, .env = *env->draft, .n_ctx = env->n_ctx};
    p->lanes = calloc((size_t)env->seqs_max, sizeof *p->lanes);
    if (!p->lanes) {
        status = lf_fail_memory(err, "a draft proposer", (size_t)env->seqs_max * sizeof *p->lanes);
        goto done;
    }
    LF_TRY(lf_drafter_init(&p->drafter, p->env.forward, env->config->n_vocab, p->env.rows_max, p->env.cost,
                           err));
    *out = &p->base;
done:
    if (status != LF_OK) close_draft(&p->base);
    return status;
}

static void detach(lf_proposer *self, lf_seq *seq)
{
    (void)self;
    state *s = seq->proposer_state;
    if (seq->drafting == LF_DRAFTING_JACOBI) lf_guesses_close(seq);
    seq->proposer_state = NULL;
    lf_kv_seq_close(seq->draft_kv);
    seq->draft_kv = NULL;
    free(s);
}

static lf_status attach(lf_proposer *self, lf_seq *seq, lf_error *err)
{
    const draft *p = (draft *)(void *)self;
    lf_status status = LF_OK;
    state *s = calloc(1, sizeof *s);
    seq->proposer_state = s;
    if (!s) return lf_fail_memory(err, "a draft", sizeof *s);
    s->view.selected = no_tiles;
    s->n_sinks = SINKS;
    LF_TRY(lf_kv_seq_open(&seq->draft_kv, p->env.pool, p->n_ctx, err));
    if (seq->drafting == LF_DRAFTING_JACOBI) LF_TRY(lf_guesses_open(seq, err));
done:
    if (status != LF_OK) detach(self, seq);
    return status;
}

/* ---- the window ---- */

/* Slots up to position end - 1. The pool has pages for all that all sequences can hold. */
static void reserve_until(lf_kv_seq *kv, int end)
{
    const int n = end - lf_kv_seq_len(kv);
    if (n <= 0) return;
    const lf_status status = lf_kv_seq_reserve(kv, n, NULL);
    assert(status == LF_OK);
    (void)status;
}

/* Moves the window to the last tokens. */
static void follow(const draft *p, lf_seq *seq)
{
    state *s = seq->proposer_state;
    lf_kv_seq *kv = seq->draft_kv;
    const int behind = (int)seq->tokens.len - p->env.window - SINKS;
    const int begin = behind > 0 ? behind / STEP * STEP : 0;
    if (begin == s->begin) return;
    s->begin = begin;
    s->n_sinks = 0;
    s->view.recent_tile = begin / LF_TILE_POS;
    lf_kv_seq_forget(kv, begin);
    reserve_until(kv, begin + SINKS);
    if (lf_kv_seq_len(kv) < begin + SINKS) /* they are written before anybody sees them */
        lf_kv_seq_commit(kv, begin + SINKS - lf_kv_seq_len(kv));
}

/* Rows of a lane that must be read before its sequence drafts: missing sinks, and all but n_left unread tokens; as many as the pass
 * has room for. */
static void add_unread(draft *p, lf_draft_lane *lane, int n_left)
{
    lf_drafter *d = &p->drafter;
    state *s = lane->seq->proposer_state;
    const int32_t *tokens = lane->seq->tokens.data;
    for (; s->n_sinks < SINKS && d->n_rows < d->rows_max; s->n_sinks++)
        d->rows[d->n_rows++] = (lf_row){
            .seq = lane->kv, .view = lane->view, .token = tokens[s->n_sinks], .pos = s->begin + s->n_sinks};
    for (; lane->next < (int)lane->seq->tokens.len - n_left && d->n_rows < d->rows_max; lane->next++)
        d->rows[d->n_rows++] = (lf_row){
            .seq = lane->kv, .view = lane->view, .token = tokens[lane->next], .pos = lane->next};
}

/* Passes without logits, until what is unread goes with the candidates into one pass. */
static void catch_up(draft *p, int n_lanes)
{
    lf_drafter *d = &p->drafter;
    int n_wanted = 0;
    for (int i = 0; i < n_lanes; i++) n_wanted += p->lanes[i].seq->n_wanted;
    const int n_left = (d->rows_max - n_wanted) / n_lanes;
    assert(n_left >= 1);
    do {
        d->n_rows = 0;
        for (int i = 0; i < n_lanes; i++) add_unread(p, &p->lanes[i], n_left);
        if (d->n_rows > 0) lf_forward_run(d->forward, d->rows, d->n_rows);
    } while (d->n_rows > 0);
}

/* ---- drafting ---- */

static void propose(lf_proposer *self, lf_seq *const *seqs, int n_seqs)
{
    draft *p = (draft *)(void *)self;
    for (int i = 0; i < n_seqs; i++) {
        lf_seq *seq = seqs[i];
        const state *s = seq->proposer_state;
        follow(p, seq);
        reserve_until(seq->draft_kv, (int)seq->tokens.len - 1 + seq->n_wanted);
        p->lanes[i] = (lf_draft_lane){
            .seq = seq, .kv = seq->draft_kv, .view = &s->view, .next = lf_kv_seq_len(seq->draft_kv)};
    }
    catch_up(p, n_seqs);
    lf_draft(&p->drafter, p->lanes, n_seqs, lf_clock_ns());
    for (int i = 0; i < n_seqs; i++) {
        lf_seq *seq = seqs[i];
        state *s = seq->proposer_state;
        const int last = (int)seq->tokens.len - 1;
        lf_kv_seq_commit(seq->draft_kv, last - lf_kv_seq_len(seq->draft_kv));
        s->n_ahead = p->lanes[i].next - last;
        memcpy(s->ahead, seq->tokens.data + last, (size_t)s->n_ahead * sizeof *s->ahead);
    }
}

/* What was drafted and stands now need not be read again. The last token has no K/V even if somebody guessed it: its row gives the
 * next logits. */
static void observe(lf_proposer *self, lf_seq *seq, const lf_verdict *v)
{
    (void)self;
    state *s = seq->proposer_state;
    const int at = lf_kv_seq_len(seq->draft_kv), n_max = min_int(s->n_ahead, (int)seq->tokens.len - 1 - at);
    int n = 0;
    while (n < n_max && s->ahead[n] == seq->tokens.data[at + n]) n++;
    lf_kv_seq_commit(seq->draft_kv, n);
    s->n_ahead = 0;
    if (seq->drafting == LF_DRAFTING_JACOBI) lf_guesses_keep_rest(seq, v);
}

const lf_proposer_ops lf_proposer_draft = {.name = "draft",
                                           .open = open_draft,
                                           .close = close_draft,
                                           .attach = attach,
                                           .detach = detach,
                                           .propose = propose,
                                           .observe = observe};
