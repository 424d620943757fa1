/* What the scheduler's files share. */
#ifndef LF_SCHED_SCHED_INT_H
#define LF_SCHED_SCHED_INT_H

#include "sched/sched.h"

struct lf_sched {
    lf_sched_params p;
    lf_job *first, *last; /* every job, in the order they came */
    int n_jobs, n_active;
    lf_job **stepped; /* (n_seqs) those of the last step; NULL: removed since */
    lf_seq **seqs;    /* (n_seqs) sequences of the pass */
    int n_stepped;
    lf_step_preemption *preempted; /* (n_seqs) by the last step: the first n_preempted */
    int n_preempted;
    int n_failed;    /* of the last admission */
    lf_job *blocked; /* the first that there was no room for, when there were blocked_pages; or NULL */
    int blocked_pages;
};

/* Admits waiting jobs by rules 1, 2 and 4; those that fail are marked, and take the place of one for this step. */
void lf_sched_admit(lf_sched *s);

/* Gives back what an active job has: from now on it waits. */
void lf_sched_deactivate(lf_sched *s, lf_job *job);

/* Counts a pass over the sequences (n_seqs) of the step. */
void lf_sched_count(lf_sched *s, int n_seqs, const lf_step *step, int64_t schedule_ns);

#endif
