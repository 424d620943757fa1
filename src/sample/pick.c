#include "sample/pick.h"

#include "base/mem.h"
#include "sample/noise.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct candidate {
    float logit;
    int32_t id;
} candidate;

struct lf_picker {
    int n_vocab;
    lf_pick_highest_fn *highest;
    float *logits;         /* (n_vocab) a copy that the stages change */
    candidate *candidates; /* (n_vocab) those that are still in */
    uint32_t *allowed;     /* (ceil(n_vocab / 32)) */
    int32_t *counts;       /* (n_vocab) occurrences in the penalised history; all zero between picks */
};

void lf_pick_params_init(lf_pick_params *params)
{
    *params = (lf_pick_params){.top_p = 1.0f, .repetition_penalty = 1.0f, .repeat_last_n = 64};
}

static bool in_range(float value, float min, float max)
{
    return value >= min && value <= max; /* false for NaN */
}

lf_status lf_pick_params_check(const lf_pick_params *p, int n_vocab, lf_error *err)
{
    const struct {
        const char *name;
        float value, min, max;
    } ranges[] = {
        {"temperature", p->temperature, 0.0f, 1e6f},
        {"top_p", p->top_p, 0.0f, 1.0f},
        {"min_p", p->min_p, 0.0f, 1.0f},
        {"repetition_penalty", p->repetition_penalty, 1e-3f, 1e3f},
        {"frequency_penalty", p->frequency_penalty, -1e3f, 1e3f},
        {"presence_penalty", p->presence_penalty, -1e3f, 1e3f},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!in_range(ranges[i].value, ranges[i].min, ranges[i].max))
            return lf_fail(err, LF_EINVAL, "%s: found %g, expected %g to %g", ranges[i].name,
                           (double)ranges[i].value, (double)ranges[i].min, (double)ranges[i].max);
    if (p->top_k < 0) return lf_fail(err, LF_EINVAL, "top_k: found %d, expected 0 or more", p->top_k);
    if (p->repeat_last_n < -1)
        return lf_fail(err, LF_EINVAL, "repeat_last_n: found %d, expected -1 or more", p->repeat_last_n);
    for (int i = 0; i < p->n_bias; i++) {
        if (p->bias[i].id < 0 || p->bias[i].id >= n_vocab)
            return lf_fail(err, LF_EINVAL, "logit bias: found id %d, expected 0 to %d", (int)p->bias[i].id,
                           n_vocab - 1);
        if (isnan(p->bias[i].bias) || p->bias[i].bias == INFINITY)
            return lf_fail(err, LF_EINVAL, "logit bias of id %d: found %g, expected a finite number or -inf",
                           (int)p->bias[i].id, (double)p->bias[i].bias);
    }
    return LF_OK;
}

/* As kernel.h's highest, for a picker that was not given it. */
static float plain_highest(const float *x, int n)
{
    float max = -INFINITY;
    for (int i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    return max;
}

lf_status lf_picker_create(lf_picker **out, int n_vocab, lf_error *err)
{
    const size_t n = (size_t)n_vocab;
    lf_picker *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p) return lf_fail_memory(err, "a picker", sizeof *p);
    p->n_vocab = n_vocab;
    p->highest = plain_highest;
    p->logits = malloc(n * sizeof *p->logits);
    p->candidates = malloc(n * sizeof *p->candidates);
    p->allowed = malloc((n + 31) / 32 * sizeof *p->allowed);
    p->counts = calloc(n, sizeof *p->counts);
    if (!p->logits || !p->candidates || !p->allowed || !p->counts) {
        lf_picker_free(p);
        return lf_fail_memory(err, "a picker",
                              n * (sizeof *p->logits + sizeof *p->candidates + sizeof *p->counts));
    }
    *out = p;
    return LF_OK;
}

void lf_picker_use_highest(lf_picker *p, lf_pick_highest_fn *highest)
{
    p->highest = highest;
}

void lf_picker_free(lf_picker *p)
{
    if (!p) return;
    free(p->logits);
    free(p->candidates);
    free(p->allowed);
    free(p->counts);
    free(p);
}

/* ---- stages ---- */

/* The highest of x (n), NaN aside, and the first place where it is; -INFINITY, and some place, when there is nothing else. Only the part
 * that has it is searched for the place. */
static float highest(const lf_picker *p, const float *x, int n, int32_t *place)
{
    enum { PART = 256 };
    float max = -INFINITY;
    *place = 0;
    for (int i = 0; i < n; i += PART) {
        const float part = p->highest(x + i, n - i < PART ? n - i : PART);
        if (!(part > max)) continue;
        max = part;
        *place = i;
    }
    while (x[*place] != max && *place + 1 < n) ++*place;
    return max;
}

static bool changes_logits(const lf_pick_params *params)
{
    return params->n_bias > 0 || params->mask || params->repetition_penalty != 1.0f ||
           params->frequency_penalty != 0.0f || params->presence_penalty != 0.0f;
}

/* Counts each token of the window, then changes each distinct one once, by its count. */
static void apply_penalties(lf_picker *p, const int32_t *history, int n_history, const lf_pick_params *params)
{
    const int n = params->repeat_last_n < 0 || params->repeat_last_n > n_history ? n_history
                                                                                 : params->repeat_last_n;
    const int32_t *window = history + (n_history - n);
    for (int i = 0; i < n; i++) p->counts[window[i]]++;
    for (int i = 0; i < n; i++) {
        const int32_t id = window[i];
        if (p->counts[id] == 0) continue; /* done at an earlier occurrence */
        float *logit = &p->logits[id];
        *logit = *logit > 0.0f ? *logit / params->repetition_penalty : *logit * params->repetition_penalty;
        *logit -= (float)p->counts[id] * params->frequency_penalty;
        *logit -= params->presence_penalty;
        p->counts[id] = 0;
    }
}

static void apply_mask(lf_picker *p, const int32_t *history, int n_history, const lf_pick_params *params)
{
    memset(p->allowed, 0xff, ((size_t)p->n_vocab + 31) / 32 * sizeof *p->allowed);
    params->mask(params->mask_cookie, history, n_history, p->allowed);
    for (int i = 0; i < p->n_vocab; i++)
        if (!(p->allowed[i / 32] >> (i % 32) & 1)) p->logits[i] = -INFINITY;
}

/* Higher logit first, lower id first among equals: a total order, so that sorting has one result. */
static int compare_candidates(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

static void swap_candidates(candidate *a, candidate *b)
{
    const candidate t = *a;
    *a = *b;
    *b = t;
}

/* Brings the k first of the order to the front, in no particular order among themselves (quickselect). */
static void select_top(candidate *c, int n, int k)
{
    int begin = 0, end = n;
    while (end - begin > 1 && k > begin && k < end) {
        swap_candidates(&c[begin + (end - begin) / 2], &c[end - 1]);
        int boundary = begin;
        for (int i = begin; i < end - 1; i++)
            if (compare_candidates(&c[i], &c[end - 1]) < 0) swap_candidates(&c[i], &c[boundary++]);
        swap_candidates(&c[boundary], &c[end - 1]);
        if (k <= boundary)
            end = boundary;
        else
            begin = boundary + 1;
    }
}

/* How many of the n candidates, logits already relative to the highest and divided by T, top_p keeps: they come first. Few do as a
 * rule, so only as many are sorted as it takes. */
static int keep_top_p(candidate *c, int n, float top_p)
{
    static const float negligible =
        -40.0f; /* e^-40 of the highest: a million of them do not reach the sum's last bits */
    double sum = 0.0, reached = 0.0;
    int kept = 0;
    for (int i = 0; i < n; i++)
        if (c[i].logit > negligible) sum += exp((double)c[i].logit);
    for (int sorted = 0; kept < n && (kept == 0 || reached < (double)top_p * sum);) {
        if (kept == sorted) {
            const int more = sorted == 0 ? 64 : 3 * sorted;
            const int end = more < n - sorted ? sorted + more : n;
            select_top(c + sorted, n - sorted, end - sorted);
            qsort(c + sorted, (size_t)(end - sorted), sizeof *c, compare_candidates);
            sorted = end;
        }
        reached += exp((double)c[kept++].logit);
    }
    return kept;
}

static int keep_min_p(candidate *c, int n, float min_p)
{
    const float least = logf(min_p); /* logits are relative to the highest, whose probability is e^0 */
    int kept = 0;
    for (int i = 0; i < n; i++)
        if (c[i].logit >= least) c[kept++] = c[i];
    return kept;
}

/* The race of logit + noise. Most ids cannot win whatever their noise is, and most of the others not with the bits they have
 * drawn, so few logarithms are computed: rounding is monotone, so a bound of the noise gives a bound of the score. */
typedef struct race {
    uint64_t seed;
    int position;
    int32_t group;     /* whose noise bits are in words */
    uint32_t words[4]; /* one Philox call gives those of four neighbouring ids */
    int32_t best;      /* -1: nobody yet */
    float best_score;
} race;

static uint32_t noise_bits(race *r, int32_t id)
{
    if (r->group != id / 4) {
        const uint32_t key[2] = {(uint32_t)r->seed, (uint32_t)(r->seed >> 32)};
        const uint32_t counter[4] = {(uint32_t)id / 4, (uint32_t)r->position, 0, 0};
        lf_philox4x32(r->words, counter, key);
        r->group = id / 4;
    }
    return r->words[id % 4];
}

static void enter_race(race *r, float logit, int32_t id)
{
    if (logit + LF_NOISE_MAX < r->best_score) return;
    const uint32_t bits = noise_bits(r, id);
    if (logit + lf_noise_bound(bits) < r->best_score) return;
    const float score = logit + lf_noise_of(bits);
    if (r->best < 0 || score > r->best_score || (score == r->best_score && id < r->best)) {
        r->best = id;
        r->best_score = score;
    }
}

static bool filters(const lf_pick_params *params)
{
    return params->top_k > 0 || params->top_p < 1.0f || params->min_p > 0.0f;
}

/* Lets those enter that the filters keep; logits (n) are relative to the highest and divided by T. */
static void enter_filtered(race *r, candidate *c, int n, const lf_pick_params *params)
{
    if (params->top_k > 0 && params->top_k < n) {
        select_top(c, n, params->top_k);
        n = params->top_k;
    }
    if (params->top_p < 1.0f) n = keep_top_p(c, n, params->top_p);
    if (params->min_p > 0.0f) n = keep_min_p(c, n, params->min_p);
    for (int i = 0; i < n; i++) enter_race(r, c[i].logit, c[i].id);
}

/* max: the highest logit, and place where it is. */
static int32_t sample(lf_picker *p, const float *logits, float max, int32_t place, int position,
                      const lf_pick_params *params)
{
    race r = {.seed = params->seed, .position = position, .group = -1, .best = -1, .best_score = -INFINITY};
    const bool filtered = filters(params);
    int n = 0;
    if (!filtered) enter_race(&r, 0.0f, place); /* a good score to begin with */
    for (int32_t i = 0; i < p->n_vocab; i++) {
        /* relative to the highest: a small temperature cannot overflow */
        const float logit = (logits[i] - max) / params->temperature;
        if (!(logit > -INFINITY)) continue; /* NaN leaves, too */
        if (filtered)
            p->candidates[n++] = (candidate){logit, i};
        else
            enter_race(&r, logit, i);
    }
    if (filtered) enter_filtered(&r, p->candidates, n, params);
    return r.best;
}

int32_t lf_pick(lf_picker *p, const float *logits, const int32_t *history, int n_history,
                const lf_pick_params *params)
{
    if (changes_logits(params)) {
        memcpy(p->logits, logits, (size_t)p->n_vocab * sizeof *p->logits);
        for (int i = 0; i < params->n_bias; i++) p->logits[params->bias[i].id] += params->bias[i].bias;
        apply_penalties(p, history, n_history, params);
        if (params->mask) apply_mask(p, history, n_history, params);
        logits = p->logits;
    }
    int32_t place;
    const float max = highest(p, logits, p->n_vocab, &place);
    if (!isfinite(max)) return -1;
    return params->temperature > 0.0f ? sample(p, logits, max, place, n_history, params) : place;
}

void lf_pick_logprobs(lf_picker *p, const float *logits, int32_t id, float *logprob, lf_logprob *top,
                      int n_top)
{
    assert(n_top >= 0 && n_top <= p->n_vocab);
    int32_t place;
    const float max = highest(p, logits, p->n_vocab, &place);
    double sum = 0.0;
    for (int i = 0; i < p->n_vocab; i++) sum += exp((double)(logits[i] - max));
    /* cppcheck-suppress invalidFunctionArg ; the highest logit alone adds 1 */
    const double log_sum = log(sum);
    *logprob = (float)((double)(logits[id] - max) - log_sum);
    if (n_top == 0) return;
    for (int32_t i = 0; i < p->n_vocab; i++) p->candidates[i] = (candidate){logits[i], i};
    select_top(p->candidates, p->n_vocab, n_top);
    qsort(p->candidates, (size_t)n_top, sizeof *p->candidates, compare_candidates);
    for (int i = 0; i < n_top; i++)
        top[i] = (lf_logprob){p->candidates[i].id, (float)((double)(p->candidates[i].logit - max) - log_sum)};
}
