/* Conversations of `lookfar run`: one user message, or a file of them, as the text that the model's chat template makes. */
#include "app.h"

#include "base/status.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* A list of messages is a request, too. */
static json_t *request_of(json_t *root)
{
    return json_is_array(root) ? json_pack("{s:o}", "messages", root) : root;
}

static lf_status render(lf_bytes *out, const lf_engine *engine, json_t *request, lf_error *err)
{
    char *json = json_dumps(request, JSON_COMPACT), *text = NULL;
    size_t len;
    if (!json) return lf_fail_memory(err, "a conversation", 0);
    lf_status status = lf_chat_render(engine, json, strlen(json), &text, &len, err);
    if (status == LF_OK && !lf_bytes_append(out, text, len))
        status = lf_fail_memory(err, "a conversation", len);
    free(text);
    free(json);
    return status;
}

lf_status app_chat_message(lf_bytes *out, const lf_engine *engine, const lf_bytes *message, lf_error *err)
{
    json_t *content = json_stringn(message->data ? message->data : "", message->len);
    if (!content) return lf_fail(err, LF_EINVAL, "the prompt: expected UTF-8 text without NUL for --chat");
    json_t *request = json_pack("{s:[{s:s, s:o}]}", "messages", "role", "user", "content", content);
    const lf_status status = request ? render(out, engine, request, err)
                                     : lf_fail_memory(err, "a conversation", message->len);
    json_decref(request);
    return status;
}

lf_status app_chat_file(lf_bytes *out, const lf_engine *engine, const char *path, lf_error *err)
{
    json_error_t e;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
    if (!root) return lf_fail(err, LF_EFORMAT, "%s: line %d: %s", path, e.line, e.text);
    json_t *request = request_of(root);
    const lf_status status = request ? render(out, engine, request, err) : lf_fail_memory(err, path, 0);
    json_decref(request);
    return status;
}
