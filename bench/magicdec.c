#include "magicdec.h"

#include "base/clock.h"
#include "faithful.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *bench_proposer_name(int proposer)
{
    return proposer == BENCH_FAITHFUL ? "magicdec" : lf_proposer_name(proposer);
}

/* What the repetitions of a setting gave. */
typedef struct tally {
    double *tps;     /* (reps) */
    double *latency; /* (reps, batch) seconds a token */
    bench_run sum;
    long tokens;
    double draft_bytes;
    bool different;
} tally;

/* A cell's settings, plain decoding first, with their tallies; the peer's repetitions and the probes between. */
typedef struct cell {
    bench_lab *l;
    int n; /* settings */
    bench_setting settings[BENCH_SETTINGS_MAX + 1];
    tally *tallies;                         /* (n) */
    double *samples;                        /* what the tallies point into, and: */
    double *peer_tps;                       /* (reps) */
    double *gbytes_per_s, *core_to_core_ns; /* (reps) */
} cell;

/* ---- a run ---- */

static lf_status find_proposer(bench_lab *l, int index, lf_proposer **out, lf_error *err)
{
    const lf_proposer_env env = {.forward = l->forward,
                                 .config = &l->source.config,
                                 .threads = l->team.threads,
                                 .n_ctx = bench_positions_of(l),
                                 .seqs_max = l->batch,
                                 .rows_max = l->rows_max,
                                 .draft = l->draft.forward ? &l->draft : NULL,
                                 .pool = l->pool,
                                 .cost = &l->cost,
                                 .profile_seconds = 1.0};
    lf_status status = LF_OK;
    *out = NULL;
    if (index < 0) return LF_OK;
    if (!l->proposers[index]) {
        status = lf_proposer_open(&l->proposers[index], index, &env, err);
        if (status == LF_OK && index == LF_PROPOSER_AUTO) lf_round_correct_cost(l->round, &l->cost);
    }
    *out = l->proposers[index];
    return status;
}

static void end_subject(bench_subject *s)
{
    if (s->seq.proposer) s->seq.proposer->ops->detach(s->seq.proposer, &s->seq);
    lf_kv_seq_close(s->seq.kv);
    s->seq = (lf_seq){0};
}

/* Adds a pass, which ended so many seconds after the first began. */
static void add_pass(bench_lab *l, bench_run *run, const lf_step *step, double seconds)
{
    run->seconds = seconds;
    run->n_timed += step->emitted;
    run->propose += (double)step->propose_ns * 1e-9;
    run->forward += (double)step->forward_ns * 1e-9;
    run->pick += (double)step->pick_ns * 1e-9;
    for (int i = 0; i < l->batch; i++) {
        bench_subject *s = &l->subjects[i];
        if (s->seq.step.rows == 0) continue;
        s->n_timed += s->seq.step.emitted;
        s->seconds = seconds;
        bench_run_count(run, s->seq.step.proposed, s->seq.step.accepted);
    }
}

/* Steps until every sequence has its tokens. The steps that read the rest of the prompts are not timed. */
static lf_status decode(bench_lab *l, bench_run *run, lf_error *err)
{
    lf_step step;
    int64_t start = 0;
    for (int n_left = l->batch; n_left > 0;) {
        const lf_status status = lf_round_step(l->round, l->seqs, l->batch, &step, err);
        if (status != LF_OK) return status;
        if (l->hooks->canceled(l->hooks->cookie)) return lf_fail(err, LF_ECANCELED, "interrupted");
        const int64_t now = lf_clock_ns();
        if (step.prefill_rows > 0)
            start = now;
        else
            add_pass(l, run, &step, (double)(now - start) * 1e-9);
        n_left = 0;
        for (int i = 0; i < l->batch; i++) n_left += !l->subjects[i].seq.finished;
    }
    return LF_OK;
}

static lf_status decode_by_rounds(bench_lab *l, const bench_setting *setting, bench_run *run, lf_error *err)
{
    lf_status status = LF_OK;
    lf_proposer *proposer;
    LF_TRY(find_proposer(l, setting->proposer, &proposer, err));
    for (int i = 0; i < l->batch; i++) {
        lf_seq *seq = l->seqs[i] = &l->subjects[i].seq;
        LF_TRY(bench_subject_start(l, &l->subjects[i], setting, err));
        if (proposer) LF_TRY(proposer->ops->attach(proposer, seq, err));
        seq->proposer = proposer;
    }
    LF_TRY(decode(l, run, err));
done:
    return status;
}

static void add_run(tally *t, const bench_run *run)
{
    t->sum.seconds += run->seconds;
    t->sum.propose += run->propose;
    t->sum.forward += run->forward;
    t->sum.pick += run->pick;
    t->sum.n_timed += run->n_timed;
    t->sum.passes += run->passes;
    t->sum.proposed += run->proposed;
    t->sum.accepted += run->accepted;
    for (int i = 0; i < LF_DRAFT_MAX; i++) {
        t->sum.proposed_at[i] += run->proposed_at[i];
        t->sum.accepted_at[i] += run->accepted_at[i];
    }
}

static lf_status run_setting(cell *c, int i_setting, int rep, lf_error *err)
{
    lf_status status = LF_OK;
    bench_lab *l = c->l;
    const bench_setting *setting = &c->settings[i_setting];
    tally *t = &c->tallies[i_setting];
    bench_run run = {0};
    if (setting->proposer == BENCH_FAITHFUL)
        LF_TRY(bench_faithful_run(l, setting, &run, &t->draft_bytes, err));
    else
        LF_TRY(decode_by_rounds(l, setting, &run, err));
    if (setting->proposer == LF_PROPOSER_DRAFT) t->draft_bytes = (double)l->draft_bytes;
    add_run(t, &run);
    t->tps[rep] = (double)run.n_timed / run.seconds;
    for (int i = 0; i < l->batch; i++) {
        const bench_subject *s = &l->subjects[i];
        const int32_t *output = s->tokens + l->n_prompt;
        const int n = s->n_output < l->o->n_tokens ? s->n_output : l->o->n_tokens;
        if (i_setting == 0 && rep == 0) memcpy(s->plain, output, (size_t)n * sizeof *output);
        t->different |= memcmp(s->plain, output, (size_t)n * sizeof *output) != 0;
        t->latency[rep * l->batch + i] = s->seconds / s->n_timed;
    }
done:
    for (int i = 0; i < l->batch; i++) end_subject(&l->subjects[i]);
    return status;
}

/* The same cells by the peer, whose tokens are random: its speed does not depend on them. */
static lf_status run_peer(cell *c, int rep, lf_error *err)
{
    const bench_lab *l = c->l;
    const int n = l->o->n_tokens - 1; /* as many as are timed of a sequence here */
    const bench_request request = {
        .model = l->o->model_path,
        .test = {.kind = BENCH_TG, .n = n},
        .depth = l->n_prompt,
        .batch = l->batch,
        .threads = lf_threads_count(l->team.threads),
        .kv_type = lf_dtype_name(l->o->kv_dtype == LF_DTYPE_BF16 ? LF_DTYPE_F16 : l->o->kv_dtype)};
    double seconds;
    const lf_status status = bench_peer_time(l->peer, &request, &seconds, err);
    if (status == LF_OK) c->peer_tps[rep] = (double)n * l->batch / seconds;
    return status;
}

/* ---- reporting ---- */

/* The spread of the ratios of two settings, repetition by repetition. ratios: (n) room. */
static bench_spread spread_of_ratios(const double *of, const double *over, double *ratios, int n)
{
    for (int i = 0; i < n; i++) ratios[i] = of[i] / over[i];
    return bench_spread_of(ratios, n);
}

/* A spread of values (n) that keep their order. */
static bench_spread spread_of(const double *values, double *room, int n)
{
    memcpy(room, values, (size_t)n * sizeof *room);
    return bench_spread_of(room, n);
}

/* What all results of the cell have in common. room: (reps) */
static bench_magicdec_result result_of(const cell *c, double *room)
{
    const bench_lab *l = c->l;
    const bench_magicdec_options *o = l->o;
    return (bench_magicdec_result){.model = o->model_path,
                                   .draft_model = o->draft_path,
                                   .engine = "lookfar",
                                   .kernels = l->kernels.name,
                                   .proposer = "none",
                                   .task = o->task,
                                   .setting = {.proposer = -1},
                                   .batch = l->batch,
                                   .context = l->context,
                                   .threads = lf_threads_count(l->team.threads),
                                   .reps = o->reps,
                                   .n_tokens = o->n_tokens,
                                   .temperature = o->temperature,
                                   .of_best = NAN,
                                   .acceptance = NAN,
                                   .tokens_per_pass = 1.0,
                                   .draft_share = NAN,
                                   .verify_share = NAN,
                                   .pick_share = NAN,
                                   .gbytes_per_s = spread_of(c->gbytes_per_s, room, o->reps).median,
                                   .core_to_core_ns = spread_of(c->core_to_core_ns, room, o->reps).median,
                                   .identical = true};
}

static lf_status report(const cell *c, int i_setting, double *room, lf_error *err)
{
    const bench_lab *l = c->l;
    const tally *t = &c->tallies[i_setting], *plain = &c->tallies[0];
    const bench_run *sum = &t->sum;
    const int reps = l->o->reps, n_latency = reps * l->batch;
    bench_magicdec_result r = result_of(c, room);
    r.setting = c->settings[i_setting];
    r.proposer = bench_proposer_name(r.setting.proposer);
    r.tps = spread_of(t->tps, room, reps);
    r.speedup = spread_of_ratios(t->tps, plain->tps, room, reps);
    r.latency_ms = spread_of(t->latency, room, n_latency).median * 1e3;
    r.latency_ratio = r.latency_ms / (spread_of(plain->latency, room, n_latency).median * 1e3);
    r.passes = sum->passes;
    r.proposed = sum->proposed;
    r.accepted = sum->accepted;
    if (sum->proposed > 0) r.acceptance = (double)sum->accepted / (double)sum->proposed;
    r.tokens_per_pass = (double)sum->n_timed / (double)sum->passes;
    while (r.n_places < LF_DRAFT_MAX && sum->proposed_at[r.n_places] > 0) {
        r.acceptance_at[r.n_places] = (double)sum->accepted_at[r.n_places] /
                                      (double)sum->proposed_at[r.n_places];
        r.n_places++;
    }
    r.draft_share = sum->propose / sum->seconds;
    r.verify_share = sum->forward / sum->seconds;
    r.pick_share = sum->pick / sum->seconds;
    r.draft_bytes = t->draft_bytes;
    r.identical = !t->different;
    if (r.setting.proposer == LF_PROPOSER_AUTO)
        for (int i = 0; i < c->n; i++) { /* every other choice, plain decoding among them */
            if (c->settings[i].proposer == LF_PROPOSER_AUTO) continue;
            const double ratio = spread_of_ratios(t->tps, c->tallies[i].tps, room, reps).median;
            if (!(ratio >= r.of_best)) r.of_best = ratio;
        }
    return l->on_result(l->hooks->cookie, &r, err);
}

static lf_status report_peer(const cell *c, double *room, lf_error *err)
{
    const bench_lab *l = c->l;
    const int reps = l->o->reps;
    const double plain = spread_of(c->tallies[0].latency, room, reps * l->batch).median;
    bench_magicdec_result r = result_of(c, room);
    r.engine = bench_peer_name(l->peer);
    r.kernels = NULL;
    r.tps = spread_of(c->peer_tps, room, reps);
    r.speedup = spread_of_ratios(c->peer_tps, c->tallies[0].tps, room, reps);
    r.latency_ms = l->batch / r.tps.median * 1e3; /* its sequences go in step */
    r.latency_ratio = r.latency_ms / (plain * 1e3);
    return l->on_result(l->hooks->cookie, &r, err);
}

/* ---- cells ---- */

static lf_status allocate_cell(cell *c, lf_error *err)
{
    const bench_magicdec_options *o = c->l->o;
    const size_t reps = (size_t)o->reps, each = reps * (1 + (size_t)c->l->batch);
    const size_t n = (size_t)c->n * each + 3 * reps;
    c->tallies = calloc((size_t)c->n, sizeof *c->tallies);
    c->samples = malloc(n * sizeof *c->samples);
    if (!c->tallies || !c->samples) return lf_fail_memory(err, "repetitions", n * sizeof *c->samples);
    double *at = c->samples;
    for (int i = 0; i < c->n; i++, at += each) {
        c->tallies[i].tps = at;
        c->tallies[i].latency = at + reps;
    }
    c->peer_tps = at;
    c->gbytes_per_s = at + reps;
    c->core_to_core_ns = at + 2 * reps;
    return LF_OK;
}

static lf_status run_repetition(cell *c, int rep, lf_error *err)
{
    lf_status status = LF_OK;
    const bench_lab *l = c->l;
    const bench_limits unknown = {NAN, NAN};
    for (int i = 0; i < c->n; i++) {
        char what[80];
        (void)snprintf(what, sizeof what, "batch %d, context %d", l->batch, l->context);
        l->hooks->on_progress(l->hooks->cookie, what, (double)(rep * c->n + i) / (l->o->reps * c->n));
        LF_TRY(run_setting(c, i, rep, err));
    }
    if (l->peer) LF_TRY(run_peer(c, rep, err));
    const bench_limits limits = l->probe ? bench_probe_measure(l->probe) : unknown;
    c->gbytes_per_s[rep] = limits.gbytes_per_s;
    c->core_to_core_ns[rep] = limits.core_to_core_ns;
done:
    return status;
}

static lf_status measure_cell(bench_lab *l, lf_error *err)
{
    lf_status status = LF_OK;
    cell c = {.l = l, .n = l->o->n_settings + 1, .settings = {{.proposer = -1}}};
    const size_t n_room = (size_t)l->o->reps * (size_t)l->batch;
    double *room = malloc(n_room * sizeof *room);
    memcpy(c.settings + 1, l->o->settings, (size_t)l->o->n_settings * sizeof *c.settings);
    if (!room) LF_TRY(lf_fail_memory(err, "repetitions", n_room * sizeof *room));
    LF_TRY(allocate_cell(&c, err));
    for (int rep = 0; rep < l->o->reps; rep++) LF_TRY(run_repetition(&c, rep, err));
    for (int i = 0; i < c.n; i++) LF_TRY(report(&c, i, room, err));
    if (l->peer) LF_TRY(report_peer(&c, room, err));
done:
    free(room);
    free(c.samples);
    free(c.tallies);
    return status;
}

lf_status bench_run_magicdec(const bench_magicdec_options *o, const bench_hooks *hooks,
                             bench_magicdec_fn *on_result, lf_error *err)
{
    lf_status status = LF_OK;
    bench_lab l = {.o = o, .hooks = hooks, .on_result = on_result};
    LF_TRY(bench_lab_open(&l, err));
    for (int i = 0; i < o->contexts.n && status == LF_OK; i++)
        for (int j = 0; j < o->batches.n && status == LF_OK; j++) {
            l.batch = o->batches.v[j];
            l.context = o->contexts.v[i];
            if (o->skips && o->skips(hooks->cookie, l.batch, l.context)) continue;
            status = bench_cell_open(&l, err);
            if (status == LF_OK) status = measure_cell(&l, err);
            bench_cell_close(&l);
        }
done:
    bench_lab_close(&l);
    return status;
}
