#include "acceptance.h"

#include "decode/selection.h"
#include "magicdec_lab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The rounds of a selection and budget, for some of the numbers of candidates, over one choice of tiles for each sequence: with
 * `verify` what is chosen depends on where rounds begin, so each number has its own. */
typedef struct track {
    lf_selection selection;
    int budget;
    const int *gs; /* (n_gs) borrowed */
    int n_gs;
    lf_tile_choice *choices; /* (n_sequences) */
    int *next;               /* (n_gs, n_sequences) the place where the next round begins */
    int *last;               /* (n_sequences) the place where one began last */
    bench_run *runs;         /* (n_gs) what the rounds gave */
    double attention;        /* sum over the places where some began */
    long n_drafts;           /* those places */
} track;

/* A draft of one sequence. */
typedef struct lane {
    int i_seq, limit; /* candidates that are wanted, or drafted before a wrong one */
    int n_right;
} lane;

typedef struct walk {
    const bench_acceptance_options *o;
    bench_lab *l;
    bench_acceptance_fn *on_result;
    track *tracks; /* (n_tracks) */
    int n_tracks;
    int n_lists, stride; /* of attention by tile: layers times KV heads, and tiles */
    float *prompt_mass;  /* (n_sequences, n_lists, stride) the attention of the prompts' last rows; and: */
    float *row_mass;     /* that of the row at the place */
    float *scratch;      /* (stride) */
    lane *lanes;         /* (n_sequences) */
} walk;

static size_t mass_floats(const walk *w)
{
    return (size_t)w->n_lists * (size_t)w->stride;
}

/* ---- opening ---- */

static lf_status open_track(track *t, const walk *w, lf_selection selection, int budget, const int *gs,
                            int n_gs, lf_error *err)
{
    const size_t n = (size_t)w->o->n_sequences;
    *t = (track){.selection = selection, .budget = budget, .gs = gs, .n_gs = n_gs};
    t->choices = calloc(n, sizeof *t->choices);
    t->next = malloc(n * (size_t)n_gs * sizeof *t->next);
    t->last = calloc(n, sizeof *t->last);
    t->runs = calloc((size_t)n_gs, sizeof *t->runs);
    if (!t->choices || !t->next || !t->last || !t->runs)
        return lf_fail_memory(err, "rounds", n * sizeof *t->choices);
    for (size_t i = 0; i < n * (size_t)n_gs; i++) t->next[i] = 1; /* the first token comes with the prompt */
    for (size_t i = 0; i < n; i++) {
        const lf_status status = lf_tile_choice_init(&t->choices[i], selection, budget, w->n_lists,
                                                     bench_positions_of(w->l), err);
        if (status != LF_OK) return status;
        if (t->choices[i].mass)
            memcpy(t->choices[i].mass, w->prompt_mass + i * mass_floats(w), mass_floats(w) * sizeof(float));
    }
    return LF_OK;
}

static void close_track(track *t, int n_sequences)
{
    for (int i = 0; t->choices && i < n_sequences; i++) lf_tile_choice_free(&t->choices[i]);
    free(t->choices);
    free(t->next);
    free(t->last);
    free(t->runs);
}

static lf_status open_tracks(walk *w, lf_error *err)
{
    const bench_acceptance_options *o = w->o;
    lf_status status = LF_OK;
    w->tracks = calloc((size_t)(o->selections.n * o->budgets.n * o->gs.n), sizeof *w->tracks);
    if (!w->tracks) return lf_fail_memory(err, "rounds", sizeof *w->tracks);
    for (int s = 0; s < o->selections.n; s++)
        for (int b = 0; b < o->budgets.n; b++) {
            const lf_selection selection = (lf_selection)o->selections.v[s];
            const int n_gs = selection == LF_SELECT_VERIFY ? 1 : o->gs.n;
            for (int g = 0; g < o->gs.n && status == LF_OK; g += n_gs)
                status = open_track(&w->tracks[w->n_tracks++], w, selection, o->budgets.v[b], o->gs.v + g,
                                    n_gs, err);
        }
    return status;
}

static void close_tracks(walk *w)
{
    for (int i = 0; i < w->n_tracks; i++) close_track(&w->tracks[i], w->o->n_sequences);
    free(w->tracks);
    w->tracks = NULL;
    w->n_tracks = 0;
}

static lf_status open_walk(walk *w, lf_error *err)
{
    const lf_config *c = &w->l->source.config;
    const size_t n = (size_t)w->o->n_sequences;
    w->n_lists = c->n_layers * c->n_kv_heads;
    w->stride = (bench_positions_of(w->l) + LF_TILE_POS - 1) / LF_TILE_POS;
    w->prompt_mass = malloc(n * mass_floats(w) * sizeof *w->prompt_mass);
    w->row_mass = malloc(n * mass_floats(w) * sizeof *w->row_mass);
    w->scratch = malloc((size_t)w->stride * sizeof *w->scratch);
    w->lanes = malloc(n * sizeof *w->lanes);
    if (!w->prompt_mass || !w->row_mass || !w->scratch || !w->lanes)
        return lf_fail_memory(err, "attention by tile", n * mass_floats(w) * sizeof *w->row_mass);
    return lf_forward_enable_mass(w->l->forward, bench_positions_of(w->l), err);
}

static void close_walk(walk *w)
{
    close_tracks(w);
    free(w->prompt_mass);
    free(w->row_mass);
    free(w->scratch);
    free(w->lanes);
}

/* ---- the target ---- */

static void close_sequences(bench_lab *l)
{
    for (int i = 0; i < l->batch; i++) {
        lf_kv_seq_close(l->subjects[i].seq.kv);
        l->subjects[i].seq = (lf_seq){0};
    }
}

static lf_status start_sequences(bench_lab *l, lf_error *err)
{
    static const bench_setting plain = {.proposer = -1};
    lf_status status = LF_OK;
    for (int i = 0; i < l->batch && status == LF_OK; i++) {
        l->seqs[i] = &l->subjects[i].seq;
        status = bench_subject_start(l, &l->subjects[i], &plain, err);
    }
    return status;
}

/* What the sequences say by themselves. */
static lf_status decode_plainly(bench_lab *l, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(start_sequences(l, err));
    for (lf_step step = {.n_seqs = 1}; step.n_seqs > 0;) {
        LF_TRY(lf_round_step(l->round, l->seqs, l->batch, &step, err));
        if (l->hooks->canceled(l->hooks->cookie)) LF_TRY(lf_fail(err, LF_ECANCELED, "interrupted"));
    }
    for (int i = 0; i < l->batch; i++)
        if (l->subjects[i].seq.not_finite)
            LF_TRY(
                lf_fail(err, LF_EFORMAT, "%s: found logits that are not finite numbers", l->o->model_path));
done:
    close_sequences(l);
    return status;
}

/* A pass over the next n rows of every sequence, whose attention goes to mass (n_sequences, n_lists, stride). */
static lf_status read_rows(walk *w, int n, float *mass, lf_error *err)
{
    bench_lab *l = w->l;
    int n_rows = 0;
    memset(mass, 0, (size_t)l->batch * mass_floats(w) * sizeof *mass);
    for (int i = 0; i < l->batch; i++) {
        lf_kv_seq *kv = l->subjects[i].seq.kv;
        const int len = lf_kv_seq_len(kv);
        const lf_status status = lf_kv_seq_reserve(kv, n, err);
        if (status != LF_OK) return status;
        for (int r = 0; r < n; r++)
            l->rows[n_rows++] = (lf_row){.seq = kv,
                                         .token = l->subjects[i].tokens[len + r],
                                         .pos = len + r,
                                         .mass = mass + (size_t)i * mass_floats(w)};
    }
    lf_forward_run(l->forward, l->rows, n_rows);
    for (int i = 0; i < l->batch; i++) lf_kv_seq_commit(l->subjects[i].seq.kv, n);
    return LF_OK;
}

/* ---- rounds ---- */

/* Candidates of a round that begins at a place, when there is a view to draft over. */
static int candidates_of(const walk *w, int g, int place)
{
    const int left = w->o->n_tokens - place - 1;
    return g < left ? g : left;
}

/* The most candidates that rounds of a track want which begin at a place; -1: none begins. */
static int candidates_wanted(const walk *w, const track *t, int i_seq, int place)
{
    int most = -1;
    for (int i = 0; i < t->n_gs; i++)
        if (t->next[i * w->o->n_sequences + i_seq] == place && candidates_of(w, t->gs[i], place) > most)
            most = candidates_of(w, t->gs[i], place);
    return most;
}

/* Lanes for the sequences that have a round to draft for; their number. */
static int open_lanes(walk *w, track *t, int place)
{
    int n = 0;
    for (int i = 0; i < w->l->batch; i++) {
        lf_tile_choice *c = &t->choices[i];
        const int limit = candidates_wanted(w, t, i, place), len = lf_kv_seq_len(w->l->subjects[i].seq.kv);
        if (limit < 0) continue;
        w->lanes[n++] = (lane){.i_seq = i};
        if (limit == 0 || !lf_tile_choice_is_sparse(c, len)) continue;
        w->lanes[n - 1].limit = limit;
        t->last[i] = place;
        if (lf_tile_choice_update(c, len))
            for (int j = 0; j < w->n_lists; j++) lf_tile_choice_make_list(c, j, w->scratch);
        c->is_fresh = true; /* for the next round */
    }
    return n;
}

/* The next candidate of every lane that has been right so far; false when none wants one. */
static bool draft_pass(walk *w, const track *t, int n_lanes)
{
    bench_lab *l = w->l;
    int n_rows = 0;
    for (int i = 0; i < n_lanes; i++) {
        const lane *a = &w->lanes[i];
        const bench_subject *s = &l->subjects[a->i_seq];
        const int pos = lf_kv_seq_len(s->seq.kv) + a->n_right;
        if (a->n_right < a->limit)
            l->rows[n_rows++] = (lf_row){.seq = s->seq.kv,
                                         .view = &t->choices[a->i_seq].view,
                                         .token = s->tokens[pos],
                                         .pos = pos,
                                         .wants_logits = true};
    }
    if (n_rows == 0) return false;
    lf_forward_run(l->forward, l->rows, n_rows);
    for (int i = 0, i_logits = 0; i < n_lanes; i++) {
        lane *a = &w->lanes[i];
        const bench_subject *s = &l->subjects[a->i_seq];
        const int next = lf_kv_seq_len(s->seq.kv) + a->n_right + 1;
        if (a->n_right >= a->limit) continue;
        const float *logits = lf_forward_logits(l->forward, i_logits++);
        if (lf_pick(l->picker, logits, s->tokens, next, &s->seq.pick) == s->tokens[next])
            a->n_right++;
        else
            a->limit = a->n_right;
    }
    return true;
}

/* Counts the rounds that begin at a place, and finds where the next ones do. */
static void count_rounds(const walk *w, track *t, const lane *a, int place)
{
    const bool drafts = t->last[a->i_seq] == place;
    for (int i = 0; i < t->n_gs; i++) {
        int *next = &t->next[i * w->o->n_sequences + a->i_seq];
        if (*next != place) continue;
        const int proposed = drafts ? candidates_of(w, t->gs[i], place) : 0,
                  accepted = a->n_right < proposed ? a->n_right : proposed;
        bench_run_count(&t->runs[i], proposed, accepted);
        *next = place + accepted + 1;
    }
}

static lf_status draft_track(walk *w, track *t, int place, lf_error *err)
{
    lf_status status = LF_OK;
    const int n = open_lanes(w, t, place);
    for (int i = 0; i < n; i++)
        LF_TRY(lf_kv_seq_reserve(w->l->subjects[w->lanes[i].i_seq].seq.kv, 1 + w->lanes[i].limit, err));
    while (draft_pass(w, t, n))
        if (w->l->hooks->canceled(w->l->hooks->cookie)) LF_TRY(lf_fail(err, LF_ECANCELED, "interrupted"));
    for (int i = 0; i < n; i++) count_rounds(w, t, &w->lanes[i], place);
done:
    return status;
}

/* ---- attention ---- */

/* The share of a row's attention that goes to what a choice shows. mass: (n_lists, stride); n_tiles: that the row sees. */
static double share_shown(const walk *w, const lf_tile_choice *c, const float *mass, int n_tiles)
{
    const lf_config *config = &w->l->source.config;
    double sum = 0.0;
    for (int i = 0; i < w->n_lists; i++) {
        const float *of = mass + (size_t)i * (size_t)w->stride;
        const int32_t *tiles = c->tiles + (size_t)i * (size_t)c->view.n_selected;
        for (int j = 0; j < c->view.n_selected; j++) sum += of[tiles[j]];
        for (int j = c->view.recent_tile; j < n_tiles; j++) sum += of[j];
    }
    return sum / ((double)config->n_layers * config->n_heads);
}

/* What the row at a place looked at: for what the drafts that began there had been shown, and for what `verify` shows next. */
static void look_back(const walk *w, track *t, int place)
{
    const int n_tiles = (w->l->n_prompt + place - 1) / LF_TILE_POS + 1;
    for (int i = 0; i < w->o->n_sequences; i++) {
        lf_tile_choice *c = &t->choices[i];
        const float *mass = w->row_mass + (size_t)i * mass_floats(w);
        if (t->last[i] == place) {
            t->attention += share_shown(w, c, mass, n_tiles);
            t->n_drafts++;
        }
        if (t->selection == LF_SELECT_VERIFY)
            for (size_t j = 0; j < mass_floats(w); j++) c->mass[j] += mass[j];
    }
}

/* ---- walking ---- */

static lf_status walk_along(walk *w, lf_error *err)
{
    bench_lab *l = w->l;
    char what[80];
    lf_status status = LF_OK;
    (void)snprintf(what, sizeof what, "context %d, temperature %g", l->context, (double)l->o->temperature);
    LF_TRY(decode_plainly(l, err));
    LF_TRY(start_sequences(l, err));
    LF_TRY(read_rows(w, BENCH_LAST_ROWS, w->prompt_mass, err));
    LF_TRY(open_tracks(w, err));
    for (int place = 1; place < w->o->n_tokens; place++) {
        l->hooks->on_progress(l->hooks->cookie, what, (double)place / w->o->n_tokens);
        for (int i = 0; i < w->n_tracks; i++) LF_TRY(draft_track(w, &w->tracks[i], place, err));
        LF_TRY(read_rows(w, 1, w->row_mass, err));
        for (int i = 0; i < w->n_tracks; i++) look_back(w, &w->tracks[i], place);
    }
done:
    close_sequences(l);
    return status;
}

static lf_status report(const walk *w, const track *t, int i_g, lf_error *err)
{
    const bench_lab *l = w->l;
    const bench_run *run = &t->runs[i_g];
    bench_acceptance_result r = {.model = w->o->model_path,
                                 .task = w->o->task,
                                 .context = l->context,
                                 .n_sequences = w->o->n_sequences,
                                 .n_tokens = w->o->n_tokens,
                                 .temperature = l->o->temperature,
                                 .selection = t->selection,
                                 .budget = t->budget,
                                 .g = t->gs[i_g],
                                 .rounds = run->passes,
                                 .proposed = run->proposed,
                                 .accepted = run->accepted,
                                 .acceptance = (double)run->accepted / (double)run->proposed,
                                 .tokens_per_round = 1.0 + (double)run->accepted / (double)run->passes,
                                 .attention = t->attention / (double)t->n_drafts};
    for (int i = 0; i < t->gs[i_g] && run->proposed_at[i] > 0; i++)
        r.acceptance_at[r.n_places++] = (double)run->accepted_at[i] / (double)run->proposed_at[i];
    return w->on_result(l->hooks->cookie, &r, err);
}

/* A context's prompts, read once, at every temperature. */
static lf_status measure_context(walk *w, bench_magicdec_options *setup, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(bench_cell_open(w->l, err));
    LF_TRY(open_walk(w, err));
    for (int i = 0; i < w->o->n_temperatures; i++) {
        setup->temperature = w->o->temperatures[i];
        LF_TRY(walk_along(w, err));
        for (int t = 0; t < w->n_tracks; t++)
            for (int g = 0; g < w->tracks[t].n_gs; g++)
                if (w->tracks[t].runs[g].proposed > 0) LF_TRY(report(w, &w->tracks[t], g, err));
        close_tracks(w);
    }
done:
    close_walk(w);
    bench_cell_close(w->l);
    return status;
}

lf_status bench_run_acceptance(const bench_acceptance_options *o, const bench_hooks *hooks,
                               bench_acceptance_fn *on_result, lf_error *err)
{
    lf_status status = LF_OK;
    bench_magicdec_options setup = {.model_path = o->model_path,
                                    .text_path = o->text_path,
                                    .prompts_path = o->prompts_path,
                                    .n_tokens = o->n_tokens,
                                    .n_threads = o->n_threads,
                                    .kv_dtype = o->kv_dtype,
                                    .cpu_mask = o->cpu_mask};
    bench_lab l = {.o = &setup, .hooks = hooks, .batch = o->n_sequences};
    LF_TRY(bench_lab_open(&l, err));
    for (int i = 0; i < o->contexts.n; i++) {
        walk w = {.o = o, .l = &l, .on_result = on_result};
        l.context = o->contexts.v[i];
        LF_TRY(measure_context(&w, &setup, err));
    }
done:
    bench_lab_close(&l);
    return status;
}
