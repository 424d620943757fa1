/* The losses of distillation and the rows they are made on: gradients against PyTorch and against finite
 * differences in double precision; logits of packed rows against those of each text alone; which rows a
 * recipe packs. */
#include "train_fixture.h"
#include "train_reference.h"
#include "trajectory_fixture.h"

#include "train/consistency.h"
#include "train/data.h"
#include "train/pack.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 256 };

static const lf_pack_options CLLM = {.recipe = LF_DISTILL_CLLM, .context = ROWS};
static const lf_pack_options LOCAL = {.recipe = LF_DISTILL_CLLM, .local = true, .context = ROWS};
static const lf_pack_options PROGRESSIVE = {.recipe = LF_DISTILL_PROGRESSIVE, .window = 4, .context = ROWS};
static const lf_pack_options SYNTHETIC = {.recipe = LF_DISTILL_CLLM, .synthetic = 1.0, .context = ROWS};
static const lf_pack_options PLAIN = {.recipe = LF_DISTILL_AR, .context = ROWS};

static lf_net *make_net(const lf_params *p, int rows_max)
{
    lf_error err;
    lf_net *net;
    const lf_net_options options = {.rows_max = rows_max, .n_threads = 2};
    assert_ok(lf_net_create(&net, p, &options, &err), &err);
    return net;
}

static void make_pack(lf_pack *p, const lf_pack_options *options)
{
    lf_error err;
    assert_ok(lf_pack_create(p, ROWS, options, &err), &err);
}

/* Three trajectories of different lengths, the last block of the first full, that of the others not. */
typedef struct texts {
    made_trajectory list[3];
} texts;

static void make_texts(texts *x, int n_vocab, uint64_t seed)
{
    make_trajectory(&x->list[0], 7, 5, 15, n_vocab, seed);
    make_trajectory(&x->list[1], 1, 5, 12, n_vocab, seed + 1);
    make_trajectory(&x->list[2], 11, 5, 22, n_vocab, seed + 2);
}

static void free_texts(texts *x)
{
    for (int i = 0; i < 3; i++) free_trajectory(&x->list[i]);
}

static void pack_texts(lf_pack *p, const texts *x, const lf_pack_options *options, uint64_t key)
{
    make_pack(p, options);
    lf_pack_clear(p);
    for (int i = 0; i < 3; i++) assert_true(lf_pack_add(p, &x->list[i].t, key + (uint64_t)i));
    lf_pack_finish(p);
}

static double norm_of(const float *x, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* ---- finite differences ---- */

/* What the losses are made of, in double precision. Teachers are fixed: that is what stop-gradient means. */
typedef struct judged {
    const lf_params *p;
    lf_train_rows rows;
    const int32_t *target;
    int n_pairs;
    double pair_scale, target_scale, reverse_scale;
    const double *teacher; /* (rows.n, n_vocab) logits of all rows */
} judged;

static double log_sum_exp(const double *row, int n)
{
    double max = row[0], sum = 0.0;
    for (int i = 1; i < n; i++) max = fmax(max, row[i]);
    for (int i = 0; i < n; i++) sum += exp(row[i] - max);
    return max + log(sum);
}

/* The sum of a log(a / b) over the vocabulary. */
static double divergence(const double *a, const double *b, int n)
{
    const double a_shift = log_sum_exp(a, n), b_shift = log_sum_exp(b, n);
    double sum = 0.0;
    for (int i = 0; i < n; i++) sum += exp(a[i] - a_shift) * ((a[i] - a_shift) - (b[i] - b_shift));
    return sum;
}

static double plain_loss(const judged *j, const double *data)
{
    const int n_vocab = j->p->config.n_vocab;
    double *logits = calloc((size_t)(j->rows.n * n_vocab), sizeof *logits), loss = 0.0;
    reference_logits(logits, j->p, data, &j->rows);
    for (int i = 0; i < j->rows.n_picked; i++) {
        const double *row = logits + j->rows.picked[i] * n_vocab;
        const int32_t target = j->target[i];
        if (target >= 0) loss += j->target_scale * (log_sum_exp(row, n_vocab) - row[target]);
        if (target >= 0 && j->reverse_scale > 0.0)
            loss += j->reverse_scale * divergence(row, j->teacher + j->rows.picked[i] * n_vocab, n_vocab);
        if (i < 2 * j->n_pairs && i % 2 == 1)
            loss += j->pair_scale * divergence(j->teacher + j->rows.picked[i - 1] * n_vocab, row, n_vocab);
    }
    free(logits);
    return loss;
}

/* Every weight, along a random direction that all its elements have a part in. */
static void expect_true_gradients(const char *what, const judged *j, const float *grad)
{
    const lf_params *p = j->p;
    const double h = 1e-5;
    uint64_t seed = 77;
    double *data = malloc(p->n * sizeof *data), *direction = malloc(p->n * sizeof *direction);
    for (int i = 0; i < p->n_list; i++) {
        const lf_param *w = &p->list[i];
        const size_t n = (size_t)(w->n_out * w->n_in);
        double found = 0.0, loss[2];
        memset(direction, 0, p->n * sizeof *direction);
        for (size_t k = w->offset; k < w->offset + n; k++) {
            direction[k] = rng_next(&seed) & 1 ? 1.0 : -1.0;
            found += direction[k] * (double)grad[k];
        }
        for (int side = 0; side < 2; side++) {
            for (size_t k = 0; k < p->n; k++) data[k] = (double)p->data[k] + (side ? h : -h) * direction[k];
            loss[side] = plain_loss(j, data);
        }
        const double expected = (loss[1] - loss[0]) / (2.0 * h), norm = norm_of(grad + w->offset, n);
        if (norm == 0.0 || !(fabs(found - expected) <= 1e-4 * norm))
            fail_msg("%s: weight %d of layer %d: found derivative %g, expected %g; norm of the gradient %g",
                     what, (int)w->weight, w->i_layer, found, expected, norm);
    }
    free(data);
    free(direction);
}

/* The logits of p's own weights, in double precision. */
static double *logits_of(const lf_params *p, const lf_train_rows *rows)
{
    double *data = malloc(p->n * sizeof *data);
    double *logits = calloc((size_t)(rows->n * p->config.n_vocab), sizeof *logits);
    for (size_t i = 0; i < p->n; i++) data[i] = (double)p->data[i];
    reference_logits(logits, p, data, rows);
    free(data);
    return logits;
}

static double own_loss(const judged *j)
{
    double *data = malloc(j->p->n * sizeof *data);
    for (size_t i = 0; i < j->p->n; i++) data[i] = (double)j->p->data[i];
    const double loss = plain_loss(j, data);
    free(data);
    return loss;
}

static void check_pairs(const char *what, variant v, const lf_pack_options *options)
{
    const lf_config config = variant_config(v);
    lf_error err;
    lf_params p;
    texts x;
    lf_pack pack;
    double loss;
    make_params(&p, &config, 3);
    make_texts(&x, config.n_vocab, 9);
    pack_texts(&pack, &x, options, 21);
    assert_true(pack.n_pairs > 10);
    const lf_train_rows rows = lf_pack_rows(&pack);
    double *teacher = logits_of(&p, &rows);
    const judged j = {.p = &p,
                      .rows = rows,
                      .target = pack.target,
                      .n_pairs = pack.n_pairs,
                      .pair_scale = 0.5,
                      .target_scale = 0.01,
                      .teacher = teacher};
    lf_consistency c = {.n_pairs = pack.n_pairs,
                        .target = pack.target,
                        .pair_scale = j.pair_scale,
                        .target_scale = j.target_scale};
    lf_net *net = make_net(&p, ROWS);
    float *grad = calloc(p.n, sizeof *grad);
    assert_ok(lf_net_train(net, &rows, lf_consistency_loss, &c, grad, &loss, &err), &err);
    assert_true(fabs(loss - own_loss(&j)) < 1e-4 * loss);
    assert_true(fabs(loss - 0.5 * c.pair_sum - 0.01 * c.target_sum) < 1e-9 * loss && c.pair_sum > 0.0);
    expect_true_gradients(what, &j, grad);
    free(grad);
    free(teacher);
    lf_net_free(net);
    lf_pack_free(&pack);
    free_texts(&x);
    lf_params_free(&p);
}

static void test_pairs_by_differences(void **state)
{
    (void)state;
    check_pairs("global", VARIANT_GQA, &CLLM);
    if (TESTS_SHORT) return;
    check_pairs("local", VARIANT_BIAS, &LOCAL);
    check_pairs("progressive", VARIANT_TIED, &PROGRESSIVE);
    check_pairs("synthetic", VARIANT_QK_NORM, &SYNTHETIC);
}

static void test_reverse_by_differences(void **state)
{
    (void)state;
    const lf_config config = variant_config(VARIANT_GQA);
    lf_error err;
    lf_params p, other;
    texts x;
    lf_pack pack;
    double loss;
    make_params(&p, &config, 3);
    make_params(&other, &config, 4);
    make_texts(&x, config.n_vocab, 9);
    pack_texts(&pack, &x, &PLAIN, 21);
    const lf_train_rows rows = lf_pack_rows(&pack);
    double *teacher_logits = logits_of(&other, &rows);
    const judged j = {
        .p = &p, .rows = rows, .target = pack.target, .reverse_scale = 0.2, .teacher = teacher_logits};
    lf_net *net = make_net(&p, ROWS), *teacher = make_net(&other, ROWS), *same = make_net(&p, ROWS);
    lf_reverse_kl r = {.teacher = teacher, .target = pack.target, .scale = 0.2, .err = &err};
    float *grad = calloc(p.n, sizeof *grad);
    assert_ok(lf_net_forward(teacher, &rows, &err), &err);
    assert_ok(lf_net_train(net, &rows, lf_reverse_kl_loss, &r, grad, &loss, &err), &err);
    assert_true(r.status == LF_OK && fabs(loss - own_loss(&j)) < 1e-4 * loss);
    expect_true_gradients("reverse KL", &j, grad);

    memset(grad, 0, p.n * sizeof *grad);
    r.teacher = same; /* the model itself has nothing to teach */
    assert_ok(lf_net_forward(same, &rows, &err), &err);
    assert_ok(lf_net_train(net, &rows, lf_reverse_kl_loss, &r, grad, &loss, &err), &err);
    assert_true(fabs(loss) < 1e-6 && norm_of(grad, p.n) < 1e-5);
    free(grad);
    free(teacher_logits);
    lf_net_free(net);
    lf_net_free(teacher);
    lf_net_free(same);
    lf_pack_free(&pack);
    free_texts(&x);
    lf_params_free(&other);
    lf_params_free(&p);
}

/* More picked rows than a chunk of logits has, pairs and then targets, in any order. */
static void test_chunks(void **state)
{
    (void)state;
    enum { N = 700, PAIRS = 290 };
    const lf_config config = variant_config(VARIANT_TIED);
    lf_error err;
    lf_params p;
    batch b;
    double loss;
    int32_t *picked = malloc(N * sizeof *picked), *target = malloc(N * sizeof *target);
    uint64_t seed = 5;
    make_params(&p, &config, 3);
    make_batch(&b, N, config.n_vocab, PATTERN_PACKED, 5);
    for (int i = 0; i < N; i++) picked[i] = (int32_t)((i * 237 + 11) % N);
    for (int i = 0; i < N; i++)
        target[i] = i % 3 == 0 && (i >= 2 * PAIRS || i % 2 == 0) ? (int32_t)(rng_next(&seed) % 50) : -1;
    b.rows.picked = picked;
    b.rows.n_picked = N - 20;
    double *teacher = logits_of(&p, &b.rows);
    const judged j = {.p = &p,
                      .rows = b.rows,
                      .target = target,
                      .n_pairs = PAIRS,
                      .pair_scale = 0.01,
                      .target_scale = 0.03,
                      .teacher = teacher};
    lf_consistency c = {.n_pairs = PAIRS, .target = target, .pair_scale = 0.01, .target_scale = 0.03};
    lf_net *net = make_net(&p, N);
    float *grad = calloc(p.n, sizeof *grad);
    assert_ok(lf_net_train(net, &b.rows, lf_consistency_loss, &c, grad, &loss, &err), &err);
    assert_true(fabs(loss - own_loss(&j)) < 1e-4 * loss);
    if (!TESTS_SHORT) expect_true_gradients("chunks", &j, grad);
    lf_net_free(net);
    free(grad);
    free(teacher);
    free(picked);
    free(target);
    free_batch(&b);
    lf_params_free(&p);
}

/* ---- PyTorch ---- */

typedef struct golden {
    char *data;
    lf_train_rows rows;
    const int32_t *target;
    int n_pairs;
    float pair_scale, target_scale, loss;
    const float *grad;
} golden;

static void load_golden(golden *g, const char *path)
{
    size_t size;
    *g = (golden){.data = read_file(golden_path(path), &size)};
    const int32_t *at = (const int32_t *)(const void *)g->data;
    g->rows.n = at[0];
    g->n_pairs = at[1];
    g->rows.n_picked = at[2];
    const int32_t **const arrays[] = {&g->rows.token, &g->rows.pos, &g->rows.first, &g->rows.first_end,
                                      &g->rows.own};
    at += 3;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++, at += g->rows.n) *arrays[i] = at;
    g->rows.picked = at;
    g->target = at + g->rows.n_picked;
    const float *numbers = (const float *)(const void *)(g->target + g->rows.n_picked);
    g->pair_scale = numbers[0];
    g->target_scale = numbers[1];
    g->loss = numbers[2];
    g->grad = numbers + 3;
}

static void expect_golden(const char *path, const lf_params *p, const float *grad, double loss,
                          const golden *g, double tolerance)
{
    const float *expected = g->grad;
    if (!(fabs(loss - (double)g->loss) < tolerance * fmax(1.0, fabs(loss))))
        fail_msg("%s: found loss %g, expected %g", path, loss, (double)g->loss);
    for (int i = 0; i < p->n_list; i++) {
        const lf_param *w = &p->list[i];
        const size_t n = (size_t)(w->n_out * w->n_in);
        double sum = 0.0;
        for (size_t k = 0; k < n; k++) sum += pow((double)grad[w->offset + k] - (double)expected[k], 2);
        const double apart = sqrt(sum) / norm_of(expected, n);
        if (!(apart < tolerance))
            fail_msg("%s: weight %d of layer %d: gradient is %g of its norm apart, expected below %g", path,
                     (int)w->weight, w->i_layer, apart, tolerance);
        expected += n;
    }
}

static void check_golden(const char *path, variant v, uint64_t seed, bool bf16)
{
    const lf_net_options options = {.rows_max = 100, .n_threads = 2, .bf16 = bf16};
    const lf_config config = variant_config(v);
    lf_error err;
    lf_params p, other;
    lf_net *net, *teacher;
    golden g;
    double loss;
    make_params(&p, &config, seed);
    make_params(&other, &config, seed + 1);
    load_golden(&g, path);
    float *grad = calloc(p.n, sizeof *grad);
    assert_ok(lf_net_create(&net, &p, &options, &err), &err);
    assert_ok(lf_net_create(&teacher, &other, &options, &err), &err);
    if (g.n_pairs > 0) {
        lf_consistency c = {.n_pairs = g.n_pairs,
                            .target = g.target,
                            .pair_scale = (double)g.pair_scale,
                            .target_scale = (double)g.target_scale};
        assert_ok(lf_net_train(net, &g.rows, lf_consistency_loss, &c, grad, &loss, &err), &err);
    } else {
        lf_reverse_kl r = {
            .teacher = teacher, .target = g.target, .scale = (double)g.pair_scale, .err = &err};
        assert_ok(lf_net_forward(teacher, &g.rows, &err), &err);
        assert_ok(lf_net_train(net, &g.rows, lf_reverse_kl_loss, &r, grad, &loss, &err), &err);
    }
    expect_golden(path, &p, grad, loss, &g, bf16 ? 0.05 : 1e-5);
    lf_net_free(net);
    lf_net_free(teacher);
    free(grad);
    free(g.data);
    lf_params_free(&other);
    lf_params_free(&p);
}

static void test_pytorch(void **state)
{
    (void)state;
    for (int bf16 = 0; bf16 <= can_bf16(); bf16++) {
        check_golden("consistency/pairs.bin", VARIANT_GQA, 11, bf16);
        check_golden("consistency/pairs_tied.bin", VARIANT_QK_NORM, 12, bf16);
        check_golden("consistency/reverse.bin", VARIANT_BIAS, 13, bf16);
    }
}

/* ---- packed rows are rows of their texts ---- */

/* The logits after token `pos` of a text that stands alone, against those of a packed row. */
static void expect_same_logits(lf_net *alone, const int32_t *text, int pos, const float *packed, int n_vocab,
                               const char *what)
{
    int32_t place[ROWS], own[ROWS] = {0};
    const int32_t picked = pos;
    lf_error err;
    float *logits;
    for (int i = 0; i < ROWS; i++) place[i] = i;
    const lf_train_rows rows = {
        .n = pos + 1, .token = text, .pos = place, .own = own, .picked = &picked, .n_picked = 1};
    assert_ok(lf_net_forward(alone, &rows, &err), &err);
    assert_ok(lf_net_logits(alone, &logits, 0, 1, &err), &err);
    for (int i = 0; i < n_vocab; i++)
        if (!(fabsf(logits[i] - packed[i]) <= 2e-5f))
            fail_msg("%s: position %d: logit %d: found %g, expected %g", what, pos, i, (double)packed[i],
                     (double)logits[i]);
}

/* The text that a row sees, itself included; the result is its length. */
static int text_of_row(int32_t *text, const lf_pack *p, int row)
{
    int n = 0;
    for (int i = p->first[row]; i < p->first_end[row]; i++) text[n++] = p->token[i];
    for (int i = p->own[row]; i <= row; i++) text[n++] = p->token[i];
    return n;
}

/* What the text of a packed row must be, from its trajectory alone: prompt, then an output in which one
 * block is a state (CLLM), or all are (progressive). false when it is none of these. */
static bool is_text_of(const int32_t *text, int n_text, const lf_trajectory *t, lf_distill_recipe recipe)
{
    if (n_text < t->n_prompt || memcmp(text, t->prompt, (size_t)t->n_prompt * sizeof *text) != 0)
        return false;
    const int n_out = n_text - t->n_prompt;
    const int32_t *out = text + t->n_prompt;
    for (int b = 0; b * t->n < n_out; b++) {
        const int n = n_out - b * t->n < t->n ? n_out - b * t->n : t->n;
        const size_t bytes = (size_t)n * sizeof *out;
        const bool is_last = (b + 1) * t->n >= n_out;
        bool is_state = false;
        for (int i = 0; i < t->n_states[b]; i++)
            is_state |= memcmp(out + b * t->n, state_of(t, b, i), bytes) == 0;
        const bool is_clean = memcmp(out + b * t->n, state_of(t, b, -1), bytes) == 0;
        if (!is_state || (recipe == LF_DISTILL_CLLM && !is_last && !is_clean)) return false;
    }
    return true;
}

/* Every picked row, against its text in a net of its own; and that each text is one that the recipe has. */
static void check_packed(const char *what, variant v, const lf_pack_options *options)
{
    const lf_config config = variant_config(v);
    lf_error err;
    lf_params p;
    texts x;
    lf_pack pack;
    float *logits;
    make_params(&p, &config, 3);
    lf_net *net = make_net(&p, ROWS), *alone = make_net(&p, ROWS);
    make_texts(&x, config.n_vocab, 9);
    pack_texts(&pack, &x, options, 4);
    const lf_train_rows rows = lf_pack_rows(&pack);
    assert_true(pack.n_picked > 40 && pack.n_picked < LF_LOSS_ROWS_MAX);
    assert_ok(lf_net_forward(net, &rows, &err), &err);
    assert_ok(lf_net_logits(net, &logits, 0, pack.n_picked, &err), &err);
    for (int i = 0; i < pack.n_picked; i++) {
        int32_t text[ROWS];
        const int row = pack.picked[i], n_text = text_of_row(text, &pack, row);
        bool known = false;
        assert_int_equal(n_text, pack.pos[row] + 1);
        for (int k = 0; k < 3; k++) known |= is_text_of(text, n_text, &x.list[k].t, options->recipe);
        if (options->synthetic == 0.0 && !known) fail_msg("%s: row %d is of no trajectory", what, row);
        expect_same_logits(alone, text, n_text - 1, logits + (size_t)i * (size_t)config.n_vocab,
                           config.n_vocab, what);
    }
    lf_net_free(net);
    lf_net_free(alone);
    lf_pack_free(&pack);
    free_texts(&x);
    lf_params_free(&p);
}

static void test_packed_logits(void **state)
{
    (void)state;
    check_packed("global", VARIANT_GQA, &CLLM);
    check_packed("local", VARIANT_TIED, &LOCAL);
    check_packed("progressive", VARIANT_BIAS, &PROGRESSIVE);
    check_packed("synthetic", VARIANT_QK_NORM, &SYNTHETIC);
}

/* ---- which rows ---- */

static void expect_ints(const char *what, const int32_t *found, const int32_t *expected, int n)
{
    for (int i = 0; i < n; i++)
        if (found[i] != expected[i])
            fail_msg("%s[%d]: found %d, expected %d", what, i, found[i], expected[i]);
}

/* The drawing of pack.h: prompt of 3, blocks of 4; in block 0 token 2 is wrong, in block 1 token 1. The
 * output's last token, 18, has no row: nothing comes after it. */
static const int32_t DRAWN_PROMPT[] = {1, 2, 3}, DRAWN_COUNTS[] = {2, 2},
                     DRAWN_STATES[] = {10, 11, 50, 13, 10, 11, 12, 13, 14, 51, 16, 52, 14, 15, 16, 17};
static const lf_trajectory DRAWN = {.prompt = DRAWN_PROMPT,
                                    .n_prompt = 3,
                                    .n = 4,
                                    .n_blocks = 2,
                                    .n_states = DRAWN_COUNTS,
                                    .states = DRAWN_STATES,
                                    .n_output = 8};

static void test_rows_of_cllm(void **state)
{
    (void)state;
    const int32_t token[] = {1, 2, 3, 10, 11, 12, 13, 14, 15, 16, 50, 13, 51, 16};
    const int32_t pos[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 5, 6, 8, 9};
    const int32_t end[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 5, 8, 8};
    const int32_t own[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 10, 12, 12};
    const int32_t picked[] = {5, 10, 6, 11, 8, 12, 9, 13, 2, 3, 4, 7};
    const int32_t target[] = {13, -1, 14, -1, 16, -1, 17, -1, 10, 11, 12, 15};
    lf_pack p;
    make_pack(&p, &CLLM);
    lf_pack_clear(&p);
    assert_true(lf_pack_add(&p, &DRAWN, 1));
    lf_pack_finish(&p);
    assert_int_equal(p.n_seen, 14);
    assert_int_equal(p.n_rows, LF_BATCH_ROUND);
    assert_int_equal(p.n_pairs, 4);
    assert_int_equal(p.n_picked, 12);
    assert_int_equal(p.n_targets, 8);
    expect_ints("token", p.token, token, 14);
    expect_ints("pos", p.pos, pos, 14);
    expect_ints("first_end", p.first_end, end, 14);
    expect_ints("own", p.own, own, 14);
    expect_ints("picked", p.picked, picked, 12);
    expect_ints("target", p.target, target, 12);
    lf_pack_free(&p);
}

/* The same under progressive noise: the copy goes on from its first wrong token to the end. With two
 * levels and this phase block 0 has the noise, or block 1 alone: then block 0 needs no copy. */
static void test_rows_of_progressive(void **state)
{
    (void)state;
    const int32_t both[] = {50, 13, 14, 15, 16}, second[] = {51, 16};
    lf_pack_options options = PROGRESSIVE;
    options.window = 2;
    lf_pack p;
    make_pack(&p, &options);
    bool seen[2] = {false, false};
    for (uint64_t key = 0; key < 8; key++) {
        lf_pack_clear(&p);
        assert_true(lf_pack_add(&p, &DRAWN, key));
        lf_pack_finish(&p);
        const bool begins = p.token[10] == 50;
        const int n = begins ? 5 : 2;
        seen[begins] = true;
        assert_int_equal(p.n_seen, 10 + n);
        assert_int_equal(p.n_pairs, n);
        expect_ints("token", p.token + 10, begins ? both : second, n);
        for (int i = 10; i < 10 + n; i++) {
            assert_int_equal(p.pos[i], 10 - n + i - 10);
            assert_int_equal(p.first_end[i], begins ? 5 : 8);
            assert_int_equal(p.own[i], 10);
            assert_int_equal(p.picked[2 * (i - 10)], i - n);
            assert_int_equal(p.picked[2 * (i - 10) + 1], i);
        }
    }
    assert_true(seen[0] && seen[1]);
    lf_pack_free(&p);
}

/* The levels of noise follow each other block by block, from anywhere in the cycle. */
static void test_levels(void **state)
{
    (void)state;
    enum { N = 8, BLOCKS = 6, WINDOW = 4 };
    int32_t prompt[] = {1}, counts[BLOCKS], states[BLOCKS * N * N];
    for (int b = 0; b < BLOCKS; b++) { /* state i has i right tokens, the last all of them */
        counts[b] = N;
        for (int i = 0; i < N; i++)
            for (int k = 0; k < N; k++)
                states[(b * N + i) * N + k] = k < i || i == N - 1 ? 2 + b * N + k : 100;
    }
    const lf_trajectory t = {.prompt = prompt,
                             .n_prompt = 1,
                             .n = N,
                             .n_blocks = BLOCKS,
                             .n_states = counts,
                             .states = states,
                             .n_output = BLOCKS * N};
    lf_pack p;
    lf_pack_options options = PROGRESSIVE;
    options.window = WINDOW;
    make_pack(&p, &options);
    int phases = 0;
    for (uint64_t key = 0; key < 40; key++) {
        lf_pack_clear(&p);
        assert_true(lf_pack_add(&p, &t, key));
        int n_wrong[BLOCKS] = {0}, phase = -1;
        for (int i = BLOCKS * N; i < p.n_rows; i++) n_wrong[(p.pos[i] - 1) / N] += p.token[i] == 100;
        for (int k = 0; k < WINDOW;
             k++) { /* a level of k in 4 makes 2 k of 8 tokens wrong; the last has no row */
            bool fits = true;
            for (int b = 0; b < BLOCKS; b++) {
                const int wrong = 2 * ((b + k) % WINDOW) - (b == BLOCKS - 1 && (b + k) % WINDOW > 0);
                fits &= n_wrong[b] == wrong;
            }
            if (fits) phase = k;
        }
        assert_true(phase >= 0);
        phases |= 1 << phase;
    }
    assert_int_equal(phases, 15);
    lf_pack_free(&p);
}

/* Noise from the text: right tokens, and then only tokens that stand before the block. */
static void test_synthetic(void **state)
{
    (void)state;
    made_trajectory m;
    lf_pack p;
    int n_begins[8] = {0};
    make_trajectory(&m, 5, 6, 24, 1000000, 3);
    make_pack(&p, &SYNTHETIC);
    for (uint64_t key = 0; key < 60; key++) {
        lf_pack_clear(&p);
        assert_true(lf_pack_add(&p, &m.t, key));
        for (int row = 5 + 23; row < p.n_rows; row++) {
            const int i = p.pos[row] - 5, block = i / 6;
            bool before = false;
            for (int k = 0; k < 5; k++) before |= p.token[row] == m.prompt[k];
            for (int k = 0; k < block * 6; k++) before |= p.token[row] == output_of(&m.t, k);
            assert_true(before);
            if (p.own[row] == row) n_begins[i % 6]++;
        }
    }
    for (int i = 0; i < 6; i++)
        assert_in_range(n_begins[i], 5, 100); /* 240 blocks, 6 lengths, the last cut */
    lf_pack_free(&p);
    free_trajectory(&m);
}

/* Every state but the fixed point is drawn; the same key draws the same. */
static void test_draws(void **state)
{
    (void)state;
    made_trajectory m;
    lf_pack p, q;
    do {
        static uint64_t seed = 40;
        make_trajectory(&m, 3, 8, 8, 50, seed++);
        if (m.n_states[0] == 5) break;
        free_trajectory(&m);
    } while (true);
    int n_seen[5] = {0};
    make_pack(&p, &CLLM);
    make_pack(&q, &CLLM);
    for (uint64_t key = 0; key < 100; key++) {
        lf_pack_clear(&p);
        lf_pack_clear(&q);
        assert_true(lf_pack_add(&p, &m.t, key) && lf_pack_add(&q, &m.t, key));
        assert_int_equal(p.n_rows, q.n_rows);
        assert_memory_equal(p.token, q.token, (size_t)p.n_rows * sizeof *p.token);
        n_seen[p.pos[10] - 3 == 0 ? 0 : (p.pos[10] - 3) * 5 / 8 + 1]++;
    }
    for (int i = 0; i < 4; i++) assert_in_range(n_seen[i], 10, 50);
    assert_int_equal(n_seen[4], 0);
    lf_pack_free(&p);
    lf_pack_free(&q);
    free_trajectory(&m);
}

/* Whole blocks beyond the context or the batch are left out; what does not fit changes nothing. */
static void test_room(void **state)
{
    (void)state;
    lf_error err;
    lf_pack p;
    made_trajectory m;
    lf_pack_options options = CLLM;
    make_trajectory(&m, 10, 5, 30, 50, 3);
    for (options.context = 5; options.context <= 45; options.context++) {
        const int n_fit = options.context < 15 ? 0 : (options.context - 10) / 5;
        const int n_blocks = n_fit < 6 ? n_fit : 6;
        make_pack(&p, &options);
        lf_pack_clear(&p);
        assert_true(lf_pack_takes(&p, &m.t) == (n_blocks > 0));
        if (n_blocks > 0) {
            assert_true(lf_pack_add(&p, &m.t, 1));
            lf_pack_finish(&p);
            assert_int_equal(p.n_targets, n_blocks < 6 ? 5 * n_blocks + 1 : 30);
            for (int i = 0; i < p.n_seen; i++) assert_true(p.pos[i] < options.context);
        }
        lf_pack_free(&p);
    }
    options.context = ROWS;
    assert_ok(lf_pack_create(&p, 60, &options, &err), &err); /* 10 + 2 * 5 * 5: five blocks of the six */
    lf_pack_clear(&p);
    assert_true(lf_pack_add(&p, &m.t, 1));
    const int n_rows = p.n_rows, n_pairs = p.n_pairs, n_targets = p.n_targets;
    assert_int_equal(n_targets, 26);
    assert_false(lf_pack_add(&p, &m.t, 2));
    assert_true(p.n_rows == n_rows && p.n_pairs == n_pairs && p.n_targets == n_targets);
    lf_pack_finish(&p);
    assert_true(p.n_rows <= 60);
    lf_pack_free(&p);
    assert_ok(lf_pack_create(&p, 19, &options, &err), &err);
    assert_false(lf_pack_takes(&p, &m.t));
    lf_pack_free(&p);
    free_trajectory(&m);
}

/* Prompts count when they are asked to, and each row is picked once. */
static void test_picks(void **state)
{
    (void)state;
    const lf_pack_options *const recipes[] = {&CLLM, &LOCAL, &PROGRESSIVE, &SYNTHETIC, &PLAIN};
    texts x;
    lf_pack p;
    make_texts(&x, 50, 2);
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        for (int with_prompt = 0; with_prompt < 2; with_prompt++) {
            lf_pack_options options = *recipes[i];
            bool is_picked[ROWS] = {false};
            int n_targets = 0;
            options.train_prompt = with_prompt;
            pack_texts(&p, &x, &options, 8);
            for (int k = 0; k < p.n_picked; k++) {
                assert_false(is_picked[p.picked[k]]);
                is_picked[p.picked[k]] = true;
                n_targets += p.target[k] >= 0;
                assert_true(k < 2 * p.n_pairs || p.target[k] >= 0);
            }
            assert_int_equal(n_targets, p.n_targets);
            assert_int_equal(n_targets, 15 + 12 + 22 + (with_prompt ? 6 + 0 + 10 : 0));
            assert_true((p.n_pairs > 0) == (options.recipe != LF_DISTILL_AR));
            lf_pack_free(&p);
        }
    }
    free_texts(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs_by_differences),
        cmocka_unit_test(test_reverse_by_differences),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_pytorch),
        cmocka_unit_test(test_packed_logits),
        cmocka_unit_test(test_rows_of_cllm),
        cmocka_unit_test(test_rows_of_progressive),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_synthetic),
        cmocka_unit_test(test_draws),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_picks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
