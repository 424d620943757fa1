/* The trainer's network: gradients against finite differences in double precision and against PyTorch, its
 * forward against the inference forward, and equal bits where they are promised. */
#include "oom.h"
#include "train_fixture.h"
#include "train_reference.h"

#include "base/cpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The loss and, unless grad is NULL, gradients (params->n) of one batch in a net of its own. */
static double run_net(float *grad, const lf_params *p, const batch *b, const lf_net_options *options)
{
    lf_error err;
    lf_net *net;
    double loss;
    lf_cross_entropy ce = b->ce;
    assert_ok(lf_net_create(&net, p, options, &err), &err);
    if (grad) {
        memset(grad, 0, p->n * sizeof *grad);
        assert_ok(lf_net_train(net, &b->rows, lf_cross_entropy_loss, &ce, grad, &loss, &err), &err);
    } else {
        assert_ok(lf_net_evaluate(net, &b->rows, lf_cross_entropy_loss, &ce, &loss, &err), &err);
    }
    lf_net_free(net);
    return loss;
}

static double norm_of(const float *x, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* |found - expected| / |expected| of one weight's gradient. */
static double distance(const float *found, const float *expected, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += pow((double)found[i] - (double)expected[i], 2);
    return sqrt(sum) / norm_of(expected, n);
}

/* ---- finite differences ---- */

/* The derivative of the double reference along `direction` (params->n; zero outside one weight), central. */
static double derivative(const lf_params *p, const double *data, const double *direction, const batch *b)
{
    const double h = 1e-5;
    double *moved = malloc(p->n * sizeof *moved), loss[2];
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < p->n; i++) moved[i] = data[i] + (side ? h : -h) * direction[i];
        loss[side] = reference_loss(p, moved, &b->rows, &b->ce);
    }
    free(moved);
    return (loss[1] - loss[0]) / (2.0 * h);
}

/* Every weight, along a random direction that all its elements have a part in: an error in any of them shows. */
static void expect_true_gradients(const char *what, const lf_params *p, const float *grad, const batch *b)
{
    uint64_t seed = 77;
    double *data = malloc(p->n * sizeof *data), *direction = malloc(p->n * sizeof *direction);
    for (size_t i = 0; i < p->n; i++) data[i] = (double)p->data[i];
    for (int i = 0; i < p->n_list; i++) {
        const lf_param *w = &p->list[i];
        const size_t n = (size_t)(w->n_out * w->n_in);
        double found = 0.0;
        memset(direction, 0, p->n * sizeof *direction);
        for (size_t j = w->offset; j < w->offset + n; j++) {
            direction[j] = rng_next(&seed) & 1 ? 1.0 : -1.0;
            found += direction[j] * (double)grad[j];
        }
        const double expected = derivative(p, data, direction, b), norm = norm_of(grad + w->offset, n);
        if (norm == 0.0 || !(fabs(found - expected) <= 1e-4 * norm))
            fail_msg("%s: weight %d of layer %d: found derivative %g, expected %g; norm of the gradient %g",
                     what, (int)w->weight, w->i_layer, found, expected, norm);
    }
    free(data);
    free(direction);
}

static void check_against_differences(variant v, pattern sight)
{
    const int n_rows[N_PATTERNS] = {20, 75, 72}; /* the last two past one tile of rows */
    const lf_net_options options = {.rows_max = 100, .n_threads = 2};
    const lf_config config = variant_config(v);
    char what[64];
    (void)snprintf(what, sizeof what, "variant %d, pattern %d", (int)v, (int)sight);
    lf_params p;
    batch b;
    make_params(&p, &config, 3);
    make_batch(&b, n_rows[sight], config.n_vocab, sight, 5);
    float *grad = malloc(p.n * sizeof *grad);
    (void)run_net(grad, &p, &b, &options);
    expect_true_gradients(what, &p, grad, &b);
    free(grad);
    free_batch(&b);
    lf_params_free(&p);
}

static void test_finite_differences(void **state)
{
    (void)state;
    for (int v = 0; v < N_VARIANTS; v++)
        for (int sight = TESTS_SHORT ? PATTERN_RANGES : 0; sight < N_PATTERNS; sight++)
            check_against_differences((variant)v, (pattern)sight);
}

/* ---- PyTorch ---- */

static void check_golden(const char *path, variant v, uint64_t seed, bool bf16, double tolerance)
{
    const lf_net_options options = {.rows_max = 100, .n_threads = 2, .bf16 = bf16};
    const lf_config config = variant_config(v);
    lf_params p;
    batch b;
    const float *expected;
    char *golden;
    make_params(&p, &config, seed);
    load_batch(&b, &expected, &golden, path);
    float *grad = malloc(p.n * sizeof *grad);
    const double loss = run_net(grad, &p, &b, &options), expected_loss = (double)*expected++;
    if (!(fabs(loss - expected_loss) < tolerance))
        fail_msg("%s: found loss %g, expected %g", path, loss, expected_loss);
    for (int i = 0; i < p.n_list; i++) {
        const lf_param *w = &p.list[i];
        const size_t n = (size_t)(w->n_out * w->n_in);
        const double apart = distance(grad + w->offset, expected, n);
        if (!(apart < tolerance))
            fail_msg("%s: weight %d of layer %d: gradient is %g of its norm apart, expected below %g", path,
                     (int)w->weight, w->i_layer, apart, tolerance);
        expected += n;
    }
    free(grad);
    free(golden);
    free_batch(&b);
    lf_params_free(&p);
}

static void test_pytorch(void **state)
{
    (void)state;
    for (int bf16 = 0; bf16 <= can_bf16(); bf16++) {
        /* bf16 has 8 bits: 0.4 % of one number, and some of that in a chain of products */
        const double tolerance = bf16 ? 0.04 : 1e-5;
        check_golden("train/gqa.bin", VARIANT_GQA, 1, bf16, tolerance);
        check_golden("train/tied.bin", VARIANT_TIED, 2, bf16, tolerance);
        check_golden("train/bias.bin", VARIANT_BIAS, 3, bf16, tolerance);
        check_golden("train/qk_norm.bin", VARIANT_QK_NORM, 4, bf16, tolerance);
    }
}

/* ---- instruction sets, threads, recompute ---- */

/* A batch of two and a half chunks of logits, in a net with room for more. */
typedef struct bench {
    lf_params p;
    batch b;
    float *grad, *other; /* (p.n) */
} bench;

static void open_bench(bench *x, variant v, int n)
{
    const lf_config config = variant_config(v);
    make_params(&x->p, &config, 3);
    make_batch(&x->b, n, config.n_vocab, PATTERN_PACKED, 5);
    x->grad = malloc(x->p.n * sizeof *x->grad);
    x->other = malloc(x->p.n * sizeof *x->other);
}

static void close_bench(bench *x)
{
    free(x->grad);
    free(x->other);
    free_batch(&x->b);
    lf_params_free(&x->p);
}

static double worst_distance(const bench *x)
{
    double worst = 0.0;
    for (int i = 0; i < x->p.n_list; i++) {
        const lf_param *w = &x->p.list[i];
        worst = fmax(worst,
                     distance(x->other + w->offset, x->grad + w->offset, (size_t)(w->n_out * w->n_in)));
    }
    return worst;
}

/* Every instruction set and number of threads computes the same, but for rounding. */
static void test_instruction_sets(void **state)
{
    (void)state;
    const unsigned all = LF_CPU_AVX2 | LF_CPU_AVX512 | LF_CPU_AVX512BF16;
    const struct {
        lf_net_options options;
        double tolerance;
    } modes[] = {
        {{.n_threads = 2, .cpu_avoid = all}, 1e-5},
        {{.n_threads = 2, .cpu_avoid = LF_CPU_AVX512 | LF_CPU_AVX512BF16}, 1e-5},
        {{.n_threads = 1}, 1e-5},
        {{.n_threads = 3}, 1e-5},
        {{.n_threads = 5}, 1e-5},
        {{.n_threads = 2, .bf16 = true, .cpu_avoid = LF_CPU_AVX512BF16}, 0.04},
        {{.n_threads = 3, .bf16 = true}, 0.04},
    };
    for (int v = 0; v < N_VARIANTS; v++) {
        bench x;
        open_bench(&x, (variant)v, 200);
        const lf_net_options plain = {.rows_max = 256, .n_threads = 2};
        const double loss = run_net(x.grad, &x.p, &x.b, &plain);
        for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
            lf_net_options options = modes[i].options;
            options.rows_max = 200;
            if (options.bf16 && !can_bf16()) continue;
            assert_true(fabs(run_net(x.other, &x.p, &x.b, &options) - loss) < modes[i].tolerance);
            const double apart = worst_distance(&x);
            if (!(apart < modes[i].tolerance))
                fail_msg("variant %d, mode %zu: gradients are %g apart", v, i, apart);
        }
        close_bench(&x);
    }
}

/* The same bits: run twice, in one net or another, after other batches, with recompute or without. */
static void test_equal_bits(void **state)
{
    (void)state;
    lf_error err;
    for (int v = 0; v < N_VARIANTS; v++) {
        for (int bf16 = 0; bf16 <= can_bf16(); bf16++) {
            bench x;
            batch other;
            double loss;
            lf_net *net;
            open_bench(&x, (variant)v, 130);
            make_batch(&other, 90, x.p.config.n_vocab, PATTERN_RANGES, 9);
            lf_net_options options = {.rows_max = 130, .n_threads = 2, .bf16 = bf16};
            const double expected = run_net(x.grad, &x.p, &x.b, &options);
            assert_true(run_net(x.other, &x.p, &x.b, &options) == expected);
            assert_memory_equal(x.grad, x.other, x.p.n * sizeof(float));

            options.recompute = true;
            assert_ok(lf_net_create(&net, &x.p, &options, &err), &err);
            lf_cross_entropy ce = other.ce;
            assert_ok(lf_net_train(net, &other.rows, lf_cross_entropy_loss, &ce, x.other, &loss, &err), &err);
            memset(x.other, 0, x.p.n * sizeof(float));
            ce = x.b.ce;
            assert_ok(lf_net_train(net, &x.b.rows, lf_cross_entropy_loss, &ce, x.other, &loss, &err), &err);
            assert_true(loss == expected);
            assert_memory_equal(x.grad, x.other, x.p.n * sizeof(float));
            assert_ok(lf_net_evaluate(net, &x.b.rows, lf_cross_entropy_loss, &ce, &loss, &err), &err);
            assert_true(loss == expected);
            lf_net_free(net);
            free_batch(&other);
            close_bench(&x);
        }
    }
}

/* Recompute keeps one layer's activations alive, however many there are. */
static void test_memory(void **state)
{
    (void)state;
    lf_error err;
    lf_params p;
    lf_config config = variant_config(VARIANT_GQA);
    config.n_layers = 12;
    make_params(&p, &config, 1);
    size_t bytes[2];
    for (int recompute = 0; recompute < 2; recompute++) {
        lf_net *net;
        const lf_net_options options = {.rows_max = 1024, .n_threads = 1, .recompute = recompute};
        assert_ok(lf_net_create(&net, &p, &options, &err), &err);
        bytes[recompute] = lf_net_bytes(net);
        lf_net_free(net);
    }
    /* a layer saves, for each row, 5 times dim, twice ffn and the heads */
    assert_true(bytes[0] - bytes[1] > 11u * 1024u * (4 * 32 + 2 * 48 + 128) * sizeof(float));
    lf_params_free(&p);
}

/* Gradients are added to what is there; two halves of a batch make the whole. */
static void test_accumulation(void **state)
{
    (void)state;
    bench x;
    open_bench(&x, VARIANT_GQA, 120);
    const lf_net_options options = {.rows_max = 120, .n_threads = 2};
    for (int i = 0; i < 120; i++) {
        x.b.own[i] = i < 60 ? 0 : 60;
        x.b.pos[i] = i - x.b.own[i];
    }
    double loss = run_net(x.grad, &x.p, &x.b, &options);
    lf_net *net;
    lf_error err;
    assert_ok(lf_net_create(&net, &x.p, &options, &err), &err);
    memset(x.other, 0, x.p.n * sizeof(float));
    const int32_t own[60] = {0};
    for (int half = 0; half < 2; half++) {
        const lf_train_rows rows = {
            .n = 60, .token = x.b.token + 60 * half, .pos = x.b.pos + 60 * half, .own = own};
        lf_cross_entropy ce = {
            .target = x.b.target + 60 * half, .weight = x.b.weight + 60 * half, .scale = x.b.ce.scale};
        double of_half;
        assert_ok(lf_net_train(net, &rows, lf_cross_entropy_loss, &ce, x.other, &of_half, &err), &err);
        loss -= of_half;
    }
    lf_net_free(net);
    assert_true(fabs(loss) < 1e-6);
    assert_true(worst_distance(&x) < 1e-5);
    close_bench(&x);
}

/* The net reads weights that have changed once it is told. */
static void test_changed_params(void **state)
{
    (void)state;
    bench x;
    open_bench(&x, VARIANT_GQA, 40);
    lf_net *net;
    lf_error err;
    const lf_net_options options = {.rows_max = 40, .n_threads = 1, .bf16 = can_bf16()};
    lf_cross_entropy ce = x.b.ce;
    double before, after;
    assert_ok(lf_net_create(&net, &x.p, &options, &err), &err);
    assert_ok(lf_net_evaluate(net, &x.b.rows, lf_cross_entropy_loss, &ce, &before, &err), &err);
    for (size_t i = 0; i < x.p.n; i++) x.p.data[i] *= 1.25f;
    lf_net_params_changed(net);
    assert_ok(lf_net_evaluate(net, &x.b.rows, lf_cross_entropy_loss, &ce, &after, &err), &err);
    lf_net_free(net);
    assert_true(fabs(after - before) > 1e-3);
    assert_true(after == run_net(NULL, &x.p, &x.b, &options));
    close_bench(&x);
}

/* A batch that overflowed leaves nothing behind: in the padding of a smaller one its numbers would count. */
static void test_after_overflow(void **state)
{
    (void)state;
    bench x;
    batch small;
    lf_net *net;
    lf_error err;
    double loss;
    open_bench(&x, VARIANT_GQA, 128);
    make_batch(&small, 70, x.p.config.n_vocab, PATTERN_WHOLE, 4);
    const lf_net_options options = {.rows_max = 128, .n_threads = 2};
    const double expected = run_net(x.grad, &x.p, &small, &options);
    const size_t first = x.p.list[0].offset;
    const float weight = x.p.data[first];
    assert_ok(lf_net_create(&net, &x.p, &options, &err), &err);
    for (int bad = 1; bad >= 0; bad--) {
        const batch *b = bad ? &x.b : &small;
        lf_cross_entropy ce = b->ce;
        for (int i = 0; i < 128; i++) x.b.token[i] = 0;
        x.p.data[first] = bad ? INFINITY : weight;
        memset(x.other, 0, x.p.n * sizeof(float));
        assert_ok(lf_net_train(net, &b->rows, lf_cross_entropy_loss, &ce, x.other, &loss, &err), &err);
        assert_true(bad ? isnan(loss) : loss == expected);
    }
    assert_memory_equal(x.grad, x.other, x.p.n * sizeof(float));
    lf_net_free(net);
    free_batch(&small);
    close_bench(&x);
}

/* ---- loss ---- */

/* A loss function sees every row once, in order; the cross-entropy leaves each row's loss where it is told
 * to. */
typedef struct witness {
    lf_cross_entropy ce;
    int n_seen, n_chunks;
} witness;

static double witnessed_loss(void *cookie, float *logits, int first, int n, int n_vocab, bool want_gradient)
{
    witness *w = cookie;
    assert_int_equal(first, w->n_seen);
    assert_true(n >= 1 && n <= LF_LOSS_ROWS_MAX && n_vocab == 50 && !want_gradient);
    w->n_seen += n;
    w->n_chunks++;
    return lf_cross_entropy_loss(&w->ce, logits, first, n, n_vocab, want_gradient);
}

static void test_loss_by_rows(void **state)
{
    (void)state;
    enum { N = LF_LOSS_ROWS_MAX + 7 };
    static double row_loss[N];
    const lf_config config = variant_config(VARIANT_TIED);
    lf_params p;
    batch b;
    lf_net *net;
    lf_error err;
    double loss, sum = 0.0;
    make_params(&p, &config, 1);
    make_batch(&b, N, config.n_vocab, PATTERN_PACKED, 2);
    witness w = {.ce = b.ce};
    w.ce.row_loss = row_loss;
    const lf_net_options options = {.rows_max = N, .n_threads = 2};
    assert_ok(lf_net_create(&net, &p, &options, &err), &err);
    assert_ok(lf_net_evaluate(net, &b.rows, witnessed_loss, &w, &loss, &err), &err);
    assert_int_equal(w.n_seen, N);
    assert_int_equal(w.n_chunks, 2);
    for (int i = 0; i < N; i++) {
        assert_true(b.target[i] < 0 ? row_loss[i] == 0.0 : row_loss[i] > 0.0);
        sum += row_loss[i] * (double)b.weight[i] / N;
    }
    assert_true(fabs(sum - loss) < 1e-9);
    lf_net_free(net);
    free_batch(&b);
    lf_params_free(&p);
}

/* ---- inference ---- */

typedef struct capture {
    float *logits; /* (n, n_vocab) */
} capture;

static double capture_logits(void *cookie, float *logits, int first, int n, int n_vocab, bool want_gradient)
{
    const capture *c = cookie;
    (void)want_gradient;
    memcpy(c->logits + (size_t)first * (size_t)n_vocab, logits, (size_t)(n * n_vocab) * sizeof *logits);
    return 0.0;
}

static void train_logits(float *logits, const char *path, const lf_train_rows *rows)
{
    lf_error err;
    lf_source source;
    lf_params p;
    lf_net *net;
    double loss;
    capture c = {logits};
    const lf_net_options options = {.rows_max = rows->n, .n_threads = 2};
    assert_ok(lf_source_open(&source, path, &err), &err);
    assert_ok(lf_params_create(&p, &source.config, &err), &err);
    assert_ok(lf_params_load(&p, &source, &err), &err);
    lf_source_close(&source);
    assert_ok(lf_net_create(&net, &p, &options, &err), &err);
    assert_ok(lf_net_evaluate(net, rows, capture_logits, &c, &loss, &err), &err);
    lf_net_free(net);
    lf_params_free(&p);
}

static void check_against_inference(const char *path)
{
    enum { N = 100 };
    int32_t ids[N], pos[N];
    const int32_t own[N] = {0};
    lf_error err;
    lf_engine *engine;
    lf_engine_params params;
    lf_engine_params_init(&params);
    params.model_path = path;
    params.n_ctx = N;
    params.kv_dtype = LF_DTYPE_F32;
    params.weight_dtype = LF_DTYPE_F32;
    assert_ok(lf_engine_open(&engine, &params, &err), &err);
    lf_engine_info info = {.size = sizeof info};
    lf_engine_get_info(engine, &info);
    uint64_t seed = 1;
    for (int i = 0; i < N; i++) {
        ids[i] = (int32_t)(rng_next(&seed) % (uint64_t)info.n_vocab);
        pos[i] = i;
    }
    const size_t n_logits = (size_t)N * (size_t)info.n_vocab;
    float *expected = calloc(n_logits, sizeof *expected), *found = calloc(n_logits, sizeof *found);
    assert_ok(lf_score(engine, ids, N, expected, &err), &err);
    lf_engine_close(engine);
    const lf_train_rows rows = {.n = N, .token = ids, .pos = pos, .own = own};
    train_logits(found, path, &rows);
    const double apart = distance(found, expected, n_logits);
    if (!(apart < 2e-6)) fail_msg("%s: logits are %g of their norm apart, expected below 2e-6", path, apart);
    free(expected);
    free(found);
}

static void test_inference(void **state)
{
    (void)state;
    const char *const families[] = {"llama2", "llama3.2", "llama2-32k", "qwen2.5", "qwen3", "smollm2"};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "families/%s", families[i]);
        check_against_inference(golden_path(path));
    }
}

/* The interleaved order of Q and K rows, and divisors of the frequencies: what only a GGUF has. */
static void test_inference_gguf(void **state)
{
    (void)state;
    char *dir = make_temp_dir(), path[512];
    (void)snprintf(path, sizeof path, "%s/model.gguf", dir);
    lf_error err;
    lf_convert_params params;
    lf_convert_params_init(&params);
    params.input_path = golden_path("families/llama3.2");
    params.output_path = path;
    params.dtype = LF_DTYPE_F32;
    assert_ok(lf_convert(&params, &err), &err);
    check_against_inference(path);
    remove_tree(dir);
    free(dir);
}

/* ---- refusals ---- */

static void test_options(void **state)
{
    (void)state;
    lf_error err;
    lf_net *net;
    lf_params p;
    lf_config config = variant_config(VARIANT_GQA);
    make_params(&p, &config, 1);
    const lf_net_options bad[] = {{.rows_max = 0},
                                  {.rows_max = INT32_MAX},
                                  {.rows_max = 1, .n_threads = -1},
                                  {.rows_max = 1, .n_threads = 1 << 20}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(lf_net_create(&net, &p, &bad[i], &err), LF_EINVAL);
        assert_null(net);
    }
    lf_params_free(&p);
    config.head_dim = 512;
    make_params(&p, &config, 1);
    const lf_net_options good = {.rows_max = 1};
    assert_int_equal(lf_net_create(&net, &p, &good, &err), LF_EUNSUPPORTED);
    lf_params_free(&p);
}

static void test_memory_failures(void **state)
{
    (void)state;
    oom_require();
    const lf_config config = variant_config(VARIANT_QK_NORM);
    lf_error err;
    lf_params p;
    for (long n = 1;; n++) {
        const long live = oom_live();
        oom_fail_at(n);
        const lf_status status = lf_params_create(&p, &config, &err);
        const bool all_succeeded = oom_count() < n;
        oom_off();
        if (all_succeeded) break;
        assert_int_equal(status, LF_ENOMEM);
        assert_int_equal(oom_live(), live);
    }
    const lf_net_options options = {.rows_max = 64, .n_threads = 1};
    lf_net *net;
    assert_ok(lf_net_create(&net, &p, &options, &err), &err); /* what oneDNN allocates once */
    lf_net_free(net);
    for (long n = 1;; n++) {
        const long live = oom_live();
        oom_fail_at(n);
        const lf_status status = lf_net_create(&net, &p, &options, &err);
        const bool all_succeeded = oom_count() < n;
        oom_off();
        if (all_succeeded) break;
        assert_int_equal(status, LF_ENOMEM);
        assert_null(net);
        assert_int_equal(oom_live(), live);
    }
    lf_net_free(net);
    lf_params_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_pytorch),
        cmocka_unit_test(test_instruction_sets),
        cmocka_unit_test(test_equal_bits),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_accumulation),
        cmocka_unit_test(test_changed_params),
        cmocka_unit_test(test_after_overflow),
        cmocka_unit_test(test_loss_by_rows),
        cmocka_unit_test(test_inference),
        cmocka_unit_test(test_inference_gguf),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_memory_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
