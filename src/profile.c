/* lookfar.h's cost profile: what passes cost on this machine (decode/cost.h), as a text under a line that names all it depends on. */
#include "engine_int.h"

#include <string.h>

/* All of a model that its passes cost by. */
static bool write_model(const lf_model *model, lf_bytes *out)
{
    const lf_config *c = &model->config;
    return lf_bytes_printf(out, " %s %dx%d heads %d/%dx%d ffn %d vocab %d %s %zu bytes",
                           lf_arch_name(c->arch), c->n_layers, c->dim, c->n_heads, c->n_kv_heads, c->head_dim,
                           c->ffn_dim, c->n_vocab, lf_dtype_name(model->layers[0].gate.dtype),
                           model->weight_bytes);
}

lf_status lf_engine_make_profile_key(lf_engine *e, lf_error *err)
{
    const lf_kv_layout *layout = &lf_kv_pool_shape(e->pool)->layout;
    lf_bytes *key = &e->profile_key;
    bool ok = lf_bytes_printf(key, "lookfar %s", lf_version()) && write_model(&e->model, key) &&
              lf_bytes_printf(key, " cache %s %s threads %d rows %d context %d", lf_dtype_name(layout->dtype),
                              e->kernels.name, e->info.n_threads, e->logits_max, e->info.n_ctx);
    if (e->draft.forward)
        ok = ok && lf_bytes_printf(key, " draft") && write_model(&e->draft.model, key) &&
             lf_bytes_printf(key, " window %d", e->info.draft_window);
    return ok ? LF_OK : lf_fail_memory(err, "a profile's key", key->len);
}

lf_status lf_engine_get_profile(lf_engine *e, char **text, lf_error *err)
{
    lf_status status = LF_OK;
    lf_bytes out = {0};
    lf_proposer *measured;
    LF_TRY(lf_engine_find_proposer(e, &measured, LF_PROPOSER_AUTO, err));
    if (!lf_bytes_printf(&out, "%s\n", e->profile_key.data) || !lf_cost_write(&e->cost, &out) ||
        (e->draft.forward && !lf_cost_write(&e->draft.cost, &out)))
        status = lf_fail_memory(err, "a profile", out.len);
done:
    if (status != LF_OK) lf_bytes_free(&out);
    *text = out.data;
    return status;
}

bool lf_engine_set_profile(lf_engine *e, const char *text)
{
    const size_t n = e->profile_key.len;
    lf_cost cost, draft_cost = {0};
    if (strncmp(text, e->profile_key.data, n) != 0 || text[n] != '\n') return false;
    text = lf_cost_read(&cost, text + n + 1);
    if (text && e->draft.forward) text = lf_cost_read(&draft_cost, text);
    if (!text || *text != '\0') return false;
    e->cost = cost;
    e->draft.cost = draft_cost;
    return true;
}
