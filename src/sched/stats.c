/* What passes have done, for lf_engine_get_stats. */
#include "sched/sched_int.h"

_Static_assert((int)LF_PROPOSER_COUNT <= (int)LF_PROPOSER_STATS_MAX,
               "lf_engine_stats has no room for a proposer");
_Static_assert((int)LF_DRAFT_MAX == (int)LF_DRAFT_LIMIT,
               "candidates are counted by their place in the round");

static void count_round(lf_engine_stats *stats, bool is_auto, const lf_seq *seq)
{
    const lf_seq_step *step = &seq->step;
    if (step->proposed == 0) {
        stats->skipped[is_auto && seq->n_wanted > 0 ? LF_SKIP_CONTROLLER : seq->skip]++;
        return;
    }
    lf_proposer_stats *p = &stats->proposers[lf_proposer_find(step->proposer)];
    p->rounds++;
    p->proposed += step->proposed;
    p->accepted += step->accepted;
    for (int j = 0; j < step->proposed; j++) stats->proposed_at[j]++;
    for (int j = 0; j < step->accepted; j++) stats->accepted_at[j]++;
}

void lf_sched_count(lf_sched *s, int n_seqs, const lf_step *step, int64_t schedule_ns)
{
    lf_engine_stats *stats = s->p.stats;
    for (int i = 0; i < n_seqs; i++) {
        const lf_job *job = s->stepped[i];
        if (job->seq->decodes && job->seq->draft_max > 0)
            count_round(stats, job->i_proposer == LF_PROPOSER_AUTO, job->seq);
    }
    stats->steps++;
    stats->passes += step->n_picked;
    stats->prefill_rows += step->prefill_rows;
    stats->decode_rows += step->decode_rows;
    stats->schedule_seconds += (double)schedule_ns * 1e-9;
    stats->propose_seconds += (double)step->propose_ns * 1e-9;
    stats->forward_seconds += (double)step->forward_ns * 1e-9;
    stats->pick_seconds += (double)step->pick_ns * 1e-9;
    stats->emit_seconds += (double)step->emit_ns * 1e-9;
}
