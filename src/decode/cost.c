#include "decode/cost.h"

#include "base/clock.h"

#include <math.h>
#include <string.h>

/* ---- measuring ---- */

enum {
    BYTES = 192 << 20, /* of K and V that a pass reads: more than a cache holds, */
    DEPTH_MIN = 512,
    DEPTH_MAX = 8192, /* in so many positions */
    SWEEPS = 4,       /* at least, */
    SWEEPS_MAX =
        32, /* and more where they are short: a machine that does other work, too, has quiet moments */
    ROWS_MAX = 1 << (LF_COST_POINTS - 1)
};

typedef struct measuring {
    lf_forward *forward;
    lf_kv_seq *seq;
    lf_row rows[ROWS_MAX];
    int64_t end_ns, short_ns; /* when measuring has to end; when it takes no more sweeps than it needs */
} measuring;

/* The seconds of a pass over n rows behind the committed positions of the sequence. */
static double time_pass(measuring *m, int n)
{
    for (int i = 0; i < n; i++)
        m->rows[i] = (lf_row){
            .seq = m->seq, .token = 0, .pos = lf_kv_seq_len(m->seq) + i, .wants_logits = true};
    const int64_t start = lf_clock_ns();
    lf_forward_run(m->forward, m->rows, n);
    return (double)(lf_clock_ns() - start) * 1e-9;
}

/* Points of doubling rows, as far as rows_max and the time allow; returns how many. Whatever else runs on the machine only ever adds:
 * so the least of several sweeps counts, and no point may cost more than one of more rows. */
static int measure_points(measuring *m, double points[LF_COST_POINTS], int rows_max)
{
    int n = 0;
    for (int sweep = 0; sweep < SWEEPS_MAX && (sweep < SWEEPS || lf_clock_ns() < m->short_ns); sweep++)
        for (int i = 0; i < LF_COST_POINTS && 1 << i <= rows_max; i++) {
            if (n > 0 && lf_clock_ns() > m->end_ns) break;
            const double seconds = time_pass(m, 1 << i);
            points[i] = i < n ? fmin(points[i], seconds) : seconds;
            n = i < n ? n : i + 1;
        }
    for (int i = n - 2; i >= 0; i--) points[i] = fmin(points[i], points[i + 1]);
    return n;
}

static void give_time(measuring *m, double seconds)
{
    const int64_t now = lf_clock_ns();
    m->end_ns = now + (int64_t)(seconds * 1e9);
    m->short_ns = now + (int64_t)(seconds * 0.25e9);
}

/* Writes the slots of the first n positions: what was never written has no memory of its own, and would be read from the caches. */
static void touch(const lf_kv_seq *seq, const lf_kv_shape *shape, int n)
{
    for (int i = 0; i < shape->n_layers; i++)
        for (int h = 0; h < shape->n_kv_heads; h++)
            for (int t = 0; t < (n + LF_TILE_POS - 1) / LF_TILE_POS; t++)
                memset(lf_kv_seq_tile(seq, i, h, t), 0, shape->layout.tile_bytes);
}

/* Positions that a pass is measured over, besides its rows. */
static int choose_depth(const lf_kv_shape *shape, int n_ctx, int rows)
{
    const size_t each = (size_t)shape->n_layers * (size_t)shape->n_kv_heads * shape->layout.tile_bytes /
                        LF_TILE_POS;
    const int most = n_ctx - rows < DEPTH_MAX ? n_ctx - rows : DEPTH_MAX;
    const size_t n = BYTES / (each ? each : 1);
    if (n >= (size_t)most) return most;
    return n > DEPTH_MIN ? (int)n : DEPTH_MIN < most ? DEPTH_MIN : most;
}

lf_status lf_cost_measure(lf_cost *out, lf_forward *forward, lf_kv_pool *pool, int rows_max, int n_ctx,
                          double seconds_max, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_kv_shape *shape = lf_kv_pool_shape(pool);
    measuring m = {.forward = forward};
    const int rows = rows_max < n_ctx / 2 ? rows_max : n_ctx / 2, depth = choose_depth(shape, n_ctx, rows);
    const int n_pages = (depth + rows + LF_PAGE_POS - 1) / LF_PAGE_POS;
    lf_kv_pool *own = NULL;
    *out = (lf_cost){0};
    lf_cost_reset(out);
    if (n_ctx == 1) { /* no candidate fits the context: there is nothing to choose */
        out->n_pass = out->n_attend = 1;
        out->pass[0] = seconds_max;
        return LF_OK;
    }
    if (lf_kv_pool_n_free(pool) < n_pages) LF_TRY(lf_kv_pool_create(&own, shape, n_pages, err));
    LF_TRY(lf_kv_seq_open(&m.seq, own ? own : pool, n_ctx, err));
    LF_TRY(lf_kv_seq_reserve(m.seq, depth + rows, err));
    touch(m.seq, shape, depth + rows);
    (void)time_pass(&m, 1); /* wakes everything up */
    give_time(&m, seconds_max * 0.5);
    out->n_pass = measure_points(&m, out->pass, rows);
    lf_kv_seq_commit(m.seq, depth); /* whatever lies there: time does not depend on it */
    give_time(&m, seconds_max * 0.5);
    out->n_attend = measure_points(&m, out->attend, rows);
    for (int i = out->n_attend - 1; i >= 0; i--) {
        out->attend[i] = fmax(out->attend[i] - lf_cost_pass(out, 1 << i), 0.0) / depth;
        if (i < out->n_attend - 1) out->attend[i] = fmin(out->attend[i], out->attend[i + 1]);
    }
done:
    lf_kv_seq_close(m.seq);
    lf_kv_pool_free(own);
    return status;
}

void lf_cost_reset(lf_cost *c)
{
    memset(c->shift, 0, sizeof c->shift);
    c->target = c->candidates = c->draft = 1.0;
    c->draft_attend = 2.0; /* the tiles of a sparse view lie apart */
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
    return rows <= 0 ? 0.0 : interpolate(c->pass, c->n_pass, rows) + interpolate(c->shift, c->n_pass, rows);
}

double lf_cost_attend(const lf_cost *c, int rows)
{
    return rows <= 0 ? 0.0 : interpolate(c->attend, c->n_attend, rows);
}

double lf_cost_of_candidates(const lf_cost *c, int rows, int n, int len)
{
    return lf_cost_pass(c, rows + n) - lf_cost_pass(c, rows) +
           c->candidates * (lf_cost_attend(c, 1 + n) - lf_cost_attend(c, 1)) * len;
}

/* ---- correcting ---- */

static const double factor_least = 0.25, factor_most = 4.0;
static const double remembering =
    0.9995; /* of what was seen of candidates, in each pass that shows nothing of it */

static double clamp(double x, double least, double most)
{
    return fmin(fmax(x, least), most);
}

/* How much more than expected a pass is taken to have needed. What else the machine does only ever adds: what took less than expected
 * says more than what took longer, and what took twice as long says no more than that. */
static double believed_error(double expected, double seconds)
{
    static const double weight_below = 0.3, weight_above = 0.1, surprise = 2.0;
    return (seconds < expected ? weight_below : weight_above) *
           (clamp(seconds, expected / surprise, expected * surprise) - expected);
}

static void scale(double *factor, double by)
{
    *factor = clamp(*factor * by, factor_least, factor_most);
}

void lf_cost_correct(double *factor, double expected, double *other_factor, double other_expected,
                     double seconds)
{
    const double part = *factor * expected, other = *other_factor * other_expected, sum = part + other;
    if (!(sum > 0.0)) return;
    /* the smallest relative changes of both that explain the error, in part (Kaczmarz) */
    const double error = believed_error(sum, seconds) / (part * part + other * other);
    scale(factor, 1.0 + error * part);
    scale(other_factor, 1.0 + error * other);
}

/* Moves the point at 2^i rows, and those of more rows with it. No pass takes longer than one of more rows. */
static void shift_points(lf_cost *c, int i, double seconds)
{
    const double from = c->pass[i] + c->shift[i],
                 least = i > 0 ? c->pass[i - 1] + c->shift[i - 1] : factor_least * c->pass[0],
                 to = clamp(from + seconds, least, fmax(factor_most * c->pass[i], least));
    for (int j = i; j < c->n_pass; j++) c->shift[j] += to - from;
}

/* Lets what was seen of steps between points go, but for those to the points from i to last: they would not be tried again if it was an
 * accident. */
static void forget_steps(lf_cost *c, int i, int last)
{
    double before = c->shift[0];
    for (int j = 1; j < c->n_pass; j++) {
        const double step = c->shift[j] - before;
        before = c->shift[j];
        c->shift[j] = c->shift[j - 1] + (j >= i && j <= last ? 1.0 : remembering) * step;
    }
}

/* Moves the points about a number of rows, so that the pass takes so much longer. */
static void shift_pass(lf_cost *c, int rows, double seconds)
{
    int i = 0;
    while (i < c->n_pass - 1 && rows >= 2 << i) i++;
    const double above = i < c->n_pass - 1 ? (double)(rows - (1 << i)) / (1 << i) : 0.0;
    const int last = above > 0.0 ? i + 1 : i;
    shift_points(c, i, seconds * (1.0 - above));
    shift_points(c, last, seconds * above);
    forget_steps(c, i, last);
}

void lf_cost_correct_target(lf_cost *c, int rows, double attend, double more, double seconds)
{
    static const double gently = 0.3; /* choices between a few rows hang on small differences */
    const double pass = lf_cost_pass(c, rows), plain = c->target * attend, added = c->candidates * more,
                 sum = pass + plain + added;
    if (!(sum > 0.0)) return;
    const double error = believed_error(sum, seconds) / (pass * pass + plain * plain + added * added);
    shift_pass(c, rows, gently * error * pass * pass);
    scale(&c->target, 1.0 + error * plain);
    scale(&c->candidates, 1.0 + error * added);
    if (more == 0.0) c->candidates = 1.0 + remembering * (c->candidates - 1.0);
}

/* ---- planning ---- */

typedef struct plan {
    const lf_cost *c, *by;
    lf_cost_seq *seqs; /* (n) */
    int n, rows;       /* of the verify pass without candidates */
    double step;       /* its seconds */
    double rate;       /* what a second is worth, in tokens */
    /* How many sequences have a candidate at a place and how many draft it, as far as known: what a row costs depends on it. */
    int n_verifying[LF_DRAFT_MAX], n_drafting[LF_DRAFT_MAX];
    /* The seconds of a candidate at a place: of its row; for each position of its sequence; of its row of a draft pass. */
    double row[LF_DRAFT_MAX], attend[LF_DRAFT_MAX], draft_row[LF_DRAFT_MAX];
    double draft_idle; /* of a draft pass, whatever rows it has, */
    double draft_pos;  /* and for each position that a row of it sees */
    int n_places, n_candidates;
} plan;

static bool drafts(const lf_cost_seq *s)
{
    return s->way >= 0 && s->ways[s->way].draft_len > 0;
}

static void set_prices(plan *p)
{
    const lf_cost *c = p->c, *by = p->by;
    int rows = p->rows;
    p->draft_pos = by->draft_attend * lf_cost_attend(by, 1);
    p->draft_idle = by->draft * fmax(2 * lf_cost_pass(by, 1) - lf_cost_pass(by, 2), 0.0);
    for (int i = 0; i < p->n_places; i++) {
        const int n = p->n_verifying[i], n_drafting = p->n_drafting[i];
        p->row[i] = (lf_cost_pass(c, rows + n) - lf_cost_pass(c, rows)) / n;
        p->attend[i] = c->candidates * (lf_cost_attend(c, i + 2) - lf_cost_attend(c, i + 1));
        p->draft_row[i] = (by->draft * lf_cost_pass(by, n_drafting) - p->draft_idle) / n_drafting;
        rows += n;
    }
}

/* The half way from what was assumed to what came out, at least 1: all at once would turn back and forth. */
static int half_way(int from, int to)
{
    const int n = (from + to + (to > from)) / 2;
    return n > 1 ? n : 1;
}

static void count_places(plan *p)
{
    int n_verifying[LF_DRAFT_MAX] = {0}, n_drafting[LF_DRAFT_MAX] = {0};
    p->n_candidates = 0;
    for (int i = 0; i < p->n; i++) {
        p->n_candidates += p->seqs[i].g;
        for (int place = 0; place < p->seqs[i].g; place++) {
            n_verifying[place]++;
            n_drafting[place] += drafts(&p->seqs[i]);
        }
    }
    for (int i = 0; i < p->n_places; i++) {
        p->n_verifying[i] = half_way(p->n_verifying[i], n_verifying[i]);
        p->n_drafting[i] = half_way(p->n_drafting[i], n_drafting[i]);
    }
}

/* What the candidate at a place (from 0) brings beyond its seconds, in tokens. */
static double worth_of_candidate(const plan *p, const lf_cost_seq *s, const lf_cost_way *w, int place,
                                 double gain)
{
    double seconds = p->row[place] + p->attend[place] * s->len;
    if (w->draft_len > 0) seconds += p->draft_row[place] + p->draft_pos * w->draft_len;
    return gain - p->rate * seconds;
}

/* How many more are right with the candidate at a place, where that of the place before was `before`. */
static double gain_of(const lf_cost_way *w, int place, double before)
{
    return w->gains ? w->gains[place] : before * w->acceptance;
}

/* What a way is worth when as many of its candidates are taken as are best, *g of up to `most`. */
static double worth_of_way(const plan *p, const lf_cost_seq *s, const lf_cost_way *w, int most, int *g)
{
    const double odds = w->gains ? INFINITY : w->acceptance / (1.0 - w->acceptance);
    double worth = 0.0, best = 0.0, gain = 1.0;
    *g = 0;
    for (int place = 0; place < most && place < w->g_max; place++) {
        gain = gain_of(w, place, gain);
        worth += worth_of_candidate(p, s, w, place, gain);
        if (worth > best) {
            best = worth;
            *g = place + 1;
        } else if (worth + gain * odds <= best) { /* not even if all that follow cost nothing */
            break;
        }
    }
    return best;
}

/* The best way of a sequence by itself, and the best one without passes. */
static void choose_way(const plan *p, lf_cost_seq *s)
{
    double best = 0.0;
    s->way = s->spare_way = -1;
    s->g = s->spare_g = 0;
    s->spare_worth = 0.0;
    for (int i = 0; i < s->n_ways; i++) {
        int g;
        const double worth = s->ways[i].worth = worth_of_way(p, s, &s->ways[i], p->n_places, &g);
        if (worth > best) {
            best = worth;
            s->way = i;
            s->g = g;
        }
        if (s->ways[i].draft_len == 0 && worth > s->spare_worth) {
            s->spare_worth = worth;
            s->spare_way = i;
            s->spare_g = g;
        }
    }
}

/* How many draft passes are worth their seconds to all who draft together. */
static int count_passes(const plan *p)
{
    double best = 0.0, total = 0.0; /* tokens beyond what the spare ways are worth */
    int n_passes = 0, n_left = 1;
    for (int i = 0; i < p->n; i++) {
        lf_cost_seq *s = &p->seqs[i];
        s->worth = 0.0;
        s->most = s->spare_worth;
    }
    for (int place = 0; n_left > 0 && place < p->n_places; place++) {
        n_left = 0;
        for (int i = 0; i < p->n; i++) {
            lf_cost_seq *s = &p->seqs[i];
            if (!drafts(s) || s->g <= place) continue;
            const lf_cost_way *w = &s->ways[s->way];
            s->worth += worth_of_candidate(p, s, w, place, pow(w->acceptance, place + 1));
            if (s->worth > s->most) {
                total += s->worth - s->most;
                s->most = s->worth;
            }
            n_left++;
        }
        total -= n_left > 0 ? p->rate * p->draft_idle : 0.0;
        if (total <= best) continue;
        best = total;
        n_passes = place + 1;
    }
    return n_passes;
}

/* Chooses what is best where a second is worth `rate` tokens. */
static void choose(plan *p)
{
    set_prices(p);
    for (int i = 0; i < p->n; i++) choose_way(p, &p->seqs[i]);
    const int n_passes = count_passes(p);
    for (int i = 0; i < p->n; i++) {
        lf_cost_seq *s = &p->seqs[i];
        if (!drafts(s)) continue;
        if (worth_of_way(p, s, &s->ways[s->way], n_passes, &s->g) > s->spare_worth) continue;
        s->way = s->spare_way;
        s->g = s->spare_g;
    }
}

static int most_drafted(const lf_cost_seq *seqs, int n)
{
    int g = 0;
    for (int i = 0; i < n; i++)
        if (drafts(&seqs[i]) && seqs[i].g > g) g = seqs[i].g;
    return g;
}

double lf_cost_of_draft(const lf_cost *by, const lf_cost_seq *seqs, int n)
{
    const int g_most = most_drafted(seqs, n);
    double positions = 0.0, passes = 0.0;
    for (int i = 0; i < n; i++)
        if (drafts(&seqs[i])) positions += seqs[i].g * (double)seqs[i].ways[seqs[i].way].draft_len;
    for (int place = 1; place <= g_most; place++) {
        int n_here = 0;
        for (int i = 0; i < n; i++) n_here += drafts(&seqs[i]) && seqs[i].g >= place;
        passes += lf_cost_pass(by, n_here);
    }
    return by->draft * passes + by->draft_attend * lf_cost_attend(by, 1) * positions;
}

double lf_cost_of_jacobi_draft(const lf_cost *by, const lf_cost_seq *seqs, int n, double tokens_per_pass)
{
    const int g_most = most_drafted(seqs, n);
    double attend = 0.0, passes = 0.0;
    for (double settled = 0.0; settled < g_most; settled += tokens_per_pass) {
        int rows = 0;
        for (int i = 0; i < n; i++) {
            if (!drafts(&seqs[i])) continue;
            const int own = (int)ceil(fmax(seqs[i].g - settled, 0.0));
            attend += lf_cost_attend(by, own) * seqs[i].ways[seqs[i].way].draft_len;
            rows += own;
        }
        passes += lf_cost_pass(by, rows);
    }
    return by->draft * passes + by->draft_attend * attend;
}

double lf_cost_of_step(const lf_cost *c, const lf_cost_seq *seqs, int n, int other_rows)
{
    double positions = 0.0;
    for (int i = 0; i < n; i++) positions += seqs[i].len;
    return lf_cost_pass(c, n + other_rows) + c->target * lf_cost_attend(c, 1) * positions;
}

/* Tokens per second of what the sequences have. */
static double rate_of(const plan *p)
{
    const lf_cost *c = p->c;
    double tokens = 0.0, attend = 0.0;
    int rows = p->rows;
    for (int i = 0; i < p->n; i++) {
        const lf_cost_seq *s = &p->seqs[i];
        double gain = 1.0;
        tokens += 1.0;
        for (int place = 0; place < s->g; place++) tokens += gain = gain_of(&s->ways[s->way], place, gain);
        rows += s->g;
        attend += (lf_cost_attend(c, 1 + s->g) - lf_cost_attend(c, 1)) * s->len;
    }
    return tokens / (p->step + lf_cost_pass(c, rows) - lf_cost_pass(c, p->rows) + c->candidates * attend +
                     lf_cost_of_draft(p->by, p->seqs, p->n));
}

static void keep_best(plan *p)
{
    for (int i = 0; i < p->n; i++) {
        p->seqs[i].best_way = p->seqs[i].way;
        p->seqs[i].best_g = p->seqs[i].g;
    }
}

/* Candidates of a way that can be worth anything: one that is right once in a hundred times never is. */
static int count_candidates(const lf_cost_way *w)
{
    if (w->gains) return w->g_max;
    const double hopeful = log(0.01) / log(w->acceptance);
    return hopeful < w->g_max ? (int)hopeful : w->g_max;
}

static int most_candidates(const lf_cost_seq *seqs, int n)
{
    int most = 0;
    for (int i = 0; i < n; i++)
        for (int w = 0; w < seqs[i].n_ways; w++) {
            const int g = count_candidates(&seqs[i].ways[w]);
            most = g > most ? g : most;
        }
    return most;
}

/* Dinkelbach's method for the largest ratio of tokens to seconds: what is best at a rate gives a better rate, until none does. It
 * begins as if each sequence were alone with its candidates, where they cost least: if none pays then, none ever does. */
double lf_cost_plan(const lf_cost *c, const lf_cost *by, lf_cost_seq *seqs, int n, int other_rows)
{
    enum { PATIENCE = 3 };                 /* rounds that find nothing better */
    static const double worthwhile = 1.03; /* predictions are not better than that */
    plan p = {.c = c,
              .by = by,
              .seqs = seqs,
              .n = n,
              .rows = n + other_rows,
              .step = lf_cost_of_step(c, seqs, n, other_rows)};
    p.n_places = most_candidates(seqs, n);
    for (int i = 0; i < n; i++) {
        seqs[i].way = seqs[i].best_way = -1;
        seqs[i].g = seqs[i].best_g = 0;
    }
    for (int i = 0; i < p.n_places; i++) p.n_verifying[i] = p.n_drafting[i] = 1;
    const double plain = n / p.step;
    p.rate = plain;
    for (int left = PATIENCE; left > 0 && p.n_places > 0; left--) {
        choose(&p);
        count_places(&p);
        const double rate = rate_of(&p);
        if (rate > p.rate * 1.001) left = PATIENCE;
        if (rate > p.rate) {
            p.rate = rate;
            keep_best(&p);
        }
        if (p.n_candidates == 0) break;
    }
    const bool pays = p.rate > plain * worthwhile;
    for (int i = 0; i < n; i++) {
        seqs[i].way = pays ? seqs[i].best_way : -1;
        seqs[i].g = pays ? seqs[i].best_g : 0;
        for (int w = 0; w < seqs[i].n_ways && !pays; w++) seqs[i].ways[w].worth = 0.0;
    }
    return pays ? p.rate : plain;
}
