/* A team of threads that runs one function together (SPMD) and meets at barriers.
 *
 * A forward pass is one lf_threads_run: the threads stay inside it for all layers and meet at cheap barriers, rather
 * than being forked and joined for each operator. A thread that waits spins for a short time and then sleeps.
 *
 * When others want the processors, too, a barrier waits for threads that do not run: a time slice of milliseconds, where
 * the work itself may take microseconds. So the caller watches how long it sleeps at barriers, and leaves out a thread
 * that makes a run longer than it would be without, for a while. What is computed must not depend on the number of threads;
 * here it never does. */
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

/* Calls fn(arg, i) for i = 0 .. k - 1 on k threads, the caller (i = 0) and those that are worth waiting for, and returns when
 * all have. 1 <= k <= lf_threads_count. From one thread at a time. */
void lf_threads_run(lf_threads *t, void (*fn)(void *arg, int i_thread), void *arg);

/* The same on n threads at most, the first ones of the team. */
void lf_threads_run_few(lf_threads *t, int n, void (*fn)(void *arg, int i_thread), void *arg);

/* The same on every thread of the team, whatever it costs. */
void lf_threads_run_all(lf_threads *t, void (*fn)(void *arg, int i_thread), void *arg);

/* Inside a run: waits until every thread of the run has arrived, and makes their writes visible. It also restarts
 * lf_threads_take at 0. */
void lf_threads_barrier(lf_threads *t);

/* Inside a run: takes the next `chunk` items of the work between two barriers; the result is the first of them. Threads
 * share the count, so whoever is faster takes more. */
int lf_threads_take(lf_threads *t, int chunk);

#endif
