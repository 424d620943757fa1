#include "train/data_jsonl.h"

#include "train/data_text_int.h"

#include <string.h>

/* ---- lines ---- */

static lf_status open_line(lf_jsonl_line *l, const char *path, const char *text, size_t len, long long i_line,
                           lf_error *err)
{
    (void)snprintf(l->name, sizeof l->name, "%.400s: line %lld", path, i_line);
    const lf_status status = lf_json_parse(&l->object, text, len, l->name, err);
    if (status != LF_OK) return status;
    if (json_is_object(l->object)) return LF_OK;
    return lf_fail(err, LF_EFORMAT, "%s: found no JSON object, expected one", l->name);
}

lf_status lf_jsonl_each(const char *path, const char *data, size_t size, lf_jsonl_fn *fn, void *cookie,
                        lf_error *err)
{
    lf_status status = LF_OK;
    lf_jsonl_line l = {0};
    long long i_line = 0;
    const char *end = data + size;
    for (const char *text = data; text < end; text = l.next) {
        const char *text_end = memchr(text, '\n', (size_t)(end - text));
        l.next = text_end ? text_end + 1 : end;
        const size_t len = (size_t)((text_end ? text_end : end) - text);
        i_line++;
        if (lf_data_text_is_blank(text, len)) continue;
        LF_TRY(open_line(&l, path, text, len, i_line, err));
        LF_TRY(fn(cookie, &l, err));
        json_decref(l.object);
        l.object = NULL;
    }
done:
    json_decref(l.object);
    return status;
}

/* ---- templates ---- */

static lf_status append(lf_bytes *out, const char *text, size_t len, lf_error *err)
{
    return lf_bytes_append(out, text, len) ? LF_OK : lf_fail_memory(err, "a prompt", len);
}

/* Appends the field whose name is (name, len). */
static lf_status append_field(lf_bytes *out, const lf_jsonl_line *l, const char *name, size_t len,
                              lf_error *err)
{
    char key[LF_JSONL_NAME_MAX];
    const char *value;
    (void)snprintf(key, sizeof key, "%.*s", (int)(len < sizeof key ? len : sizeof key - 1), name);
    const lf_status status = lf_json_get_string(l->object, l->name, key, true, &value, err);
    return status == LF_OK ? append(out, value, strlen(value), err) : status;
}

lf_status lf_jsonl_fill(lf_bytes *out, const lf_jsonl_line *l, const char *template, lf_error *err)
{
    lf_status status = LF_OK;
    out->len = 0;
    for (const char *at = template; *at;) {
        const size_t name_len = *at == '{' ? strcspn(at + 1, "{}\n") : 0;
        if (name_len > 0 && at[1 + name_len] == '}') {
            LF_TRY(append_field(out, l, at + 1, name_len, err));
            at += name_len + 2;
        } else {
            LF_TRY(append(out, at++, 1, err));
        }
    }
done:
    return status;
}

/* ---- lines of prompt and response ---- */

typedef struct reading {
    lf_data_text *text;
    lf_bytes prompt; /* of the line at hand */
} reading;

static lf_status add_line(void *cookie, const lf_jsonl_line *l, lf_error *err)
{
    lf_status status = LF_OK;
    reading *r = cookie;
    lf_data_text *t = r->text;
    const char *response;
    LF_TRY(lf_jsonl_fill(&r->prompt, l, t->options->template, err));
    LF_TRY(lf_json_get_string(l->object, l->name, t->options->response, true, &response, err));
    LF_TRY(lf_data_text_begin(t, err));
    LF_TRY(lf_data_text_add(t, r->prompt.data ? r->prompt.data : "", r->prompt.len, t->options->train_prompt,
                            err));
    LF_TRY(lf_data_text_add(t, response, strlen(response), true, err));
    LF_TRY(lf_data_text_end(t, err));
    status = lf_data_text_progress(t, l->next, err);
done:
    return status;
}

lf_status lf_data_text_read_jsonl(lf_data_text *t, lf_error *err)
{
    reading r = {.text = t};
    const lf_status status = lf_jsonl_each(t->path, t->data, t->size, add_line, &r, err);
    lf_bytes_free(&r.prompt);
    return status;
}
