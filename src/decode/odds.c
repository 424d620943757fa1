#include "decode/odds.h"

#include <math.h>

static const double kind_weight = 8.0, seq_weight = 1.0;  /* of what is assumed: candidates, and wrong ones */
static const double kind_fading = 0.99, seq_fading = 0.9; /* with each judgement */
static const double forgetting = 0.98;

double lf_odds_rate(const lf_odds *kind, double prior)
{
    return (kind->wrong + prior * kind_weight) / (kind->expected + kind_weight);
}

double lf_odds_factor(const lf_odds *seq)
{
    return (seq->wrong + seq_weight) / (seq->expected + seq_weight);
}

double lf_odds_acceptance(double rate, double factor)
{
    static const double least = 0.002;
    return 1.0 - fmin(fmax(rate * factor, least), 1.0 - least);
}

void lf_odds_judge(lf_odds *kind, lf_odds *seq, double rate, int n_judged, int n_right)
{
    const double wrong = n_judged - n_right, factor = lf_odds_factor(seq);
    kind->wrong = kind_fading * kind->wrong + wrong;
    kind->expected = kind_fading * kind->expected + n_judged * factor;
    seq->wrong = seq_fading * seq->wrong + wrong;
    seq->expected = seq_fading * seq->expected + n_judged * rate;
}

void lf_odds_forget(lf_odds *kind)
{
    kind->wrong *= forgetting;
    kind->expected *= forgetting;
}
