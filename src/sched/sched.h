/* The scheduler: who is decoded, who reads, who waits. A job is a sequence with what the scheduler knows of it. Jobs that are active
 * have a sequence of the cache and rows in passes; the others wait.
 *
 *            submit            admitted               finished
 *   owner  ---------->  waits ----------->  active  ----------> owner removes it
 *                         ^                   |
 *                         +-------------------+
 *                           preempted: pages ran out
 *
 * Rules:
 *   1. First come, first served. A job that has no room holds back those behind it; a job that is preempted goes back to where it
 *      was. What an earlier one is waiting for, a slot or pages, no later one is given.
 *   2. A job is admitted when there are pages for what it has to read and for a round after it, beside what the active ones need
 *      for the same. It grows from there.
 *   3. When a pass needs pages that are not there, the prefix cache gives up its oldest, then the active jobs that came last give up
 *      theirs. So the oldest always goes on. A job that was preempted is read again, prompt and output, which the two laws make
 *      exact; what it has left in the prefix cache is not computed again.
 *   4. A job whose tokens begin like those of an active one waits until the other has read them, where that saves it most of its
 *      reading or a page, and then shares the pages, to the token. It keeps its place meanwhile. A few tokens are not shared.
 *   5. Rows of a pass are given out as decode/plan.h says. Candidates never cost anybody its pages. */
#ifndef LF_SCHED_SCHED_H
#define LF_SCHED_SCHED_H

#include "decode/round.h"
#include "kv/prefix.h"

typedef struct lf_sched lf_sched;
typedef struct lf_job lf_job;

/* What the owner fills in, zeroed otherwise, and keeps in place until the job is removed. */
struct lf_job {
    lf_seq *seq;          /* seq->kv is NULL unless the job is active. seq->len_max is at most n_ctx + 1 */
    int i_proposer;       /* as lf_proposer_find gives it */
    bool no_prefix_cache; /* neither read nor feed it, nor share pages otherwise */
    lf_error *err;        /* says why the job has failed */
    int64_t id;           /* what the owner calls it, in lf_step_preemption */

    /* the scheduler's; the owner may read */
    lf_job *prev, *next; /* in the order they came */
    lf_job *reader;      /* an active job that reads what this one waits for, up to reader_len; or NULL */
    int reader_len;
    bool active;       /* admitted: has a sequence of the cache */
    bool failed;       /* could not be admitted; the owner removes it */
    int cached_tokens; /* of the prompt, not computed when it was first admitted */
    int preemptions;
    int64_t admitted_ns; /* first; 0: not yet */
};

/* Gives the proposer of an index, which is not that of "none"; it may open it, running passes. */
typedef lf_status lf_find_proposer_fn(void *cookie, lf_proposer **out, int index, lf_error *err);

typedef struct lf_sched_params {
    lf_kv_pool *pool; /* has pages for n_ctx positions, and one more for a copy */
    lf_prefix *prefix;
    lf_round *round;
    int n_ctx;  /* positions of a sequence at most */
    int n_seqs; /* active jobs at most */
    lf_row_budget rows;
    int queue_max; /* jobs that may wait besides n_seqs; 0: any number */
    lf_find_proposer_fn *find_proposer;
    void *cookie;           /* of find_proposer */
    lf_engine_stats *stats; /* counted in: what jobs and passes are */
} lf_sched_params;

/* Everything in params is borrowed. */
lf_status lf_sched_create(lf_sched **out, const lf_sched_params *params, lf_error *err);
void lf_sched_free(lf_sched *s); /* NULL is fine; every job must be removed */

/* Puts a job at the end of the queue. LF_ELIMIT: it is full. */
lf_status lf_sched_submit(lf_sched *s, lf_job *job, lf_error *err);

/* Takes a job out; its committed pages go to the prefix cache. While a step is running, an active one must stay. */
void lf_sched_remove(lf_sched *s, lf_job *job);

/* Admits whom there is room for and runs one pass over the active jobs. Afterwards the owner looks at the jobs of the step, and
 * removes those that have failed and those whose sequence is finished. Nothing is allocated but for jobs that are admitted. */
lf_status lf_sched_step(lf_sched *s, lf_step *step, lf_error *err);

/* Preempts the jobs that came last until n_pages are free or the prefix cache's alone. Not while a step is running. */
void lf_sched_make_room(lf_sched *s, int n_pages);

/* Job i of the last step, in the order they came, i < lf_sched_n_stepped; NULL when it has been removed since. */
int lf_sched_n_stepped(const lf_sched *s);
lf_job *lf_sched_stepped(const lf_sched *s, int i);

/* The jobs (n) that the last step preempted. */
const lf_step_preemption *lf_sched_preempted(const lf_sched *s, int *n);

/* The oldest job; NULL: none. How many are active, and how many wait. */
lf_job *lf_sched_first(const lf_sched *s);
int lf_sched_n_active(const lf_sched *s);
int lf_sched_n_queued(const lf_sched *s);

#endif
