/* sample/: each stage of the pick against its definition, and samples against the exact distribution. */
#include "testing.h"

#include "sample/noise.h"
#include "sample/pick.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 12 };

static const float logits[VOCAB] = {1.0f, -0.5f, 2.0f,      0.3f, 2.0f,  -3.0f,
                                    0.0f, 1.7f,  -INFINITY, 0.9f, -1.2f, 1.1f};

static int32_t pick(const lf_pick_params *p, const int32_t *history, int n)
{
    lf_error err;
    lf_picker *picker;
    assert_ok(lf_pick_params_check(p, VOCAB, &err), &err);
    assert_ok(lf_picker_create(&picker, VOCAB, &err), &err);
    const int32_t id = lf_pick(picker, logits, history, n, p);
    lf_picker_free(picker);
    return id;
}

static void test_greedy_takes_the_lowest_of_the_highest(void **state)
{
    (void)state;
    lf_pick_params p;
    lf_pick_params_init(&p);
    assert_int_equal(pick(&p, NULL, 0), 2); /* 2 and 4 are equal */
    const lf_bias bias[] = {{4, 0.5f}, {9, 100.0f}, {9, -INFINITY}};
    p.bias = bias;
    p.n_bias = 3;
    assert_int_equal(pick(&p, NULL, 0), 4);
}

static void test_penalties(void **state)
{
    (void)state;
    const int32_t history[] = {7, 2, 4, 4, 0};
    lf_pick_params p;
    lf_pick_params_init(&p);
    p.presence_penalty = 0.35f;
    assert_int_equal(pick(&p, history, 5), 2); /* 2, 4: 1.65; 7: 1.35 */
    p.frequency_penalty = 0.4f;
    assert_int_equal(pick(&p, history, 5), 2); /* 2: 1.25; 4: 0.85; 7: 0.95; 11: 1.1 */
    p.frequency_penalty = 0.6f;
    assert_int_equal(pick(&p, history, 5), 11); /* 2: 1.05 */
    p.repeat_last_n = 1;
    assert_int_equal(pick(&p, history, 5), 2);
    lf_pick_params_init(&p);
    p.repetition_penalty = 1.5f; /* 2, 4: 1.33; 7: 1.13 */
    assert_int_equal(pick(&p, history, 5), 2);
    p.repetition_penalty = 2.0f; /* 2, 4: 1.0; 7: 0.85; 0: 0.5; 11 is untouched: 1.1 */
    assert_int_equal(pick(&p, history, 5), 11);
}

static void mask_even(void *cookie, const int32_t *history, int n_history, uint32_t *allowed)
{
    (void)cookie, (void)history, (void)n_history;
    allowed[0] &= 0xAAAAAAAAu;
}

static void mask_all(void *cookie, const int32_t *history, int n_history, uint32_t *allowed)
{
    (void)cookie, (void)history, (void)n_history;
    allowed[0] = 0;
}

static void test_mask(void **state)
{
    (void)state;
    lf_pick_params p;
    lf_pick_params_init(&p);
    p.mask = mask_even;
    assert_int_equal(pick(&p, NULL, 0), 7);
    p.temperature = 5.0f;
    for (uint64_t seed = 0; seed < 200; seed++) {
        p.seed = seed;
        assert_int_equal(pick(&p, NULL, 0) % 2, 1);
    }
    p.mask = mask_all;
    assert_int_equal(pick(&p, NULL, 0), -1);
}

static void test_not_finite(void **state)
{
    (void)state;
    lf_error err;
    lf_picker *picker;
    lf_pick_params p;
    lf_pick_params_init(&p);
    assert_ok(lf_picker_create(&picker, 3, &err), &err);
    const float nan[3] = {NAN, NAN, NAN}, inf[3] = {0, INFINITY, 0},
                none[3] = {-INFINITY, -INFINITY, -INFINITY};
    const float some[3] = {NAN, 1.0f, 0.5f};
    assert_int_equal(lf_pick(picker, nan, NULL, 0, &p), -1);
    assert_int_equal(lf_pick(picker, inf, NULL, 0, &p), -1);
    assert_int_equal(lf_pick(picker, none, NULL, 0, &p), -1);
    assert_int_equal(lf_pick(picker, some, NULL, 0, &p), 1);
    lf_picker_free(picker);
}

/* The probabilities that the stages leave, by their definitions. */
static void exact_distribution(double out[VOCAB], const lf_pick_params *p)
{
    double sum = 0, highest = 0;
    int order[VOCAB];
    for (int i = 0; i < VOCAB; i++) {
        out[i] = exp((double)logits[i] / (double)p->temperature);
        order[i] = i;
    }
    for (int i = 0; i < VOCAB; i++) /* by probability, then id */
        for (int j = i + 1; j < VOCAB; j++)
            if (out[order[j]] > out[order[i]] || (out[order[j]] == out[order[i]] && order[j] < order[i])) {
                const int t = order[i];
                order[i] = order[j];
                order[j] = t;
            }
    for (int i = 0; i < VOCAB; i++)
        if (p->top_k > 0 && i >= p->top_k) out[order[i]] = 0;
    for (int i = 0; i < VOCAB; i++) sum += out[i];
    double reached = 0;
    for (int i = 0; i < VOCAB; i++) {
        const double mine = out[order[i]];
        if (i > 0 && reached >= (double)p->top_p * sum) out[order[i]] = 0;
        reached += mine;
    }
    highest = out[order[0]];
    sum = 0;
    for (int i = 0; i < VOCAB; i++) {
        if (out[i] < (double)p->min_p * highest) out[i] = 0;
        sum += out[i];
    }
    for (int i = 0; i < VOCAB; i++) out[i] /= sum;
}

/* Over seeds at one position, and over positions with one seed: 40,000 samples each against the exact probabilities. With 11
 * degrees of freedom chi-square exceeds 38 once in 10,000 runs; the seeds are fixed. */
static void check_distribution(const lf_pick_params *params, bool by_position)
{
    enum { N = 40000 };
    lf_error err;
    lf_picker *picker;
    lf_pick_params p = *params;
    double expected[VOCAB], chi2 = 0;
    int counts[VOCAB] = {0};
    exact_distribution(expected, &p);
    assert_ok(lf_picker_create(&picker, VOCAB, &err), &err);
    int32_t *history = calloc(N, sizeof *history);
    for (int i = 0; i < N; i++) {
        p.seed = by_position ? 77 : (uint64_t)i;
        counts[lf_pick(picker, logits, history, by_position ? i : 3, &p)]++;
    }
    for (int i = 0; i < VOCAB; i++) {
        if (expected[i] == 0)
            assert_int_equal(counts[i], 0);
        else
            chi2 += (counts[i] - N * expected[i]) * (counts[i] - N * expected[i]) / (N * expected[i]);
    }
    if (chi2 > 38.0) fail_msg("chi-square %g, expected below 38", chi2);
    free(history);
    lf_picker_free(picker);
}

static void test_samples_have_the_exact_distribution(void **state)
{
    (void)state;
    lf_pick_params p;
    for (int i = 0; i < 6; i++) {
        lf_pick_params_init(&p);
        p.temperature = i == 1 ? 0.5f : i == 2 ? 2.0f : 1.0f;
        if (i == 3) p.top_k = 4;
        if (i == 4) p.top_p = 0.7f;
        if (i == 5) p.min_p = 0.2f, p.top_k = 8;
        check_distribution(&p, false);
        check_distribution(&p, true);
    }
}

/* All bits that there are: 2^23 of them. */
static void test_bound_of_the_noise(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 1u << 23; k++) {
        const float noise = lf_noise_of(k << 9), bound = lf_noise_bound(k << 9);
        if (noise > bound || bound > LF_NOISE_MAX)
            fail_msg("bits %u: found noise %g, expected %g at most", k, (double)noise, (double)bound);
    }
}

/* The pick by its definition, every score computed and every id sorted. */
static int32_t plain_pick(const float *x, int n, int position, const lf_pick_params *p)
{
    float max = -INFINITY, best_score = -INFINITY;
    double sum = 0, reached = 0;
    int32_t best = -1;
    bool *out = calloc((size_t)n, sizeof *out);
    for (int i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int i = 0; i < n; i++) sum += exp((double)((x[i] - max) / p->temperature));
    for (;;) {
        int32_t next = -1; /* the next likeliest */
        for (int i = 0; i < n; i++)
            if (!out[i] && (next < 0 || x[i] > x[next])) next = i;
        if (next < 0 || (best >= 0 && reached >= (double)p->top_p * sum)) break;
        out[next] = true;
        const float logit = (x[next] - max) / p->temperature;
        reached += exp((double)logit);
        uint32_t words[4];
        lf_philox4x32(words, (uint32_t[4]){(uint32_t)next / 4, (uint32_t)position, 0, 0},
                      (uint32_t[2]){(uint32_t)p->seed, (uint32_t)(p->seed >> 32)});
        const float score = logit + lf_noise_of(words[next % 4]);
        if (best < 0 || score > best_score || (score == best_score && next < best)) {
            best = next;
            best_score = score;
        }
    }
    free(out);
    return best;
}

/* The highest is found in parts: wherever it is, the first of equal ones, zeros of both signs among them, and NaN is none. */
static void test_greedy_finds_the_first_of_the_highest(void **state)
{
    (void)state;
    enum { N = 1100 };
    static float x[N];
    lf_pick_params p;
    uint64_t rng = 1;
    lf_pick_params_init(&p);
    for (int i = 0; i < 3000; i++) {
        lf_error err;
        lf_picker *picker;
        const int n = i % 3 == 0 ? N : 1 + (int)(rng_next(&rng) % N);
        int32_t first = -1;
        for (int k = 0; k < n; k++) {
            const uint64_t bits = rng_next(&rng);
            x[k] = bits % 8 == 0 ? NAN : bits % 8 == 1 ? -INFINITY : -(float)(bits >> 8 & (i % 2 ? 1023 : 3));
        }
        for (int k = 0; k < n; k++)
            if (x[k] > -INFINITY && (first < 0 || x[k] > x[first])) first = k;
        assert_ok(lf_picker_create(&picker, n, &err), &err);
        assert_int_equal(lf_pick(picker, x, NULL, 0, &p), first);
        lf_picker_free(picker);
    }
}

/* Flat and steep logits over vocabularies of some thousands: what is left out could not have won. */
static void test_picks_follow_the_definition(void **state)
{
    (void)state;
    enum { N = 3001 };
    static const float spreads[] = {0.0f, 1.0f, 5.0f, 30.0f};
    static float x[N];
    lf_error err;
    lf_picker *picker;
    lf_pick_params p;
    assert_ok(lf_picker_create(&picker, N, &err), &err);
    lf_pick_params_init(&p);
    for (int round = 0; round < 120; round++) {
        uint32_t words[4];
        for (int i = 0; i < N; i++) {
            lf_philox4x32(words, (uint32_t[4]){(uint32_t)i, (uint32_t)round, 1, 0}, (uint32_t[2]){5, 6});
            x[i] = spreads[round % 4] * (lf_unit_open(words[0]) - lf_unit_open(words[1]));
        }
        p.seed = (uint64_t)round;
        p.temperature = round % 3 ? 0.7f : 1.5f;
        p.top_p = round % 5 ? 1.0f : 0.9f;
        assert_int_equal(lf_pick(picker, x, (int32_t[1]){0}, 1, &p), plain_pick(x, N, 1, &p));
    }
    lf_picker_free(picker);
}

static void test_logprobs(void **state)
{
    (void)state;
    lf_error err;
    lf_picker *picker;
    float logprob;
    lf_logprob top[VOCAB];
    double sum = 0, total = 0;
    assert_ok(lf_picker_create(&picker, VOCAB, &err), &err);
    for (int i = 0; i < VOCAB; i++) sum += exp((double)logits[i]);
    lf_pick_logprobs(picker, logits, 7, &logprob, top, VOCAB);
    assert_true(fabs((double)logprob - (1.7 - log(sum))) < 1e-6);
    assert_int_equal(top[0].id, 2);
    assert_int_equal(top[1].id, 4);
    assert_int_equal(top[2].id, 7);
    assert_int_equal(top[VOCAB - 1].id, 8);
    for (int i = 0; i < VOCAB; i++) total += exp((double)top[i].logprob);
    assert_true(fabs(total - 1) < 1e-6);
    lf_picker_free(picker);
}

static void test_parameters_out_of_range(void **state)
{
    (void)state;
    lf_error err;
    lf_pick_params p;
    const lf_bias beyond = {VOCAB, 1.0f};
    const struct {
        float temperature, top_p, min_p, repetition;
        int top_k;
        const char *fragment;
    } cases[] = {
        {-1, 1, 0, 1, 0, "temperature: found -1"},    {NAN, 1, 0, 1, 0, "temperature: found"},
        {1, 1.5f, 0, 1, 0, "top_p: found 1.5"},       {1, 1, -0.1f, 1, 0, "min_p: found -0.1"},
        {1, 1, 0, 0, 0, "repetition_penalty: found"}, {1, 1, 0, 1, -2, "top_k: found -2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lf_pick_params_init(&p);
        p.temperature = cases[i].temperature;
        p.top_p = cases[i].top_p;
        p.min_p = cases[i].min_p;
        p.repetition_penalty = cases[i].repetition;
        p.top_k = cases[i].top_k;
        assert_int_equal(lf_pick_params_check(&p, VOCAB, &err), LF_EINVAL);
        assert_non_null(strstr(err.text, cases[i].fragment));
    }
    lf_pick_params_init(&p);
    p.bias = &beyond;
    p.n_bias = 1;
    assert_int_equal(lf_pick_params_check(&p, VOCAB, &err), LF_EINVAL);
    assert_non_null(strstr(err.text, "found id 12, expected 0 to 11"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_takes_the_lowest_of_the_highest),
        cmocka_unit_test(test_penalties),
        cmocka_unit_test(test_mask),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_samples_have_the_exact_distribution),
        cmocka_unit_test(test_bound_of_the_noise),
        cmocka_unit_test(test_picks_follow_the_definition),
        cmocka_unit_test(test_greedy_finds_the_first_of_the_highest),
        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_parameters_out_of_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
