/* lookfar.h's lf_model_cost: the roofline of MagicDec (arXiv 2408.11049, section 3; equations 1 to 4).
 *
 * A pass over n rows of B sequences that see S positions each:
 *
 *   max(weights / bandwidth, 2 P n / flops) + max(B S kv / bandwidth, n S 4 H D L / flops) + overhead + n row_overhead
 *
 * with P weights that a row is multiplied by, kv bytes of K and V for a position, and 4 H D L operations of a row with one of them.
 * A round is g draft passes over the budget, and a verify pass over g + 1 rows of each sequence.
 *
 * The overheads are the target's. Those of a pass are paid layer by layer (launches, exchanges between devices), those of a row for what
 * each layer passes on; so a smaller model that drafts has them in proportion to its layers, and to its layers times its width. */
#include "model/config.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

void lf_model_cost_params_init(lf_model_cost_params *p)
{
    *p = (lf_model_cost_params){
        .size = sizeof *p, .weight_bytes = 2, .cache_bytes = 2, .batch = 1, .budget = 512, .g_max = 16};
}

static lf_status read_config(lf_config *c, const char *path, lf_error *err)
{
    struct stat st;
    const size_t n = strlen(path);
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return lf_config_from_dir(c, path, err);
    if (n < 5 || strcmp(path + n - 5, ".gguf") != 0) return lf_config_from_json(c, path, err);
    lf_gguf *g;
    lf_status status = lf_gguf_open(&g, path, err);
    if (status != LF_OK) return status;
    status = lf_config_from_gguf(c, g, err);
    lf_gguf_close(g);
    return status;
}

static lf_status check_params(const lf_model_cost_params *p, lf_error *err)
{
    if (p->size != sizeof *p)
        return lf_fail(err, LF_EINVAL,
                       "cost parameters: found size %zu, expected %zu (lf_model_cost_params_init sets it)",
                       p->size, sizeof *p);
    if (!p->model_path) return lf_fail(err, LF_EINVAL, "model path: found none");
    if (!(p->bandwidth > 0) || !(p->flops > 0) || !isfinite(p->bandwidth) || !isfinite(p->flops))
        return lf_fail(err, LF_EINVAL, "bandwidth and flops: found %g and %g, expected numbers above 0",
                       p->bandwidth, p->flops);
    if (!(p->overhead >= 0) || !(p->row_overhead >= 0) || !(p->round_overhead >= 0))
        return lf_fail(err, LF_EINVAL, "overheads: found %g, %g and %g, expected 0 or more", p->overhead,
                       p->row_overhead, p->round_overhead);
    if (!(p->weight_bytes > 0) || !(p->cache_bytes > 0))
        return lf_fail(err, LF_EINVAL,
                       "bytes of a weight and of the cache: found %g and %g, expected numbers above 0",
                       p->weight_bytes, p->cache_bytes);
    if (!(p->acceptance >= 0 && p->acceptance <= 1))
        return lf_fail(err, LF_EINVAL, "acceptance: found %g, expected 0 to 1", p->acceptance);
    if (p->batch < 1 || p->context < 1 || p->budget < 1 || p->g < 0 || p->g_max < 1)
        return lf_fail(
            err, LF_EINVAL,
            "batch, context, budget, g, g_max: found %d, %d, %d, %d, %d, expected 1 or more, g 0 or more",
            p->batch, p->context, p->budget, p->g, p->g_max);
    return LF_OK;
}

/* Weights that a row is multiplied by: the embedding is looked up, unless it is the output matrix, too. */
static double weights_of(const lf_config *c)
{
    const double dim = c->dim, heads = (double)c->n_heads * c->head_dim,
                 kv = (double)c->n_kv_heads * c->head_dim;
    return c->n_layers * (dim * (2 * heads + 2 * kv) + 3 * dim * c->ffn_dim) + dim * c->n_vocab;
}

/* A pass of one of the models; c is the target's config, of which the overheads are. */
static double pass_seconds(const lf_config *c, const lf_config *of, const lf_model_cost_params *p,
                           double rows_each, double positions)
{
    const double weights = weights_of(of), rows = p->batch * rows_each;
    const double kv = 2.0 * of->n_layers * of->n_kv_heads * of->head_dim * p->cache_bytes;
    const double products = fmax(weights * p->weight_bytes / p->bandwidth, 2 * weights * rows / p->flops);
    const double scores = rows * positions * of->n_layers * of->n_heads; /* of a query with a key */
    const double attention = fmax(p->batch * positions * kv / p->bandwidth,
                                  4 * scores * of->head_dim / p->flops);
    const double layers = (double)of->n_layers / c->n_layers, width = (double)of->dim / c->dim;
    return products + attention + layers * (p->overhead + width * rows * p->row_overhead);
}

/* Tokens of a round of g candidates, the one that is always right included. */
static double tokens_of_round(double acceptance, int g)
{
    return acceptance == 1 ? g + 1 : (1 - pow(acceptance, g + 1)) / (1 - acceptance);
}

/* draft: the config of what drafts, c itself or a smaller model's. */
static lf_model_cost_result cost_of(const lf_config *c, const lf_config *draft, const lf_model_cost_params *p,
                                    int g)
{
    const double budget = p->budget < p->context ? p->budget : p->context;
    lf_model_cost_result r = {.size = sizeof r,
                              .g = g,
                              .target_seconds = pass_seconds(c, c, p, 1, p->context),
                              .draft_seconds = pass_seconds(c, draft, p, 1, budget),
                              .verify_seconds = pass_seconds(c, c, p, g + 1, p->context),
                              .tokens_per_round = tokens_of_round(p->acceptance, g)};
    const double round = g * r.draft_seconds + r.verify_seconds + (g > 0 ? p->round_overhead : 0);
    r.speedup = r.tokens_per_round * r.target_seconds / round;
    return r;
}

lf_status lf_model_cost(const lf_model_cost_params *p, lf_model_cost_result *result, lf_error *err)
{
    lf_status status = LF_OK;
    lf_config c, draft;
    LF_TRY(check_params(p, err));
    LF_TRY(read_config(&c, p->model_path, err));
    LF_TRY(read_config(&draft, p->draft_path ? p->draft_path : p->model_path, err));
    *result = cost_of(&c, &draft, p, p->g);
    for (int g = 1; p->g == 0 && g <= p->g_max; g++) {
        const lf_model_cost_result r = cost_of(&c, &draft, p, g);
        if (r.speedup > result->speedup) *result = r;
    }
done:
    return status;
}
