#include "train.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/threads.h"
#include "peer.h"
#include "tensor/dtype.h"
#include "train/adamw.h"
#include "train/matmul.h"
#include "train/net.h"

#include <omp.h>
#include <stdlib.h>

enum { PEAK_SIDE = 2048, PEAK_RUNS = 3 /* the best counts */ };

static const lf_config shape_15m = {.arch = LF_ARCH_LLAMA,
                                    .n_layers = 8,
                                    .dim = 384,
                                    .n_heads = 6,
                                    .n_kv_heads = 6,
                                    .head_dim = 64,
                                    .ffn_dim = 1024,
                                    .n_vocab = 4096,
                                    .n_ctx_max = 1 << 15,
                                    .norm_eps = 1e-5f,
                                    .rope_base = 10000.0,
                                    .tied = true};

/* A model with what training it takes, and the operands of the probe. */
typedef struct rig {
    const bench_train_options *options;
    lf_params params;
    lf_adamw adam;
    lf_net *net;
    float *grad;                         /* (params.n) */
    int32_t *token, *pos, *own, *target; /* (batch context) */
    lf_train_rows rows;
    lf_matmul *matmul;
    float *square[3]; /* (PEAK_SIDE, PEAK_SIDE), of any type */
} rig;

static void fill_batch(rig *r)
{
    uint32_t random = 1;
    for (int i = 0; i < r->rows.n; i++) {
        random = random * 1664525u + 1013904223u;
        r->token[i] = (int32_t)((random >> 8) % (uint32_t)shape_15m.n_vocab);
        r->target[i] = (r->token[i] + 1) %
                       shape_15m.n_vocab; /* something to learn, so that numbers stay tame */
        r->pos[i] = i % r->options->context;
        r->own[i] = i - r->pos[i];
    }
}

static void close_rig(rig *r)
{
    lf_matmul_free(r->matmul);
    lf_net_free(r->net);
    lf_adamw_free(&r->adam);
    lf_params_free(&r->params);
    free(r->grad);
    free(r->token);
    for (int i = 0; i < 3; i++) free(r->square[i]);
}

static lf_status open_rig(rig *r, const bench_train_options *o, lf_dtype dtype, int n_threads, lf_error *err)
{
    lf_status status = LF_OK;
    *r = (rig){.options = o, .rows.n = o->batch * o->context};
    const size_t n = (size_t)r->rows.n, square_bytes = (size_t)PEAK_SIDE * PEAK_SIDE * sizeof(float);
    const lf_net_options net = {.rows_max = r->rows.n,
                                .bf16 = dtype == LF_DTYPE_BF16,
                                .recompute = o->recompute,
                                .n_threads = n_threads};
    LF_TRY(lf_params_create(&r->params, &shape_15m, err));
    lf_params_init_random(&r->params, 1);
    LF_TRY(lf_adamw_create(&r->adam, r->params.n, err));
    LF_TRY(lf_net_create(&r->net, &r->params, &net, err));
    LF_TRY(lf_matmul_create(&r->matmul, err));
    r->grad = lf_calloc_aligned(r->params.n * sizeof *r->grad);
    r->token = calloc(4 * n, sizeof *r->token);
    bool have_all = r->grad && r->token;
    for (int i = 0; i < 3; i++) have_all = (r->square[i] = lf_calloc_aligned(square_bytes)) && have_all;
    if (!have_all) {
        status = lf_fail_memory(err, "a batch", r->params.n * sizeof *r->grad + 3 * square_bytes);
        goto done;
    }
    r->pos = r->token + n;
    r->own = r->pos + n;
    r->target = r->own + n;
    r->rows = (lf_train_rows){.n = r->rows.n, .token = r->token, .pos = r->pos, .own = r->own};
    fill_batch(r);
done:
    if (status != LF_OK) close_rig(r);
    return status;
}

static lf_status time_step(rig *r, double *seconds, lf_error *err)
{
    const lf_adamw_params adam = {
        .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .clip = 1.0f};
    lf_cross_entropy loss = {.target = r->target, .scale = 1.0 / r->rows.n};
    double sum, norm;
    const int64_t start = lf_clock_ns();
    const lf_status status = lf_net_train(r->net, &r->rows, lf_cross_entropy_loss, &loss, r->grad, &sum, err);
    if (status != LF_OK) return status;
    (void)lf_adamw_step(&r->adam, &r->params, r->grad, &adam, &norm);
    lf_net_params_changed(r->net);
    *seconds = (double)(lf_clock_ns() - start) * 1e-9;
    return LF_OK;
}

static lf_status probe_peak(rig *r, lf_dtype dtype, double *flops, lf_error *err)
{
    const lf_product p = {.m = PEAK_SIDE, .n = PEAK_SIDE, .k = PEAK_SIDE, .in = dtype, .out = LF_DTYPE_F32};
    const double work = 2.0 * PEAK_SIDE * PEAK_SIDE * PEAK_SIDE;
    *flops = 0.0;
    for (int i = 0; i < PEAK_RUNS; i++) {
        const int64_t start = lf_clock_ns();
        const lf_status status = lf_matmul_run(r->matmul, &p, r->square[0], r->square[1], r->square[2], err);
        if (status != LF_OK) return status;
        const double found = work / ((double)(lf_clock_ns() - start) * 1e-9);
        if (found > *flops) *flops = found;
    }
    return LF_OK;
}

/* Two for each weight in a product and token, four for each pair of positions that see each other and width of the heads; the
 * backward takes twice the forward. */
static double step_flops(const rig *r)
{
    const lf_config *c = &shape_15m;
    const double n = r->rows.n, pairs = n * (r->options->context + 1) / 2.0;
    double weights = 0.0;
    for (int i = 0; i < r->params.n_list; i++)
        if (lf_weight_is_matrix(r->params.list[i].weight)) /* tied: the embedding is the output matrix */
            weights += (double)(r->params.list[i].n_out * r->params.list[i].n_in);
    return 3.0 * (2.0 * n * weights + 4.0 * pairs * c->n_heads * c->head_dim * c->n_layers);
}

static lf_status measure(rig *r, bench_peer *peer, const bench_hooks *hooks, lf_dtype dtype,
                         bench_train_result *result, lf_error *err)
{
    lf_status status = LF_OK;
    double seconds[BENCH_REPS_MAX], peak[BENCH_REPS_MAX], of_peer[BENCH_REPS_MAX], uncounted;
    const bench_train_options *o = r->options;
    const bench_request request = {.model = "15m",
                                   .test = {BENCH_PP, o->context},
                                   .batch = o->batch,
                                   .threads = result->threads,
                                   .kv_type = result->dtype};
    for (int i = -1; i < o->reps; i++) { /* -1: not counted */
        if (hooks->canceled(hooks->cookie)) return lf_fail(err, LF_ECANCELED, "interrupted");
        hooks->on_progress(hooks->cookie, result->dtype, (double)(i + 1) / (o->reps + 1));
        LF_TRY(time_step(r, i < 0 ? &uncounted : &seconds[i], err));
        LF_TRY(probe_peak(r, dtype, i < 0 ? &uncounted : &peak[i], err));
        if (peer) LF_TRY(bench_peer_time(peer, &request, i < 0 ? &uncounted : &of_peer[i], err));
    }
    result->seconds = bench_spread_of(seconds, o->reps);
    result->peak_flops = bench_spread_of(peak, o->reps).median;
    if (!peer) goto done;
    result->peer = bench_peer_name(peer);
    result->peer_seconds = bench_spread_of(of_peer, o->reps);
done:
    return status;
}

lf_status bench_run_train(const bench_train_options *options, const bench_hooks *hooks,
                          bench_train_fn *on_result, lf_error *err)
{
    lf_status status = LF_OK;
    bench_peer *peer = NULL;
    const int n_threads = options->n_threads ? options->n_threads : lf_threads_processors();
    const int threads_before = omp_get_max_threads();
    omp_set_num_threads(n_threads);
    if (options->peer_command) LF_TRY(bench_peer_start(&peer, options->peer_command, hooks, err));
    for (int i = 0; i < options->dtypes.n; i++) {
        rig r;
        const lf_dtype dtype = (lf_dtype)options->dtypes.v[i];
        LF_TRY(open_rig(&r, options, dtype, n_threads, err));
        bench_train_result result = {.dtype = lf_dtype_name(dtype),
                                     .context = options->context,
                                     .batch = options->batch,
                                     .threads = n_threads,
                                     .reps = options->reps,
                                     .flops = step_flops(&r),
                                     .net_bytes = lf_net_bytes(r.net)};
        status = measure(&r, peer, hooks, dtype, &result, err);
        close_rig(&r);
        if (status != LF_OK) goto done;
        LF_TRY(on_result(hooks->cookie, &result, err));
    }
done:
    bench_peer_stop(peer);
    omp_set_num_threads(threads_before);
    return status;
}
