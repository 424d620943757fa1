/* How many threads of a team short runs should take: what more threads compute is lost to barriers where a run takes microseconds and
 * a cache line hundreds of nanoseconds from core to core, and on a machine that is shared that changes by the minute.
 *
 * So now and then a few runs take another number, half or twice as many, and are compared with what runs of their kind took before:
 *
 *   n n n n n  m m m  n n n n  m m m  n n n n  m m m  n n n n ...      three comparisons; then m stays if it was faster
 *              |  \ /
 *              |   the better one counts
 *              wakes a thread, perhaps
 *
 * One number serves all kinds: a thread that only some of them use is asleep when they need it. Comparing costs a two hundredth of the
 * time at most. Nothing here measures or runs: the caller does. */
#ifndef LF_BASE_TEAM_SIZE_H
#define LF_BASE_TEAM_SIZE_H

#include <stdbool.h>
#include <stdint.h>

enum { LF_RUN_KINDS = 8 };

/* Zeroed at first. */
typedef struct lf_team_size {
    int n, other;            /* threads that runs take, 0: all; that they are compared with */
    bool comparing;          /* runs take `other` */
    int n_runs;              /* of the comparison, or since the one before */
    int wait;                /* runs until the next one */
    double ns[LF_RUN_KINDS]; /* of each kind: what a run on n threads usually takes; 0: there was none */
    double least;            /* of this comparison: the logarithm of a run's time over what is usual */
    int n_compared;          /* comparisons with `other` */
    double longer;           /* the sum of their logarithms */
} lf_team_size;

/* The threads that the next run should take, 1 to n_max. kind, 0 to LF_RUN_KINDS - 1: such runs take about as long as each other. Long ones
 * take all threads. */
int lf_team_size_next(lf_team_size *s, int n_max, int kind);

/* That run took so long. */
void lf_team_size_observe(lf_team_size *s, int n_max, int kind, int64_t ns);

#endif
