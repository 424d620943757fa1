#include "base/team_size.h"

#include <math.h>

enum {
    SHORT_NS = 1000 * 1000, /* in longer runs barriers are nothing */
    RUNS = 3,               /* of a comparison */
    COMPARISONS = 3,        /* before one number is said to be better than another */
    PAUSE = 4,              /* runs between those */
    WAIT_LEAST = 64,        /* runs between one number and the next */
};

/* Half or twice as many, in turns where there are both. */
static int choose_other(const lf_team_size *s, int n_max)
{
    const bool up = s->n == 1 || (s->n < n_max && s->other < s->n);
    const int twice = 2 * s->n < n_max ? 2 * s->n : n_max;
    return up ? twice : s->n / 2;
}

/* Runs that more threads than are worth it cannot hurt, as far as is known. */
static bool are_long(const lf_team_size *s, int kind)
{
    return s->ns[kind] == 0.0 || s->ns[kind] > SHORT_NS;
}

int lf_team_size_next(lf_team_size *s, int n_max, int kind)
{
    if (s->n == 0 || s->n > n_max || s->other > n_max) {
        *s = (lf_team_size){.n = n_max, .wait = PAUSE};
        s->other = choose_other(s, n_max);
    }
    return are_long(s, kind) ? n_max : s->comparing ? s->other : s->n;
}

/* What is usual follows the quicker runs: the others were disturbed. */
static void observe_usual(lf_team_size *s, int kind, double ns)
{
    double *usual = &s->ns[kind];
    *usual += *usual == 0.0 ? ns : ns < *usual ? 0.5 * (ns - *usual) : 0.125 * fmin(ns - *usual, *usual);
}

/* The other number was compared as often as it takes: it stays, or another has its turn, after a time that makes this cheap. */
static void decide(lf_team_size *s, int n_max)
{
    static const double share = 0.005, clearly = 0.1;
    const double longer = s->longer / COMPARISONS;
    if (longer < -clearly) {
        s->n = s->other;
        for (int k = 0; k < LF_RUN_KINDS; k++)
            if (!are_long(s, k)) s->ns[k] *= exp(longer);
    }
    s->wait = (int)fmax(COMPARISONS * RUNS * expm1(longer) / share, WAIT_LEAST);
    s->other = choose_other(s, n_max);
    s->n_compared = 0;
    s->longer = 0.0;
}

void lf_team_size_observe(lf_team_size *s, int n_max, int kind, int64_t ns)
{
    static const double most = 2.0; /* a disturbance is no evidence of more */
    if (are_long(s, kind) || !s->comparing) {
        const bool counts = !are_long(s, kind) && n_max > 1;
        observe_usual(s, kind, (double)ns);
        if (!counts || ++s->n_runs < s->wait) return;
        s->comparing = true;
        s->n_runs = 0;
        s->least = most;
        return;
    }
    if (++s->n_runs > 1) s->least = fmin(s->least, log((double)ns / s->ns[kind]));
    if (s->n_runs < RUNS) return;
    s->comparing = false;
    s->n_runs = 0;
    s->wait = PAUSE;
    s->longer += fmax(s->least, -most);
    if (++s->n_compared == COMPARISONS) decide(s, n_max);
}
