/* The optimiser and adapters: AdamW and ten training losses against PyTorch, overfitting, LoRA. */
#include "oom.h"
#include "train_fixture.h"

#include "train/adamw.h"
#include "train/lora.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* ---- AdamW ---- */

/* The model of golden/train/adamw.bin. */
static lf_config small_bias_config(void)
{
    lf_config c = variant_config(VARIANT_BIAS);
    c.n_layers = 1;
    c.dim = 16;
    c.head_dim = 8;
    c.ffn_dim = 9;
    c.n_vocab = 11;
    return c;
}

/* Golden files hold weights without the padding between them. */
static const float *unpack(float *to, const float *from, const lf_params *p)
{
    for (int i = 0; i < p->n_list; i++) {
        const size_t n = (size_t)(p->list[i].n_out * p->list[i].n_in);
        memcpy(to + p->list[i].offset, from, n * sizeof *to);
        from += n;
    }
    return from;
}

static double largest_difference(const float *x, const float *y, size_t n)
{
    double largest = 0.0;
    for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)x[i] - (double)y[i]));
    return largest;
}

static void test_adamw_steps(void **state)
{
    (void)state;
    const lf_config config = small_bias_config();
    const lf_adamw_params settings = {
        .lr = 3e-3f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .clip = 1.0f};
    lf_error err;
    lf_params p;
    lf_adamw adam;
    size_t size;
    assert_ok(lf_params_create(&p, &config, &err), &err);
    assert_ok(lf_adamw_create(&adam, p.n, &err), &err);
    float *grad = calloc(p.n, sizeof *grad), *expected = calloc(p.n, sizeof *expected);
    char *golden = read_file(golden_path("train/adamw.bin"), &size);
    const float *at = unpack(p.data, (const float *)(void *)golden, &p);
    for (int step = 0; step < 3; step++) {
        double norm;
        at = unpack(grad, at, &p);
        const double expected_norm = (double)*at++;
        at = unpack(expected, at, &p);
        assert_true(lf_adamw_step(&adam, &p, grad, &settings, &norm));
        assert_true(fabs(norm - expected_norm) < 1e-6 * expected_norm);
        const double apart = largest_difference(p.data, expected, p.n);
        if (!(apart < 2e-7)) fail_msg("step %d: weights are %g apart, expected below 2e-7", step, apart);
        for (size_t i = 0; i < p.n; i++) assert_true(grad[i] == 0.0f);
    }
    assert_int_equal(at - (const float *)(void *)golden, size / sizeof(float));
    assert_int_equal(adam.step, 3);
    free(golden);
    free(grad);
    free(expected);
    lf_adamw_free(&adam);
    lf_params_free(&p);
}

/* The same bits on any number of threads, for a buffer of several chunks. */
static void test_adamw_threads(void **state)
{
    (void)state;
    lf_config config = variant_config(VARIANT_GQA);
    config.n_vocab = 2000;
    const lf_adamw_params settings = {.lr = 1e-2f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .clip = 0.5f};
    const int threads_before = omp_get_max_threads();
    double norms[3];
    lf_params p[3];
    for (int i = 0; i < 3; i++) {
        lf_error err;
        lf_adamw adam;
        uint64_t seed = 8;
        make_params(&p[i], &config, 7);
        assert_ok(lf_adamw_create(&adam, p[i].n, &err), &err);
        float *grad = calloc(p[i].n, sizeof *grad);
        for (size_t j = 0; j < p[i].n; j++) grad[j] = rng_uniform(&seed);
        omp_set_num_threads(i + 1);
        assert_true(lf_adamw_step(&adam, &p[i], grad, &settings, &norms[i]));
        assert_true(norms[i] == norms[0]);
        assert_memory_equal(p[i].data, p[0].data, p[0].n * sizeof(float));
        free(grad);
        lf_adamw_free(&adam);
    }
    for (int i = 0; i < 3; i++) lf_params_free(&p[i]);
    omp_set_num_threads(threads_before);
}

/* A gradient that is not finite is refused, and nothing has changed. */
static void test_adamw_not_finite(void **state)
{
    (void)state;
    const lf_config config = small_bias_config();
    const lf_adamw_params settings = {.lr = 1.0f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f};
    const float bad[] = {NAN, INFINITY, 1e30f}; /* the square of the last is fine in double */
    for (int i = 0; i < 3; i++) {
        lf_error err;
        lf_params p, before;
        lf_adamw adam;
        double norm;
        make_params(&p, &config, 1);
        make_params(&before, &config, 1);
        assert_ok(lf_adamw_create(&adam, p.n, &err), &err);
        float *grad = calloc(p.n, sizeof *grad);
        grad[p.n / 2] = bad[i];
        assert_int_equal(lf_adamw_step(&adam, &p, grad, &settings, &norm), i == 2);
        if (i < 2) {
            assert_true(isnan(norm) || isinf(norm));
            assert_int_equal(adam.step, 0);
            assert_memory_equal(p.data, before.data, p.n * sizeof(float));
        }
        free(grad);
        lf_adamw_free(&adam);
        lf_params_free(&p);
        lf_params_free(&before);
    }
}

static void test_adamw_memory_failures(void **state)
{
    (void)state;
    oom_require();
    lf_error err;
    lf_adamw adam;
    for (long n = 1;; n++) {
        const long live = oom_live();
        oom_fail_at(n);
        const lf_status status = lf_adamw_create(&adam, 1000, &err);
        const bool all_succeeded = oom_count() < n;
        oom_off();
        if (all_succeeded) break;
        assert_int_equal(status, LF_ENOMEM);
        assert_int_equal(oom_live(), live);
    }
    lf_adamw_free(&adam);
}

/* ---- training ---- */

/* A model in training. */
typedef struct trainee {
    lf_params p;
    lf_net *net;
    lf_adamw adam;
    float *grad;
} trainee;

static void open_trainee(trainee *t, const lf_params *p, int rows, bool bf16)
{
    lf_error err;
    const lf_net_options options = {.rows_max = rows, .n_threads = 2, .bf16 = bf16};
    t->p = *p;
    assert_ok(lf_net_create(&t->net, &t->p, &options, &err), &err);
    assert_ok(lf_adamw_create(&t->adam, t->p.n, &err), &err);
    t->grad = calloc(t->p.n, sizeof *t->grad);
}

static void close_trainee(trainee *t)
{
    lf_net_free(t->net);
    lf_adamw_free(&t->adam);
    lf_params_free(&t->p);
    free(t->grad);
}

/* One step; the loss before it. */
static double train_step(trainee *t, const batch *b, const lf_adamw_params *settings, double *norm)
{
    lf_error err;
    double loss;
    lf_cross_entropy ce = b->ce;
    assert_ok(lf_net_train(t->net, &b->rows, lf_cross_entropy_loss, &ce, t->grad, &loss, &err), &err);
    assert_true(lf_adamw_step(&t->adam, &t->p, t->grad, settings, norm));
    lf_net_params_changed(t->net);
    return loss;
}

static void test_ten_losses(void **state)
{
    (void)state;
    const lf_config config = variant_config(VARIANT_TIED);
    const lf_adamw_params settings = {
        .lr = 1e-2f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .clip = 1.0f};
    lf_params p;
    trainee t;
    batch b;
    const float *expected;
    char *golden;
    make_params(&p, &config, 5);
    load_batch(&b, &expected, &golden, "train/losses.bin");
    open_trainee(&t, &p, b.rows.n, false);
    for (int i = 0; i < 10; i++) {
        double norm;
        const double loss = train_step(&t, &b, &settings, &norm);
        const double expected_loss = (double)expected[i], expected_norm = (double)expected[10 + i];
        if (!(fabs(loss - expected_loss) < 1e-4 && fabs(norm - expected_norm) < 1e-3))
            fail_msg("step %d: found loss %.6f, norm %.6f; expected %.6f, %.6f", i, loss, norm, expected_loss,
                     expected_norm);
    }
    free(golden);
    free_batch(&b);
    close_trainee(&t);
}

/* A page of text as bytes, each the target of the one before. */
static void make_page(batch *b, int n)
{
    static const char page[] =
        "The Row law. A row is one token at one position of one sequence inside a forward pass. Every number "
        "computed for a row depends only on the weights, the row's token and position, and the K/V at the positions "
        "it sees. It never depends on which other rows are in the pass, on the number of threads, on how the prompt "
        "was cut into chunks, on which pages hold the K/V, or on whether they were computed now or found in the cache.";
    assert_true(n < (int)sizeof page);
    make_batch(b, n, 128, PATTERN_WHOLE, 1);
    for (int i = 0; i < n; i++) {
        b->token[i] = page[i];
        b->target[i] = page[i + 1];
        b->weight[i] = 1.0f;
    }
}

static void test_overfit(void **state)
{
    (void)state;
    enum { N = 400 };
    lf_config config = variant_config(VARIANT_QK_NORM);
    config.dim = 64;
    config.head_dim = 32;
    config.ffn_dim = 128;
    config.n_vocab = 128;
    const lf_adamw_params settings = {.lr = 1e-2f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .clip = 1.0f};
    for (int bf16 = 0; bf16 <= can_bf16(); bf16++) {
        lf_error err;
        lf_params p;
        trainee t;
        batch b;
        double loss = INFINITY, norm;
        int n_steps = 0;
        make_page(&b, N);
        assert_ok(lf_params_create(&p, &config, &err), &err);
        lf_params_init_random(&p, 3);
        open_trainee(&t, &p, N, bf16);
        while (loss >= 0.05 && n_steps++ < 300) loss = train_step(&t, &b, &settings, &norm);
        if (!(loss < 0.05)) fail_msg("%s: loss %g after %d steps", bf16 ? "bf16" : "float", loss, n_steps);
        free_batch(&b);
        close_trainee(&t);
    }
}

/* ---- random weights ---- */

static void test_random_weights(void **state)
{
    (void)state;
    lf_config config = variant_config(VARIANT_BIAS);
    config.n_vocab = 3000;
    lf_error err;
    lf_params p, again;
    assert_ok(lf_params_create(&p, &config, &err), &err);
    assert_ok(lf_params_create(&again, &config, &err), &err);
    const int threads_before = omp_get_max_threads();
    lf_params_init_random(&p, 3);
    omp_set_num_threads(threads_before + 2);
    lf_params_init_random(&again, 3);
    omp_set_num_threads(threads_before);
    assert_memory_equal(p.data, again.data, p.n * sizeof(float));
    for (int i = 0; i < p.n_list; i++) {
        const lf_param *w = &p.list[i];
        const size_t n = (size_t)(w->n_out * w->n_in);
        double sum = 0.0, squares = 0.0;
        for (size_t j = w->offset; j < w->offset + n; j++) {
            sum += (double)p.data[j];
            squares += (double)p.data[j] * (double)p.data[j];
        }
        if (!lf_weight_is_matrix(w->weight)) {
            const bool bias = w->weight >= LF_W_Q_BIAS && w->weight <= LF_W_V_BIAS;
            assert_true(sum == (bias ? 0.0 : (double)n) && squares == sum);
            continue;
        }
        const bool residual = w->weight == LF_W_ATTN_OUTPUT || w->weight == LF_W_DOWN;
        const double deviation = residual ? 0.02 / sqrt(2.0 * config.n_layers) : 0.02;
        assert_true(fabs(sum / (double)n) < 5.0 * deviation / sqrt((double)n));
        assert_true(fabs(sqrt(squares / (double)n) / deviation - 1.0) < 5.0 / sqrt(2.0 * (double)n));
    }
    lf_params_init_random(&again, 4);
    assert_memory_not_equal(p.data, again.data, p.n * sizeof(float));
    lf_params_free(&p);
    lf_params_free(&again);
}

/* Weights of a layer that read one input stand together; everything else starts at a cache line. */
static void test_layout(void **state)
{
    (void)state;
    for (int v = 0; v < N_VARIANTS; v++) {
        const lf_config config = variant_config((variant)v);
        lf_error err;
        lf_params p;
        assert_ok(lf_params_create(&p, &config, &err), &err);
        size_t end = 0;
        for (int i = 0; i < p.n_list; i++) {
            const lf_param *w = &p.list[i];
            const bool follows = w->weight == LF_W_K || w->weight == LF_W_V || w->weight == LF_W_K_BIAS ||
                                 w->weight == LF_W_V_BIAS || w->weight == LF_W_UP;
            assert_true(follows ? w->offset == end : w->offset % 16 == 0 && w->offset >= end);
            assert_int_equal(lf_params_find(&p, w->weight, w->i_layer), i);
            end = w->offset + (size_t)(w->n_out * w->n_in);
        }
        assert_int_equal(end, p.n);
        assert_int_equal(lf_params_find(&p, LF_W_ROPE_FREQS, 0), -1);
        assert_int_equal(lf_params_find(&p, LF_W_Q, config.n_layers), -1);
        lf_params_free(&p);
    }
}

/* ---- LoRA ---- */

/* The loss of a batch for the model that the adapters make. */
static double adapted_loss(const lf_lora *lora, trainee *t, const batch *b)
{
    lf_error err;
    double loss;
    lf_cross_entropy ce = b->ce;
    assert_ok(lf_lora_apply(lora, &t->p, &err), &err);
    lf_net_params_changed(t->net);
    assert_ok(lf_net_evaluate(t->net, &b->rows, lf_cross_entropy_loss, &ce, &loss, &err), &err);
    return loss;
}

/* Adapters change nothing at first; their gradients are those of finite differences of the net itself. */
static void test_lora_gradients(void **state)
{
    (void)state;
    const lf_config config = variant_config(VARIANT_BIAS);
    lf_error err;
    lf_params p;
    trainee t;
    lf_lora lora;
    batch b;
    double loss;
    make_params(&p, &config, 3);
    make_batch(&b, 60, config.n_vocab, PATTERN_WHOLE, 5);
    open_trainee(&t, &p, 60, false);
    float *before = malloc(p.n * sizeof *before);
    memcpy(before, p.data, p.n * sizeof *before);
    assert_ok(lf_lora_create(&lora, &t.p, 3, 6.0f, lf_lora_all_matrices(), 7, &err), &err);
    assert_int_equal(lora.adapters.n_list, 2 * 7 * config.n_layers);
    assert_ok(lf_lora_apply(&lora, &t.p, &err), &err);
    assert_memory_equal(t.p.data, before, p.n * sizeof *before);

    uint64_t seed = 1;
    for (size_t i = 0; i < lora.adapters.n; i++) lora.adapters.data[i] = 0.2f * rng_uniform(&seed);
    (void)adapted_loss(&lora, &t, &b);
    lf_cross_entropy ce = b.ce;
    float *grad = malloc(lora.adapters.n * sizeof *grad), *at = lora.adapters.data;
    assert_ok(lf_net_train(t.net, &b.rows, lf_cross_entropy_loss, &ce, t.grad, &loss, &err), &err);
    assert_ok(lf_lora_project_gradient(&lora, &t.p, grad, t.grad, &err), &err);
    for (size_t i = 0; i < p.n; i++) assert_true(t.grad[i] == 0.0f);
    float *origin = malloc(lora.adapters.n * sizeof *origin);
    memcpy(origin, at, lora.adapters.n * sizeof *origin);
    for (int i = 0; i < lora.adapters.n_list; i++) {
        const lf_param *w = &lora.adapters.list[i];
        const size_t n = (size_t)(w->n_out * w->n_in);
        double norm = 0.0, moved[2];
        for (size_t j = w->offset; j < w->offset + n; j++) norm += (double)grad[j] * (double)grad[j];
        norm = sqrt(norm);
        for (int side = 0; side < 2; side++) { /* along the gradient itself, where the change is largest */
            const double h = side ? 2e-3 : -2e-3;
            for (size_t j = w->offset; j < w->offset + n; j++)
                at[j] = origin[j] + (float)(h * (double)grad[j] / norm);
            moved[side] = adapted_loss(&lora, &t, &b);
        }
        memcpy(at, origin, lora.adapters.n * sizeof *origin);
        const double found = (moved[1] - moved[0]) / 4e-3;
        if (!(fabs(found - norm) < 0.01 * norm))
            fail_msg("adapter %d of weight %d: slope %g, expected %g", i % 2, (int)w->weight, found, norm);
    }
    free(before);
    free(grad);
    free(origin);
    lf_lora_free(&lora);
    free_batch(&b);
    close_trainee(&t);
}

/* Training adapters lowers the loss and leaves alone what has none. */
static void test_lora_training(void **state)
{
    (void)state;
    enum { N = 100 };
    const lf_config config = variant_config(VARIANT_TIED);
    const lf_adamw_params settings = {.lr = 2e-2f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .clip = 1.0f};
    lf_error err;
    lf_params p;
    trainee t;
    lf_lora lora;
    lf_adamw adam;
    batch b;
    double loss, norm;
    make_params(&p, &config, 3);
    make_batch(&b, N, config.n_vocab, PATTERN_WHOLE, 5);
    open_trainee(&t, &p, N, false);
    float *before = malloc(p.n * sizeof *before);
    memcpy(before, p.data, p.n * sizeof *before);
    const unsigned weights = 1u << LF_W_Q | 1u << LF_W_V | 1u << LF_W_DOWN;
    assert_ok(lf_lora_create(&lora, &t.p, 8, 16.0f, weights, 7, &err), &err);
    assert_ok(lf_adamw_create(&adam, lora.adapters.n, &err), &err);
    float *grad = calloc(lora.adapters.n, sizeof *grad);
    const double first = adapted_loss(&lora, &t, &b);
    for (int i = 0; i < 60; i++) {
        lf_cross_entropy ce = b.ce;
        assert_ok(lf_net_train(t.net, &b.rows, lf_cross_entropy_loss, &ce, t.grad, &loss, &err), &err);
        assert_ok(lf_lora_project_gradient(&lora, &t.p, grad, t.grad, &err), &err);
        assert_true(lf_adamw_step(&adam, &lora.adapters, grad, &settings, &norm));
        assert_ok(lf_lora_apply(&lora, &t.p, &err), &err);
        lf_net_params_changed(t.net);
    }
    assert_true(adapted_loss(&lora, &t, &b) < 0.7 * first);
    for (int i = 0; i < t.p.n_list; i++) {
        const lf_param *w = &t.p.list[i];
        const bool same = memcmp(before + w->offset, t.p.data + w->offset,
                                 (size_t)(w->n_out * w->n_in) * sizeof(float)) == 0;
        assert_true(same == !(weights >> w->weight & 1));
    }
    free(before);
    free(grad);
    lf_adamw_free(&adam);
    lf_lora_free(&lora);
    free_batch(&b);
    close_trainee(&t);
}

static void test_lora_refusals(void **state)
{
    (void)state;
    const lf_config config = variant_config(VARIANT_GQA);
    lf_error err;
    lf_params p;
    lf_lora lora;
    make_params(&p, &config, 1);
    const unsigned q = 1u << LF_W_Q;
    assert_int_equal(lf_lora_create(&lora, &p, 0, 1.0f, q, 1, &err), LF_EINVAL);
    assert_int_equal(lf_lora_create(&lora, &p, 1, NAN, q, 1, &err), LF_EINVAL);
    assert_int_equal(lf_lora_create(&lora, &p, 1, 1.0f, 0, 1, &err), LF_EINVAL);
    assert_int_equal(lf_lora_create(&lora, &p, 1, 1.0f, q | 1u << LF_W_ATTN_NORM, 1, &err), LF_EINVAL);
    assert_int_equal(lf_lora_create(&lora, &p, 1, 1.0f, q | 1u << LF_W_TOKEN_EMBD, 1, &err), LF_EINVAL);
    lf_params_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw_steps),      cmocka_unit_test(test_adamw_threads),
        cmocka_unit_test(test_adamw_not_finite), cmocka_unit_test(test_adamw_memory_failures),
        cmocka_unit_test(test_ten_losses),       cmocka_unit_test(test_overfit),
        cmocka_unit_test(test_random_weights),   cmocka_unit_test(test_layout),
        cmocka_unit_test(test_lora_gradients),   cmocka_unit_test(test_lora_training),
        cmocka_unit_test(test_lora_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
