/* The threads of a measurement, bound to processors: an unbound pair now and then shares one. */
#ifndef LF_BENCH_TEAM_H
#define LF_BENCH_TEAM_H

#include "base/threads.h"

#include <sched.h>

typedef struct bench_team {
    lf_threads *threads;
    bool fits;            /* there is a processor for each thread */
    cpu_set_t processors; /* the calling thread's, before it was bound to one of them */
    bool bound;
} bench_team;

/* n_threads 0: one for each processor. LF_ENOMEM. */
lf_status bench_team_open(bench_team *t, int n_threads, lf_error *err);

/* Binds the calling thread, the first of the team, to the first processor, if the team fits: its others have the next ones.
 * What looks at the number of processors (a probe) or inherits them (a peer) comes before. */
void bench_team_bind(bench_team *t);

void bench_team_close(bench_team *t); /* unbinds; a zeroed team is fine */

#endif
