/* The scheduler: who is decoded, in the order they came. A job is a sequence with what the scheduler knows of it; jobs that
 * are active have pages of the cache and rows in passes, the others wait. */
#ifndef LF_SCHED_SCHED_H
#define LF_SCHED_SCHED_H

#include "decode/round.h"
#include "kv/prefix.h"

typedef struct lf_sched lf_sched;
typedef struct lf_job lf_job;

/* What the owner fills in, zeroed otherwise, and keeps in place until the job is removed. */
struct lf_job {
    lf_seq *seq;           /* seq->kv is NULL unless the job is active */
    lf_proposer *proposer; /* NULL: plain decoding */
    bool no_prefix_cache;  /* neither read nor feed it */
    int pages_max;         /* pages it may come to hold: what admission counts */
    lf_error *err;         /* says why the job has failed */

    /* the scheduler's; the owner may read */
    lf_job *next;      /* in the order they came */
    bool active;       /* admitted: has a sequence of the cache */
    bool failed;       /* could not be admitted; the owner removes it */
    bool prefix_fed;   /* the prompt's pages are in the prefix cache */
    int cached_tokens; /* of the prompt, taken from the prefix cache */
    int64_t admitted_ns;
};

typedef struct lf_sched_params {
    lf_kv_pool *pool;
    lf_prefix *prefix;
    lf_round *round;
    int n_ctx;      /* positions of a sequence at most */
    int n_seqs;     /* active jobs at most */
    int batch_rows; /* rows of a pass */
} lf_sched_params;

/* Everything in params is borrowed. */
lf_status lf_sched_create(lf_sched **out, const lf_sched_params *params, lf_error *err);
void lf_sched_free(lf_sched *s); /* NULL is fine; every job must be removed */

/* Puts a job at the end of the queue. */
void lf_sched_submit(lf_sched *s, lf_job *job);

/* Takes a job out, whatever it is doing; its committed pages go to the prefix cache. Not while a step is running. */
void lf_sched_remove(lf_sched *s, lf_job *job);

/* Admits whom there is room for and runs one pass over the active jobs. Afterwards the jobs of the step are to be looked at: those
 * whose sequence is finished, or that have failed, are to be removed by their owner. Errors are those of lf_round_step. */
lf_status lf_sched_step(lf_sched *s, lf_step *step, lf_error *err);

/* The jobs (n) of the last step, in the order they came; valid until the next. */
lf_job *const *lf_sched_stepped(const lf_sched *s, int *n);

/* Every job, in the order they came; NULL: none. Counts of those that are active and those that wait. */
lf_job *lf_sched_first(const lf_sched *s);
int lf_sched_n_active(const lf_sched *s);
int lf_sched_n_queued(const lf_sched *s);

#endif
