/* Self-speculation over a sparse cache (MagicDec, arXiv 2408.11049): the draft is the target's own weights attending to a part
 * of the target's own cache. Nothing is stored twice: draft passes write their K/V to the slots behind the committed positions,
 * where the verify pass then writes the exact ones. All sequences draft together, a token each at a time. */
#include "decode/proposer.h"
#include "decode/selection.h"

#include <stdlib.h>
#include <string.h>

enum {
    SNAP_ROWS = 32 /* the prompt's last rows, whose attention makes the first choice (SnapKV's window) */
};

typedef struct sparse {
    lf_proposer base;
    lf_forward *forward;
    const lf_config *config;
    lf_threads *threads;
    int n_ctx;
    lf_picker *picker;
    lf_row *rows;    /* (seqs_max) */
    lf_seq **seqs;   /* (seqs_max) those of a draft pass */
    float *scratch;  /* (n_threads, tiles of n_ctx) */
    lf_seq **chosen; /* (seqs_max) those whose lists are being chosen, n_chosen */
    int n_chosen;
} sparse;

static void close_sparse(lf_proposer *self)
{
    sparse *p = (sparse *)(void *)self;
    lf_picker_free(p->picker);
    free(p->rows);
    free(p->seqs);
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
    *p = (sparse){.base.ops = &lf_proposer_sparse,
                  .forward = env->forward,
                  .config = env->config,
                  .threads = env->threads,
                  .n_ctx = env->n_ctx};
    p->rows = calloc(n, sizeof *p->rows);
    p->seqs = calloc(n, sizeof *p->seqs);
    p->chosen = calloc(n, sizeof *p->chosen);
    p->scratch = calloc((size_t)lf_threads_count(env->threads) * (size_t)n_tiles_max(p), sizeof *p->scratch);
    if (!p->rows || !p->seqs || !p->chosen || !p->scratch) {
        status = lf_fail_memory(err, "a sparse proposer", n * sizeof *p->rows);
        goto done;
    }
    LF_TRY(lf_picker_create(&p->picker, env->config->n_vocab, err));
    LF_TRY(lf_forward_enable_mass(env->forward, env->n_ctx, err));
    *out = &p->base;
done:
    if (status != LF_OK) close_sparse(&p->base);
    return status;
}

static lf_status attach(lf_proposer *self, lf_seq *seq, lf_error *err)
{
    const sparse *p = (sparse *)(void *)self;
    lf_tile_choice *c = malloc(sizeof *c);
    if (!c) return lf_fail_memory(err, "a selection of tiles", sizeof *c);
    const lf_status status = lf_tile_choice_init(c, seq->selection, seq->sparse_budget,
                                                 p->config->n_layers * p->config->n_kv_heads, p->n_ctx, err);
    if (status != LF_OK) {
        free(c);
        return status;
    }
    seq->proposer_state = c;
    seq->mass = c->mass;
    /* `verify` looks at what came last when the sequence has grown beyond the budget: before that attention is not asked for */
    const int budget = lf_tile_choice_budget(c, seq->n_prompt);
    const bool waits = seq->selection == LF_SELECT_VERIFY && seq->n_prompt < budget;
    seq->mass_from = (waits ? budget : seq->n_prompt) - SNAP_ROWS;
    return LF_OK;
}

static void detach(lf_proposer *self, lf_seq *seq)
{
    (void)self;
    lf_tile_choice *c = seq->proposer_state;
    if (!c) return;
    lf_tile_choice_free(c);
    free(c);
    seq->proposer_state = NULL;
    seq->mass = NULL;
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

/* The pass that drafts candidate i of every sequence that wants one; false when there is none. */
static bool draft_pass(sparse *p, lf_seq *const *seqs, int n_seqs, int i)
{
    int n = 0;
    for (int s = 0; s < n_seqs; s++) {
        lf_seq *seq = seqs[s];
        if (seq->n_wanted <= i || seq->n_candidates < i || !is_sparse(seq)) continue;
        const lf_tile_choice *c = seq->proposer_state;
        const int32_t *tokens = seq->tokens.data;
        const size_t len = seq->tokens.len;
        p->rows[n] = (lf_row){.seq = seq->kv,
                              .view = &c->view,
                              .token = i == 0 ? tokens[len - 1] : seq->candidates[i - 1],
                              .pos = (int)len - 1 + i,
                              .wants_logits = true};
        p->seqs[n++] = seq;
    }
    if (n == 0) return false;
    lf_forward_run(p->forward, p->rows, n);
    for (int s = 0; s < n; s++) {
        lf_seq *seq = p->seqs[s];
        int32_t *tokens = seq->tokens.data;
        const int len = (int)seq->tokens.len;
        /* with the noise that the target's pick will have: the draft agrees as often as it can */
        const int32_t id = lf_pick(p->picker, lf_forward_logits(p->forward, s), tokens, len + i, &seq->pick);
        if (id < 0) continue;
        tokens[len + i] = id; /* the history of the next candidate */
        seq->candidates[seq->n_candidates++] = id;
    }
    return true;
}

static void propose(lf_proposer *self, lf_seq *const *seqs, int n_seqs)
{
    sparse *p = (sparse *)(void *)self;
    choose_views(p, seqs, n_seqs);
    for (int i = 0; i < LF_DRAFT_MAX && draft_pass(p, seqs, n_seqs, i); i++) {
    }
}

static void observe(lf_proposer *self, lf_seq *seq, const lf_verdict *v)
{
    (void)self, (void)v;
    lf_tile_choice *c = seq->proposer_state;
    c->is_fresh = true;
    if (c->kind == LF_SELECT_SNAP) seq->mass = NULL; /* the prompt has been read */
}

const lf_proposer_ops lf_proposer_sparse = {.name = "sparse",
                                            .drafts = true,
                                            .open = open_sparse,
                                            .close = close_sparse,
                                            .attach = attach,
                                            .detach = detach,
                                            .propose = propose,
                                            .observe = observe};
