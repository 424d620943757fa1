#include "chat.h"

#include "base/mem.h"

#include <string.h>

static bool append_content(lf_bytes *out, const json_t *content)
{
    if (json_is_string(content))
        return lf_bytes_append(out, json_string_value(content), json_string_length(content));
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *text = json_object_get(json_array_get(content, i), "text");
        if (!lf_bytes_append(out, json_string_value(text), json_string_length(text))) return false;
    }
    return true;
}

/* ChatML. */
bool serve_chat_render(const lf_engine *engine, const json_t *body, char **text, size_t *len, serve_error *e)
{
    const json_t *messages = json_object_get(body, "messages");
    lf_bytes out = {0};
    bool ok = true;
    (void)engine;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        ok = ok &&
             lf_bytes_printf(&out, "<|im_start|>%s\n", json_string_value(json_object_get(message, "role"))) &&
             append_content(&out, json_object_get(message, "content")) &&
             lf_bytes_printf(&out, "<|im_end|>\n");
    }
    ok = ok && lf_bytes_printf(&out, "<|im_start|>assistant\n");
    if (!ok) {
        lf_bytes_free(&out);
        return serve_fail(e, 503, "out_of_memory", "out of memory: the chat");
    }
    *text = out.data;
    *len = out.len;
    return true;
}

bool serve_chat_tokenize(const lf_engine *engine, const char *text, size_t len, int32_t **ids, size_t *n_ids,
                         serve_error *e)
{
    lf_error err;
    return lf_tokenize(engine, text, len, true, true, ids, n_ids, &err) == LF_OK ||
           serve_fail_status(e, &err);
}
