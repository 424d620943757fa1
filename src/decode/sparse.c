/* Self-speculation over a sparse cache (MagicDec, arXiv 2408.11049): the draft is the target's own weights attending to a part
 * of the target's own cache. Nothing is stored twice: draft passes write their K/V to the slots behind the committed positions,
 * where the verify pass then writes the exact ones. */
#include "base/clock.h"
#include "decode/drafting.h"
#include "decode/guesses.h"
#include "decode/proposer.h"
#include "decode/selection.h"

#include <stdlib.h>
#include <string.h>

enum {
    SNAP_ROWS = 32, /* the prompt's last rows, whose attention makes the first choice (SnapKV's window) */
    IDLE_PASSES =
        32 /* while nothing is drafted, `verify` looks at one of so many target passes: looking makes them slower */
};

typedef struct sparse {
    lf_proposer base;
    const lf_config *config;
    lf_threads *threads;
    int n_ctx;
    lf_drafter drafter;
    lf_draft_lane *lanes; /* (seqs_max) */
    float *scratch;       /* (n_threads, tiles of n_ctx) */
    lf_seq **chosen;      /* (seqs_max) those whose lists are being chosen, n_chosen */
    int n_chosen;
} sparse;

static void close_sparse(lf_proposer *self)
{
    sparse *p = (sparse *)(void *)self;
    lf_drafter_free(&p->drafter);
    free(p->lanes);
    free(p->chosen);
    free(p->scratch);
    free(p);
}

static int n_tiles_max(const sparse *p)
{
    return (p->n_ctx + LF_TILE_POS - 1) / LF_TILE_POS;
}

static lf_status open_sparse(lf_proposer **out, const lf_proposer_env *env, lf_error *err)
{
    lf_status status = LF_OK;
    const size_t n = (size_t)env->seqs_max;
    sparse *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p) return lf_fail_memory(err, "a sparse proposer", sizeof *p);
    *p = (sparse){
        .base.ops = &lf_proposer_sparse, .config = env->config, .threads = env->threads, .n_ctx = env->n_ctx};
    p->lanes = calloc(n, sizeof *p->lanes);
    p->chosen = calloc(n, sizeof *p->chosen);
    p->scratch = calloc((size_t)lf_threads_count(env->threads) * (size_t)n_tiles_max(p), sizeof *p->scratch);
    if (!p->lanes || !p->chosen || !p->scratch) {
        status = lf_fail_memory(err, "a sparse proposer", n * sizeof *p->lanes);
        goto done;
    }
    LF_TRY(lf_drafter_init(&p->drafter, env->forward, env->config->n_vocab, env->rows_max, env->cost, err));
    LF_TRY(lf_forward_enable_mass(env->forward, env->n_ctx, err));
    *out = &p->base;
done:
    if (status != LF_OK) close_sparse(&p->base);
    return status;
}

static void detach(lf_proposer *self, lf_seq *seq)
{
    (void)self;
    lf_tile_choice *c = seq->proposer_state;
    if (seq->drafting == LF_DRAFTING_JACOBI) lf_guesses_close(seq);
    seq->proposer_state = NULL;
    seq->mass = NULL;
    if (c) lf_tile_choice_free(c);
    free(c);
}

static lf_status attach(lf_proposer *self, lf_seq *seq, lf_error *err)
{
    const sparse *p = (sparse *)(void *)self;
    lf_status status = LF_OK;
    lf_tile_choice *c = calloc(1, sizeof *c);
    seq->proposer_state = c;
    if (!c) return lf_fail_memory(err, "a selection of tiles", sizeof *c);
    LF_TRY(lf_tile_choice_init(c, seq->selection, seq->sparse_budget,
                               p->config->n_layers * p->config->n_kv_heads, p->n_ctx, err));
    if (seq->drafting == LF_DRAFTING_JACOBI) LF_TRY(lf_guesses_open(seq, err));
    seq->mass = c->mass;
    c->was_asked = true;
    /* `verify` looks at what came last when the sequence has grown beyond the budget: before that attention is not asked for */
    const int budget = lf_tile_choice_budget(c, seq->n_prompt);
    const bool waits = seq->selection == LF_SELECT_VERIFY && seq->n_prompt < budget;
    seq->mass_from = (waits ? budget : seq->n_prompt) - SNAP_ROWS;
done:
    if (status != LF_OK) detach(self, seq);
    return status;
}

/* ---- selection ---- */

static void choose_thread(void *arg, int i_thread)
{
    sparse *p = arg;
    const int n_lists = p->config->n_layers * p->config->n_kv_heads;
    float *scratch = p->scratch + (size_t)i_thread * (size_t)n_tiles_max(p);
    for (int i; (i = lf_threads_take(p->threads, 1)) < p->n_chosen * n_lists;)
        lf_tile_choice_make_list(p->chosen[i / n_lists]->proposer_state, i % n_lists, scratch);
}

static bool is_sparse(const lf_seq *seq)
{
    return lf_tile_choice_is_sparse(seq->proposer_state, lf_kv_seq_len(seq->kv));
}

/* Views for the sequences (n_seqs) that have something to leave out; the others have no candidates. */
static void choose_views(sparse *p, lf_seq *const *seqs, int n_seqs)
{
    p->n_chosen = 0;
    for (int i = 0; i < n_seqs; i++) {
        lf_seq *seq = seqs[i];
        seq->n_candidates = 0;
        if (is_sparse(seq) && lf_tile_choice_update(seq->proposer_state, lf_kv_seq_len(seq->kv)))
            p->chosen[p->n_chosen++] = seq;
    }
    if (p->n_chosen > 0) lf_threads_run(p->threads, choose_thread, p);
}

/* ---- drafting ---- */

static void propose(lf_proposer *self, lf_seq *const *seqs, int n_seqs)
{
    sparse *p = (sparse *)(void *)self;
    const int64_t start = lf_clock_ns();
    int n = 0;
    choose_views(p, seqs, n_seqs);
    for (int i = 0; i < n_seqs; i++) {
        lf_tile_choice *c = seqs[i]->proposer_state;
        c->was_asked = true;
        if (!is_sparse(seqs[i])) continue;
        seqs[i]->step.budget = lf_tile_choice_budget(c, lf_kv_seq_len(seqs[i]->kv));
        p->lanes[n++] = (lf_draft_lane){
            .seq = seqs[i], .kv = seqs[i]->kv, .view = &c->view, .next = lf_kv_seq_len(seqs[i]->kv)};
    }
    if (n > 0) lf_draft(&p->drafter, p->lanes, n, start);
}

static void observe(lf_proposer *self, lf_seq *seq, const lf_verdict *v)
{
    (void)self;
    lf_tile_choice *c = seq->proposer_state;
    const bool looked = seq->mass && (int)seq->tokens.len > seq->mass_from;
    c->is_fresh = c->is_fresh || looked;
    c->n_passes = looked ? 1 : c->n_passes + 1;
    seq->mass = NULL; /* all that `snap` wants is what the prompt's last rows looked at */
    if (c->kind == LF_SELECT_VERIFY && (c->was_asked || c->n_passes >= IDLE_PASSES)) seq->mass = c->mass;
    c->was_asked = false;
    if (seq->drafting == LF_DRAFTING_JACOBI) lf_guesses_keep_rest(seq, v);
}

const lf_proposer_ops lf_proposer_sparse = {.name = "sparse",
                                            .drafts = true,
                                            .open = open_sparse,
                                            .close = close_sparse,
                                            .attach = attach,
                                            .detach = detach,
                                            .propose = propose,
                                            .observe = observe};
