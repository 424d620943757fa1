/* lookfar.h's cost profile: what passes cost on this machine (decode/cost.h), as a text under a line that names all it depends on. */
#include "engine_int.h"

#include <string.h>

/* What measuring may take. */
static const double PROFILE_SECONDS = 1.0;

lf_status lf_engine_make_profile_key(lf_engine *e, lf_error *err)
{
    const lf_config *c = &e->model.config;
    const lf_kv_layout *layout = &lf_kv_pool_shape(e->pool)->layout;
    if (lf_bytes_printf(&e->profile_key,
                        "lookfar %s %s %dx%d heads %d/%dx%d ffn %d vocab %d %s %zu bytes cache %s %s "
                        "threads %d rows %d context %d",
                        lf_version(), lf_arch_name(c->arch), c->n_layers, c->dim, c->n_heads, c->n_kv_heads,
                        c->head_dim, c->ffn_dim, c->n_vocab, lf_dtype_name(e->model.layers[0].gate.dtype),
                        e->model.weight_bytes, lf_dtype_name(layout->dtype), e->kernels.name,
                        e->info.n_threads, e->logits_max, e->info.n_ctx))
        return LF_OK;
    return lf_fail_memory(err, "a profile's key", e->profile_key.len);
}

lf_status lf_engine_measure_cost(lf_engine *e, lf_error *err)
{
    if (lf_cost_is_known(&e->cost)) return LF_OK;
    (void)lf_prefix_evict(e->prefix, lf_kv_pool_n_pages(e->pool)); /* as many pages as there can be */
    return lf_cost_measure(&e->cost, e->forward, e->pool, e->logits_max, e->info.n_ctx, PROFILE_SECONDS, err);
}

lf_status lf_engine_get_profile(lf_engine *e, char **text, lf_error *err)
{
    lf_status status = LF_OK;
    lf_bytes out = {0};
    LF_TRY(lf_engine_measure_cost(e, err));
    if (!lf_bytes_printf(&out, "%s\n", e->profile_key.data) || !lf_cost_write(&e->cost, &out))
        status = lf_fail_memory(err, "a profile", out.len);
done:
    if (status != LF_OK) lf_bytes_free(&out);
    *text = out.data;
    return status;
}

bool lf_engine_set_profile(lf_engine *e, const char *text)
{
    const size_t n = e->profile_key.len;
    return strncmp(text, e->profile_key.data, n) == 0 && text[n] == '\n' &&
           lf_cost_read(&e->cost, text + n + 1);
}
