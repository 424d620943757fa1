#include "decode/cost.h"

#include "base/clock.h"

#include <math.h>
#include <string.h>

/* ---- measuring ---- */

enum { DEPTH = 2048, REPEATS = 3, ROWS_MAX = 1 << (LF_COST_POINTS - 1) };

typedef struct measuring {
    lf_forward *forward;
    lf_kv_seq *seq;
    lf_row rows[ROWS_MAX];
    int64_t end_ns;
} measuring;

/* The least seconds of some passes over n rows behind the committed positions of the sequence. */
static double time_pass(measuring *m, int n)
{
    double least = INFINITY;
    for (int i = 0; i < n; i++)
        m->rows[i] = (lf_row){
            .seq = m->seq, .token = 0, .pos = lf_kv_seq_len(m->seq) + i, .wants_logits = true};
    for (int i = 0; i < REPEATS; i++) {
        const int64_t start = lf_clock_ns();
        lf_forward_run(m->forward, m->rows, n);
        least = fmin(least, (double)(lf_clock_ns() - start) * 1e-9);
        if (lf_clock_ns() > m->end_ns) break;
    }
    return least;
}

/* Points of doubling rows, as far as rows_max and the time allow; returns how many. */
static int measure_points(measuring *m, double points[LF_COST_POINTS], int rows_max)
{
    int n = 0;
    while (n < LF_COST_POINTS && 1 << n <= rows_max && (n == 0 || lf_clock_ns() < m->end_ns)) {
        points[n] = time_pass(m, 1 << n);
        n++;
    }
    return n;
}

lf_status lf_cost_measure(lf_cost *out, lf_forward *forward, lf_kv_pool *pool, int rows_max, int n_ctx,
                          double seconds_max, lf_error *err)
{
    lf_status status = LF_OK;
    measuring m = {.forward = forward, .end_ns = lf_clock_ns() + (int64_t)(seconds_max * 0.5e9)};
    const int rows = rows_max < n_ctx / 2 ? rows_max : n_ctx / 2;
    const int depth = n_ctx - rows < DEPTH ? n_ctx - rows : DEPTH;
    const int n_pages = (depth + rows + LF_PAGE_POS - 1) / LF_PAGE_POS;
    lf_kv_pool *own = NULL;
    *out = (lf_cost){.target = 1.0, .draft = 1.0};
    if (n_ctx == 1) { /* no candidate fits the context: there is nothing to choose */
        out->n_pass = out->n_attend = 1;
        out->pass[0] = seconds_max;
        return LF_OK;
    }
    if (lf_kv_pool_n_free(pool) < n_pages)
        LF_TRY(lf_kv_pool_create(&own, lf_kv_pool_shape(pool), n_pages, err));
    LF_TRY(lf_kv_seq_open(&m.seq, own ? own : pool, n_ctx, err));
    LF_TRY(lf_kv_seq_reserve(m.seq, depth + rows, err));
    (void)time_pass(&m, 1); /* wakes everything up */
    out->n_pass = measure_points(&m, out->pass, rows);
    lf_kv_seq_commit(m.seq, depth); /* whatever lies there: time does not depend on it */
    m.end_ns += (int64_t)(seconds_max * 0.5e9);
    out->n_attend = measure_points(&m, out->attend, rows);
    for (int i = 0; i < out->n_attend; i++)
        out->attend[i] = fmax(out->attend[i] - lf_cost_pass(out, 1 << i), 0.0) / depth;
done:
    lf_kv_seq_close(m.seq);
    lf_kv_pool_free(own);
    return status;
}

bool lf_cost_is_known(const lf_cost *c)
{
    return c->n_pass > 0;
}

/* ---- predicting ---- */

/* A function that is known at 1, 2, 4, ... 2^(n - 1), lines between them, its last line past them. */
static double interpolate(const double *points, int n, int x)
{
    if (x <= 1 || n == 1) return points[0] * (n == 1 && x > 1 ? x : 1); /* one point: in proportion */
    int i = 0;
    while (i < n - 2 && x > 2 << i) i++;
    const double from = 1 << i, share = (x - from) / from;
    return points[i] + share * (points[i + 1] - points[i]);
}

double lf_cost_pass(const lf_cost *c, int rows)
{
    return rows <= 0 ? 0.0 : interpolate(c->pass, c->n_pass, rows);
}

double lf_cost_attend(const lf_cost *c, int rows)
{
    return rows <= 0 ? 0.0 : interpolate(c->attend, c->n_attend, rows);
}

double lf_cost_of_candidate(const lf_cost *c, int rows, int own, int len)
{
    return c->target * (lf_cost_pass(c, rows + 1) - lf_cost_pass(c, rows) +
                        (lf_cost_attend(c, own + 1) - lf_cost_attend(c, own)) * len);
}

void lf_cost_correct(double *factor, double expected, double seconds)
{
    static const double weight = 0.1, least = 0.25, most = 4.0;
    if (expected <= 0.0) return;
    const double seen = fmin(fmax(seconds / expected, least), most);
    *factor += weight * (seen - *factor);
}

/* ---- planning ---- */

/* Adds a candidate wherever that is worth more than `rate` tokens a second, place by place: the chance that it is right against the
 * seconds that it and its row of a draft pass take, and all of a place together against what that pass takes anyway. */
static void choose(const lf_cost *c, const lf_cost *by, lf_cost_seq *seqs, int n, int other_rows, double rate)
{
    int rows = n + other_rows;
    for (int i = 0; i < n; i++) seqs[i].g = 0;
    for (int place = 1;; place++) {
        double gain = 0.0;
        int n_here = 0;
        for (int i = 0; i < n; i++) {
            lf_cost_seq *s = &seqs[i];
            if (s->g != place - 1 || s->g_max < place) continue;
            const double row = lf_cost_pass(by, n_here + 2) - lf_cost_pass(by, n_here + 1);
            const double draft = by->draft * (lf_cost_attend(by, 1) * s->draft_len + row);
            const double worth = pow(s->acceptance, place) -
                                 rate * (draft + lf_cost_of_candidate(c, rows + n_here, place, s->len));
            if (worth <= 0.0) continue;
            gain += worth;
            s->g = place;
            n_here++;
        }
        /* the first row has paid for itself, too: what is left of a draft pass is what no row makes more of */
        if (n_here > 0 && gain > rate * by->draft * (2 * lf_cost_pass(by, 1) - lf_cost_pass(by, 2))) {
            rows += n_here;
            continue;
        }
        for (int i = 0; i < n; i++)
            if (seqs[i].g == place) seqs[i].g = place - 1;
        return;
    }
}

static int most_candidates(const lf_cost_seq *seqs, int n)
{
    int g = 0;
    for (int i = 0; i < n; i++) g = seqs[i].g > g ? seqs[i].g : g;
    return g;
}

double lf_cost_of_draft(const lf_cost *by, const lf_cost_seq *seqs, int n)
{
    const int g_most = most_candidates(seqs, n);
    double seconds = 0.0;
    for (int i = 0; i < n; i++) seconds += seqs[i].g * lf_cost_attend(by, 1) * seqs[i].draft_len;
    for (int place = 1; place <= g_most; place++) {
        int n_here = 0;
        for (int i = 0; i < n; i++) n_here += seqs[i].g >= place;
        seconds += lf_cost_pass(by, n_here);
    }
    return by->draft * seconds;
}

double lf_cost_of_jacobi_draft(const lf_cost *by, const lf_cost_seq *seqs, int n, double tokens_per_pass)
{
    const int g_most = most_candidates(seqs, n);
    double seconds = 0.0;
    for (double settled = 0.0; settled < g_most; settled += tokens_per_pass) {
        int rows = 0;
        for (int i = 0; i < n; i++) {
            const int own = (int)ceil(fmax(seqs[i].g - settled, 0.0));
            seconds += lf_cost_attend(by, own) * seqs[i].draft_len;
            rows += own;
        }
        seconds += lf_cost_pass(by, rows);
    }
    return by->draft * seconds;
}

/* Tokens per second of the g that the sequences have. */
static double rate_of(const lf_cost *c, const lf_cost *by, const lf_cost_seq *seqs, int n, int other_rows)
{
    double tokens = 0.0, attend = 0.0;
    int rows = other_rows;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= seqs[i].g; j++) tokens += pow(seqs[i].acceptance, j);
        rows += 1 + seqs[i].g;
        attend += lf_cost_attend(c, 1 + seqs[i].g) * seqs[i].len;
    }
    return tokens / (c->target * (lf_cost_pass(c, rows) + attend) + lf_cost_of_draft(by, seqs, n));
}

/* Dinkelbach's method for the largest ratio of tokens to seconds: what is best at a rate gives a better rate, until none does. */
double lf_cost_plan(const lf_cost *c, const lf_cost *by, lf_cost_seq *seqs, int n, int other_rows)
{
    enum { ROUNDS = 5 };
    static const double worthwhile = 1.03; /* predictions are not better than that */
    for (int i = 0; i < n; i++) seqs[i].g = 0;
    const double plain = rate_of(c, by, seqs, n, other_rows);
    double rate = plain;
    for (int i = 0; i < ROUNDS; i++) {
        choose(c, by, seqs, n, other_rows, rate);
        const double better = rate_of(c, by, seqs, n, other_rows);
        if (better <= rate * 1.001) break;
        rate = better;
    }
    choose(c, by, seqs, n, other_rows, rate);
    rate = rate_of(c, by, seqs, n, other_rows);
    if (rate >= plain * worthwhile) return rate;
    for (int i = 0; i < n; i++) seqs[i].g = 0;
    return plain;
}
