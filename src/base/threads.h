/* A team of threads that runs one function together (SPMD) and meets at barriers.
 *
 * A forward pass is one lf_threads_run: the threads stay inside it for all layers and meet at cheap barriers, rather
 * than being forked and joined for each operator. A thread that waits spins for a short time and then sleeps, so that a
 * partner whose processor is taken away costs a time slice once and not a spinning core. */
#ifndef LF_BASE_THREADS_H
#define LF_BASE_THREADS_H

#include "base/status.h"

typedef struct lf_threads lf_threads;

enum { LF_THREADS_MAX = 256 };

/* The processors that this thread may use, 1 to LF_THREADS_MAX. */
int lf_threads_processors(void);

/* Starts n - 1 threads (the caller of lf_threads_run is the first of the team). pin: the started threads are bound to one
 * processor each, out of those the process may use. LF_EINVAL for n outside 1..LF_THREADS_MAX; LF_ENOMEM. */
lf_status lf_threads_create(lf_threads **out, int n, bool pin, lf_error *err);

/* Ends and joins the threads; NULL is fine. Not during a run. */
void lf_threads_free(lf_threads *t);

int lf_threads_count(const lf_threads *t);

/* Calls fn(arg, i) on every thread i of the team and returns when all have. From one thread at a time. */
void lf_threads_run(lf_threads *t, void (*fn)(void *arg, int i_thread), void *arg);

/* Inside a run: waits until every thread of the team has arrived, and makes their writes visible. It also restarts
 * lf_threads_take at 0. */
void lf_threads_barrier(lf_threads *t);

/* Inside a run: takes the next `chunk` items of the work between two barriers; the result is the first of them. Threads
 * share the count, so whoever is faster takes more. */
int lf_threads_take(lf_threads *t, int chunk);

#endif
