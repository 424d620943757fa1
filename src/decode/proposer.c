#include "decode/proposer.h"

#include <stdlib.h>
#include <string.h>

static const lf_proposer_ops *const all[LF_PROPOSER_COUNT] = {
    &lf_proposer_ngram, &lf_proposer_jacobi, &lf_proposer_sparse, &lf_proposer_draft, &lf_proposer_auto};

int lf_proposer_find(const char *name)
{
    if (strcmp(name, "none") == 0) return -1;
    for (int i = 0; i < LF_PROPOSER_COUNT; i++)
        if (strcmp(name, all[i]->name) == 0) return i;
    return -2;
}

const char *lf_proposer_name(int index)
{
    return index < 0 ? "none" : all[index]->name;
}

lf_status lf_proposer_require_cost(lf_cost *cost, lf_forward *forward, lf_kv_pool *pool, int n_ctx,
                                   const lf_proposer_env *env, lf_error *err)
{
    if (lf_cost_is_known(cost)) return LF_OK;
    return lf_cost_measure(cost, forward, pool, env->rows_max, n_ctx, env->profile_seconds, err);
}

lf_status lf_proposer_open(lf_proposer **out, int index, const lf_proposer_env *env, lf_error *err)
{
    const lf_proposer_ops *ops = all[index];
    if (ops->open) return ops->open(out, env, err);
    *out = malloc(sizeof **out);
    if (!*out) return lf_fail_memory(err, "a proposer", sizeof **out);
    **out = (lf_proposer){ops};
    return LF_OK;
}

void lf_proposer_close(lf_proposer *p)
{
    if (!p) return;
    if (p->ops->close)
        p->ops->close(p);
    else
        free(p);
}
