/* tokenizer_config.json, special_tokens_map.json and generation_config.json: what they say about a tokenizer. Any of
 * them may be absent. */
#include "token/load.h"

#include "base/map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *lf_path_join(const char *dir, const char *file)
{
    lf_bytes path = {0};
    if (lf_bytes_printf(&path, "%s/%s", dir, file)) return path.data;
    lf_bytes_free(&path);
    return NULL;
}

static lf_status open_one(json_t **out, char **path, const char *dir, const char *file, lf_error *err)
{
    *path = lf_path_join(dir, file);
    if (!*path) return lf_fail_memory(err, "a path", strlen(dir) + strlen(file));
    return access(*path, F_OK) == 0 ? lf_json_load(out, *path, err) : LF_OK;
}

lf_status lf_sidecar_open(lf_sidecar *s, const char *dir, lf_error *err)
{
    *s = (lf_sidecar){.dir = dir};
    lf_status status;
    LF_TRY(open_one(&s->config, &s->config_name, dir, "tokenizer_config.json", err));
    LF_TRY(open_one(&s->map, &s->map_name, dir, "special_tokens_map.json", err));
    LF_TRY(open_one(&s->generation, &s->generation_name, dir, "generation_config.json", err));
done:
    if (status != LF_OK) lf_sidecar_close(s);
    return status;
}

void lf_sidecar_close(lf_sidecar *s)
{
    json_decref(s->config);
    json_decref(s->map);
    json_decref(s->generation);
    free(s->config_name);
    free(s->map_name);
    free(s->generation_name);
    *s = (lf_sidecar){0};
}

/* ---- added_tokens_decoder: {"32000": {"content": ..., flags}, ...} ---- */

typedef struct entry {
    json_int_t id;
    const json_t *token;
} entry;

static int compare_ids(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* entries (n) of the object, ascending by id. */
static lf_status read_entries(entry *entries, json_t *tokens, const char *name, lf_error *err)
{
    const char *key;
    json_t *token;
    size_t n = 0;
    json_object_foreach(tokens, key, token)
    {
        char *end;
        const long long id = strtoll(key, &end, 10);
        if (end == key || *end || id < 0 || id >= LF_VOCAB_MAX)
            return lf_fail(err, LF_EFORMAT,
                           "%s: added_tokens_decoder: found the key '%.80s', expected an id below %d", name,
                           key, LF_VOCAB_MAX);
        entries[n++] = (entry){.id = id, .token = token};
    }
    qsort(entries, n, sizeof *entries, compare_ids);
    return LF_OK;
}

lf_status lf_sidecar_add_tokens(const lf_sidecar *s, lf_tokenizer *t, bool *found, lf_error *err)
{
    json_t *tokens = json_object_get(s->config, "added_tokens_decoder");
    const size_t n = json_object_size(tokens);
    *found = n > 0;
    if (n == 0) return LF_OK;
    entry *entries = malloc(n * sizeof *entries);
    if (!entries) return lf_fail_memory(err, "the added tokens", n * sizeof *entries);
    lf_status status;
    LF_TRY(read_entries(entries, tokens, s->config_name, err));
    for (size_t i = 0; i < n; i++) {
        const int32_t before = t->vocab.n;
        const bool known = entries[i].id < before && t->vocab.kinds[entries[i].id] != LF_TOKEN_NORMAL;
        if (!known) LF_TRY(lf_load_added_token(t, entries[i].id, entries[i].token, s->config_name, err));
    }
done:
    free(entries);
    return status;
}

/* ---- the rest ---- */

lf_status lf_sidecar_class(const lf_sidecar *s, char class[64], lf_error *err)
{
    static const char suffix[] = "Fast";
    const char *name = "";
    if (s->config) {
        const lf_status status = lf_json_get_string(s->config, s->config_name, "tokenizer_class", false,
                                                    &name, err);
        if (status != LF_OK) return status;
    }
    (void)snprintf(class, 64, "%s", name);
    const size_t len = strlen(class), suffix_len = strlen(suffix);
    if (len > suffix_len && strcmp(class + len - suffix_len, suffix) == 0) class[len - suffix_len] = '\0';
    return LF_OK;
}

/* *id = the token that a member names, by a string or an object with "content"; left alone when it is absent. */
static lf_status read_token(const lf_tokenizer *t, const json_t *object, const char *name, const char *key,
                            int32_t *id, lf_error *err)
{
    const json_t *member = json_object_get(object, key);
    const char *content = NULL;
    lf_status status = LF_OK;
    if (json_is_object(member))
        status = lf_json_get_string(member, name, "content", true, &content, err);
    else if (member)
        status = lf_json_get_string(object, name, key, false, &content, err);
    if (status != LF_OK || !content) return status;
    const int32_t found = lf_vocab_find(&t->vocab, content, strlen(content));
    if (found == LF_TOKEN_NONE)
        return lf_fail(err, LF_EFORMAT, "%s: key '%s': found '%.80s', expected a piece of the vocabulary",
                       name, key, content);
    *id = found;
    return LF_OK;
}

/* eos_token_id: an id or a list of ids. */
static lf_status add_eos_ids(const lf_sidecar *s, lf_tokenizer *t, lf_error *err)
{
    const json_t *ids = json_object_get(s->generation, "eos_token_id");
    const size_t n = json_is_array(ids) ? json_array_size(ids) : ids && !json_is_null(ids);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(ids) ? json_array_get(ids, i) : ids;
        const json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id < 0 || id >= t->vocab.n)
            return lf_fail(err, LF_EFORMAT, "%s: key 'eos_token_id': found %lld, expected ids from 0 to %d",
                           s->generation_name, (long long)id, (int)t->vocab.n - 1);
        const lf_status status = lf_tokenizer_add_eos(t, (int32_t)id, err);
        if (status != LF_OK) return status;
    }
    return LF_OK;
}

/* ---- the chat template ---- */

static lf_status copy_template(char **out, const char *text, size_t len, lf_error *err)
{
    free(*out);
    *out = lf_strndup(text, len);
    return *out ? LF_OK : lf_fail_memory(err, "the chat template", len);
}

/* The whole file dir/file, if it is there. */
static lf_status read_template_file(char **out, const char *dir, const char *file, lf_error *err)
{
    lf_map map = {0};
    char *path = lf_path_join(dir, file);
    if (!path) return lf_fail_memory(err, "a path", strlen(dir));
    lf_status status = LF_OK;
    if (access(path, F_OK) == 0) status = lf_map_open(&map, path, err);
    if (status == LF_OK && map.data && memchr(map.data, '\0', map.size))
        status = lf_fail(err, LF_EFORMAT, "%s: found a NUL byte, expected text", path);
    else if (status == LF_OK && map.data)
        status = copy_template(out, (const char *)map.data, map.size, err);
    lf_map_close(&map);
    free(path);
    return status;
}

/* A string, or a list of {name, template} of which "default" and "tool_use" count. Newer folders have files of their own instead. */
static lf_status read_template(const lf_sidecar *s, lf_tokenizer *t, lf_error *err)
{
    const json_t *member = json_object_get(s->config, "chat_template");
    const char *text = json_string_value(member), *tools = NULL;
    for (size_t i = 0; i < json_array_size(member); i++) {
        const json_t *item = json_array_get(member, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        const char *template = json_string_value(json_object_get(item, "template"));
        if (name && strcmp(name, "default") == 0) text = template;
        if (name && strcmp(name, "tool_use") == 0) tools = template;
    }
    lf_status status = LF_OK;
    if (text) LF_TRY(copy_template(&t->chat_template, text, strlen(text), err));
    if (tools) LF_TRY(copy_template(&t->chat_template_tools, tools, strlen(tools), err));
    LF_TRY(read_template_file(&t->chat_template, s->dir, "chat_template.jinja", err));
    LF_TRY(
        read_template_file(&t->chat_template_tools, s->dir, "additional_chat_templates/tool_use.jinja", err));
done:
    return status;
}

lf_status lf_sidecar_apply(const lf_sidecar *s, lf_tokenizer *t, lf_error *err)
{
    int32_t eos = LF_TOKEN_NONE;
    lf_status status;
    LF_TRY(read_token(t, s->map, s->map_name, "bos_token", &t->bos, err));
    LF_TRY(read_token(t, s->map, s->map_name, "eos_token", &eos, err));
    LF_TRY(read_token(t, s->config, s->config_name, "bos_token", &t->bos, err));
    LF_TRY(read_token(t, s->config, s->config_name, "eos_token", &eos, err));
    if (t->bos != LF_TOKEN_NONE) LF_TRY(lf_load_special(t, t->bos, err));
    if (eos != LF_TOKEN_NONE) {
        LF_TRY(lf_load_special(t, eos, err));
        LF_TRY(lf_tokenizer_add_eos(t, eos, err));
    }
    LF_TRY(add_eos_ids(s, t, err));
    if (s->config)
        LF_TRY(lf_json_get_bool(s->config, s->config_name, "add_bos_token", false, &t->adds_bos, err));
    status = read_template(s, t, err);
done:
    return status;
}
