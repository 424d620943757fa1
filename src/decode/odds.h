/* How often candidates are wrong. It is counted twice: for a kind of candidates over all sequences, and for a sequence against what its
 * kinds made expect. So a new sequence begins with what others found, and one that is easier or harder than others is known soon:
 *
 *   chance of being wrong, given that those before were right = rate of the kind * factor of the sequence
 *
 * Both counts fade, and both begin with a few observations that were never made, which is what they drift back to. */
#ifndef LF_DECODE_ODDS_H
#define LF_DECODE_ODDS_H

typedef struct lf_odds {
    double wrong; /* found */
    double
        expected; /* of a kind: candidates judged, each for as much as its sequence's factor; of a sequence: wrong ones expected */
} lf_odds;

/* The rate of a kind, of which `prior` is assumed before anything is known. */
double lf_odds_rate(const lf_odds *kind, double prior);

/* A sequence's factor. */
double lf_odds_factor(const lf_odds *seq);

/* The chance that a candidate is right: between a little more than 0 and a little less than 1. */
double lf_odds_acceptance(double rate, double factor);

/* Takes in that of n_judged candidates of a kind with this rate all were right, or all but the last. */
void lf_odds_judge(lf_odds *kind, lf_odds *seq, double rate, int n_judged, int n_right);

/* Forgets a little of a kind: what is not asked for long is tried again. */
void lf_odds_forget(lf_odds *kind);

#endif
