/* lookfar.h's grammars: the room grammar/ with the engine's vocabulary, which is prepared when the first one is compiled. */
#include "engine_int.h"

/* The engine's tokens as bytes. Two threads that come first make them both; one of them keeps its own. */
static lf_status find_token_bytes(const lf_token_bytes **out, lf_engine *e, lf_error *err)
{
    lf_token_bytes *made, *known = atomic_load_explicit(&e->token_bytes, memory_order_acquire);
    *out = known;
    if (known) return LF_OK;
    if (!e->tokenizer)
        return lf_fail(err, LF_EUNSUPPORTED, "%s: a grammar needs a tokenizer, and the model has none",
                       e->path);
    const lf_status status = lf_token_bytes_create(&made, e->tokenizer, e->model.config.n_vocab, err);
    if (status != LF_OK) return status;
    *out = made;
    if (atomic_compare_exchange_strong(&e->token_bytes, &known, made)) return LF_OK;
    *out = known;
    lf_token_bytes_free(made);
    return LF_OK;
}

lf_status lf_grammar_compile(lf_grammar **out, lf_engine *e, lf_grammar_kind kind, const char *text,
                             size_t len, lf_error *err)
{
    const lf_token_bytes *tokens;
    *out = NULL;
    const lf_status status = find_token_bytes(&tokens, e, err);
    return status == LF_OK ? lf_grammar_create(out, tokens, kind, text, len, err) : status;
}
