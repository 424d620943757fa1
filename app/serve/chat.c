#include "chat.h"

#include <stdlib.h>

bool serve_chat_render(const lf_engine *engine, const char *request, size_t len, char **text,
                       size_t *text_len, serve_error *e)
{
    lf_error err;
    if (lf_chat_render(engine, request, len, text, text_len, &err) == LF_OK) return true;
    if (err.status == LF_EFORMAT) return serve_refuse(e, "messages", "%s", err.text);
    return serve_fail_status(e, &err);
}

bool serve_chat_tokenize(const lf_engine *engine, const char *request, size_t len, int32_t **ids,
                         size_t *n_ids, serve_error *e)
{
    char *text;
    size_t text_len;
    lf_error err;
    if (!serve_chat_render(engine, request, len, &text, &text_len, e)) return false;
    const bool ok = lf_chat_tokenize(engine, text, text_len, ids, n_ids, &err) == LF_OK ||
                    serve_fail_status(e, &err);
    free(text);
    return ok;
}
