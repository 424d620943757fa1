#include "chat/chat.h"

#include "file/json.h"
#include "jinja/jinja.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char chatml[] = "{{ bos_token if add_bos_token }}"
                             "{% for message in messages %}"
                             "{{ '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}"
                             "{% endfor %}"
                             "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

struct lf_chat {
    char *text;           /* of the template; NULL: there is none */
    lf_jinja *plain;      /* NULL when it could not be compiled: err says why */
    lf_jinja *with_tools; /* the variant "tool_use", for requests with tools; or NULL */
    json_t *tokens;       /* bos_token and the like: variables of every rendering; never changed */
    lf_error err;
    bool tools, system;  /* what the template shows of a request */
    bool strings, parts; /* forms of content that it shows */
};

/* ---- requests ---- */

/* The text of {"type": "text", "text": ...}. */
static lf_status text_of_part(const char **text, const json_t *part, size_t i, lf_error *err)
{
    *text = json_string_value(json_object_get(part, "text"));
    if (*text) return LF_OK;
    const char *type = json_string_value(json_object_get(part, "type"));
    return lf_fail(err, type && strcmp(type, "text") != 0 ? LF_EUNSUPPORTED : LF_EINVAL,
                   "messages[%zu].content: found a part of type '%.40s', expected parts of type 'text'", i,
                   type ? type : "none");
}

/* *out = the texts of parts, a line each. */
static lf_status join_parts(json_t **out, const json_t *parts, size_t i, lf_error *err)
{
    lf_bytes joined = {0};
    lf_status status = LF_OK;
    for (size_t k = 0; k < json_array_size(parts); k++) {
        const char *text;
        LF_TRY(text_of_part(&text, json_array_get(parts, k), i, err));
        if ((k && !lf_bytes_append(&joined, "\n", 1)) || !lf_bytes_append(&joined, text, strlen(text)))
            LF_TRY(lf_fail_memory(err, "a message", joined.len));
    }
    *out = json_stringn(joined.data ? joined.data : "", joined.len);
    if (!*out) status = lf_fail_memory(err, "a message", joined.len);
done:
    lf_bytes_free(&joined);
    return status;
}

/* Brings message.content into a form that the template shows. */
static lf_status adapt_content(const lf_chat *chat, json_t *message, size_t i, lf_error *err)
{
    json_t *content = json_object_get(message, "content"), *adapted = NULL;
    lf_status status = LF_OK;
    if (json_is_array(content) && !chat->parts)
        status = join_parts(&adapted, content, i, err);
    else if (json_is_string(content) && !chat->strings && chat->parts)
        adapted = json_pack("[{s:s, s:O}]", "type", "text", "text", content);
    else if (content && !json_is_string(content) && !json_is_null(content) && !json_is_array(content))
        status = lf_fail(err, LF_EINVAL, "messages[%zu].content: expected a string, a list of parts or null",
                         i);
    if (adapted && json_object_set_new(message, "content", adapted) != 0)
        status = lf_fail_memory(err, "a message", 0);
    return status;
}

/* The arguments of a call are JSON in a string; templates expect what it says. What is no JSON stays a string. */
static void adapt_call(json_t *call)
{
    json_t *function = json_object_get(call, "function"), *arguments = json_object_get(function, "arguments"),
           *value = NULL;
    lf_error err;
    if (json_is_string(arguments) && lf_json_parse(&value, json_string_value(arguments),
                                                   json_string_length(arguments), "arguments", &err) == LF_OK)
        (void)json_object_set_new(function, "arguments", value);
}

static lf_status adapt_message(const lf_chat *chat, json_t *message, size_t i, lf_error *err)
{
    if (!json_is_object(message) || !json_is_string(json_object_get(message, "role")))
        return lf_fail(err, LF_EINVAL, "messages[%zu]: expected an object with a string 'role'", i);
    const json_t *calls = json_object_get(message, "tool_calls");
    for (size_t k = 0; k < json_array_size(calls); k++) adapt_call(json_array_get(calls, k));
    return adapt_content(chat, message, i, err);
}

static lf_status adapt_messages(json_t **out, const lf_chat *chat, const json_t *request, lf_error *err)
{
    const json_t *messages = json_object_get(request, "messages");
    if (!json_is_array(messages)) return lf_fail(err, LF_EINVAL, "messages: expected a list");
    json_t *copy = json_deep_copy(
        messages); /* a null member costs nothing to keep, and templates tell it from none */
    if (!copy) return lf_fail_memory(err, "the messages", json_array_size(messages));
    lf_status status = LF_OK;
    for (size_t i = 0; status == LF_OK && i < json_array_size(copy); i++)
        status = adapt_message(chat, json_array_get(copy, i), i, err);
    if (status != LF_OK)
        json_decref(copy);
    else
        *out = copy;
    return status;
}

/* vars.key = the member of the request if it is a list with items, else null: templates ask `is none` as well as `is defined`. */
static lf_status copy_list(json_t *vars, const json_t *request, const char *key, lf_error *err)
{
    json_t *list = json_object_get(request, key);
    if (list && !json_is_null(list) && !json_is_array(list))
        return lf_fail(err, LF_EINVAL, "%s: expected a list of objects", key);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!json_is_object(json_array_get(list, i)))
            return lf_fail(err, LF_EINVAL, "%s[%zu]: expected an object", key, i);
    const int failed = json_array_size(list) ? json_object_set(vars, key, list)
                                             : json_object_set_new(vars, key, json_null());
    return failed ? lf_fail_memory(err, key, 0) : LF_OK;
}

/* What the template sees: the request's own variables first, so that they cannot replace what has a meaning. */
static lf_status collect_vars(json_t **out, const lf_chat *chat, const json_t *request, lf_error *err)
{
    const json_t *extra = json_object_get(request, "chat_template_kwargs");
    const json_t *prompt = json_object_get(request, "add_generation_prompt");
    json_t *messages = NULL, *vars = json_copy(chat->tokens);
    lf_status status = LF_OK;
    if (!vars) LF_TRY(lf_fail_memory(err, "the variables", 0));
    if (extra && !json_is_null(extra) && json_object_update(vars, (json_t *)extra) != 0)
        LF_TRY(lf_fail(err, LF_EINVAL, "chat_template_kwargs: expected an object"));
    if (prompt && !json_is_null(prompt) && !json_is_boolean(prompt))
        LF_TRY(lf_fail(err, LF_EINVAL, "add_generation_prompt: expected true or false"));
    LF_TRY(copy_list(vars, request, "tools", err));
    LF_TRY(copy_list(vars, request, "documents", err));
    LF_TRY(adapt_messages(&messages, chat, request, err));
    if (json_object_set_new(vars, "messages", messages) != 0 || /* takes it, also when it fails */
        json_object_set_new(vars, "add_generation_prompt", json_boolean(!json_is_false(prompt))) != 0)
        status = lf_fail_memory(err, "the variables", 0);
done:
    if (status == LF_OK)
        *out = vars;
    else
        json_decref(vars);
    return status;
}

static lf_status write_request(const lf_chat *chat, const json_t *request, lf_bytes *out, lf_error *err)
{
    json_t *vars = NULL;
    const json_t *now = json_object_get(request, "now");
    const bool tools = json_array_size(json_object_get(request, "tools")) > 0;
    if (!json_is_object(request)) return lf_fail(err, LF_EINVAL, "a chat request: expected an object");
    lf_status status = collect_vars(&vars, chat, request, err);
    if (status == LF_OK)
        status = lf_jinja_render(tools && chat->with_tools ? chat->with_tools : chat->plain, vars,
                                 json_is_number(now) ? (int64_t)json_number_value(now) : (int64_t)time(NULL),
                                 out, err);
    json_decref(vars);
    return status;
}

lf_status lf_chat_write(const lf_chat *chat, const char *request, size_t len, lf_bytes *out, lf_error *err)
{
    json_t *root = NULL;
    if (!chat->text)
        return lf_fail(
            err, LF_EUNSUPPORTED,
            "the model has no chat template: give one, or \"chatml\", or a prompt that is plain text");
    if (!chat->plain) return lf_fail(err, chat->err.status, "%s", chat->err.text);
    lf_status status = lf_json_parse(&root, request, len, "a chat request", err);
    if (status == LF_OK) status = write_request(chat, root, out, err);
    json_decref(root);
    return status;
}

/* ---- opening ---- */

#define MARK  "lookfar-mark-1"
#define MARK2 "lookfar-mark-2"

/* Whether the template shows MARK, and MARK2 if `both`, of a request, and shows it as text: not as a dump of a list of parts. */
static bool shows(const lf_chat *chat, json_t *request, bool both)
{
    lf_bytes out = {0};
    lf_error err;
    const bool ok = request && write_request(chat, request, &out, &err) == LF_OK && out.data &&
                    strstr(out.data, MARK) &&
                    (!both || (strstr(out.data, MARK2) && !strstr(out.data, "'type'") &&
                               !strstr(out.data, "\"type\"")));
    lf_bytes_free(&out);
    json_decref(request);
    return ok;
}

static void find_abilities(lf_chat *chat)
{
    chat->strings = chat->parts = true; /* so that nothing is adapted */
    const bool strings = shows(
        chat, json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user", "content", MARK), false);
    const bool parts = shows(chat,
                             json_pack("{s:[{s:s, s:[{s:s, s:s}, {s:s, s:s}]}]}", "messages", "role", "user",
                                       "content", "type", "text", "text", MARK, "type", "text", "text",
                                       MARK2),
                             true);
    chat->strings = strings || !parts;
    chat->parts = parts;
    chat->system = shows(chat,
                         json_pack("{s:[{s:s, s:s}, {s:s, s:s}]}", "messages", "role", "system", "content",
                                   MARK, "role", "user", "content", "x"),
                         false);
    chat->tools = shows(chat,
                        json_pack("{s:[{s:s, s:s}], s:[{s:s, s:{s:s, s:s, s:{s:s, s:{}}}}]}", "messages",
                                  "role", "user", "content", "x", "tools", "type", "function", "function",
                                  "name", MARK, "description", "x", "parameters", "type", "object",
                                  "properties"),
                        false);
}

static lf_status add_token(lf_chat *chat, const lf_tokenizer *t, const char *name, int32_t id, lf_error *err)
{
    size_t len;
    const char *piece = lf_tokenizer_piece(t, id, &len);
    if (id == LF_TOKEN_NONE) return LF_OK; /* undefined in the template, as in transformers */
    return json_object_set_new(chat->tokens, name, json_stringn(piece, len)) == 0
               ? LF_OK
               : lf_fail_memory(err, "a chat template", len);
}

static lf_status compile(lf_chat *chat, const lf_tokenizer *t, bool given, lf_error *err)
{
    const char *tool_use = given ? NULL : lf_tokenizer_chat_template_tools(t);
    lf_status status = lf_jinja_compile(&chat->plain, chat->text, strlen(chat->text), "chat template",
                                        &chat->err);
    if (status == LF_OK && tool_use)
        status = lf_jinja_compile(&chat->with_tools, tool_use, strlen(tool_use), "chat template tool_use",
                                  &chat->err);
    if (status == LF_OK || (!given && status != LF_ENOMEM)) return LF_OK;
    return lf_fail(err, status, "%s", chat->err.text);
}

lf_status lf_chat_open(lf_chat **out, const lf_tokenizer *t, const char *template, lf_error *err)
{
    const char *text = !template                         ? lf_tokenizer_chat_template(t)
                       : strcmp(template, "chatml") == 0 ? chatml
                                                         : template;
    lf_status status = LF_OK;
    lf_chat *chat = calloc(1, sizeof *chat);
    if (!chat) return lf_fail_memory(err, "a chat template", sizeof *chat);
    chat->tokens = json_pack("{s:b}", "add_bos_token", lf_tokenizer_adds_bos(t));
    if (text) chat->text = lf_strndup(text, strlen(text));
    if (!chat->tokens || (text && !chat->text)) LF_TRY(lf_fail_memory(err, "a chat template", sizeof *chat));
    LF_TRY(add_token(chat, t, "bos_token", lf_tokenizer_bos(t), err));
    LF_TRY(add_token(chat, t, "eos_token", lf_tokenizer_eos(t), err));
    if (text) LF_TRY(compile(chat, t, template != NULL, err));
    if (chat->plain) find_abilities(chat);
    *out = chat;
    chat = NULL;
done:
    lf_chat_close(chat);
    return status;
}

void lf_chat_close(lf_chat *chat)
{
    if (!chat) return;
    lf_jinja_free(chat->plain);
    lf_jinja_free(chat->with_tools);
    json_decref(chat->tokens);
    free(chat->text);
    free(chat);
}

void lf_chat_describe(const lf_chat *chat, lf_chat_info *info)
{
    *info = (lf_chat_info){.size = sizeof *info,
                           .template_text = chat->text,
                           .error = chat->text && !chat->plain ? chat->err.text : NULL,
                           .tools = chat->tools,
                           .system = chat->system};
}
