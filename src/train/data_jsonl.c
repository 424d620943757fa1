/* JSON lines of prompt and response. */
#include "train/data_text_int.h"

#include "file/json.h"

#include <string.h>

enum { NAME_MAX_BYTES = 512 };

/* A line of the file, with what errors call it. */
typedef struct record {
    json_t *object;
    char name[NAME_MAX_BYTES]; /* "PATH: line 7" */
} record;

static lf_status open_record(record *r, const lf_data_text *t, const char *line, size_t len, long long i_line,
                             lf_error *err)
{
    (void)snprintf(r->name, sizeof r->name, "%.400s: line %lld", t->path, i_line);
    const lf_status status = lf_json_parse(&r->object, line, len, r->name, err);
    if (status != LF_OK) return status;
    if (json_is_object(r->object)) return LF_OK;
    return lf_fail(err, LF_EFORMAT, "%s: found no JSON object, expected one", r->name);
}

static lf_status append(lf_bytes *out, const char *text, size_t len, lf_error *err)
{
    return lf_bytes_append(out, text, len) ? LF_OK : lf_fail_memory(err, "a prompt", len);
}

/* Appends the field whose name is (name, len). */
static lf_status append_field(lf_bytes *out, const record *r, const char *name, size_t len, lf_error *err)
{
    char key[NAME_MAX_BYTES];
    const char *value;
    (void)snprintf(key, sizeof key, "%.*s", (int)(len < sizeof key ? len : sizeof key - 1), name);
    const lf_status status = lf_json_get_string(r->object, r->name, key, true, &value, err);
    return status == LF_OK ? append(out, value, strlen(value), err) : status;
}

/* The template with its {field}s filled in. A brace that no name and brace follow stands for itself. */
static lf_status fill_template(lf_bytes *out, const record *r, const char *template, lf_error *err)
{
    lf_status status = LF_OK;
    out->len = 0;
    for (const char *at = template; *at;) {
        const size_t name_len = *at == '{' ? strcspn(at + 1, "{}\n") : 0;
        if (name_len > 0 && at[1 + name_len] == '}') {
            LF_TRY(append_field(out, r, at + 1, name_len, err));
            at += name_len + 2;
        } else {
            LF_TRY(append(out, at++, 1, err));
        }
    }
done:
    return status;
}

static lf_status add_record(lf_data_text *t, const record *r, lf_bytes *prompt, lf_error *err)
{
    lf_status status = LF_OK;
    const char *response;
    LF_TRY(fill_template(prompt, r, t->options->template, err));
    LF_TRY(lf_json_get_string(r->object, r->name, t->options->response, true, &response, err));
    LF_TRY(lf_data_text_begin(t, err));
    LF_TRY(lf_data_text_add(t, prompt->data ? prompt->data : "", prompt->len, t->options->train_prompt, err));
    LF_TRY(lf_data_text_add(t, response, strlen(response), true, err));
    status = lf_data_text_end(t, err);
done:
    return status;
}

lf_status lf_data_text_read_jsonl(lf_data_text *t, lf_error *err)
{
    lf_status status = LF_OK;
    lf_bytes prompt = {0};
    record r = {0};
    long long i_line = 0;
    const char *end = t->data + t->size;
    for (const char *line = t->data, *next; line < end; line = next) {
        const char *line_end = memchr(line, '\n', (size_t)(end - line));
        next = line_end ? line_end + 1 : end;
        const size_t len = (size_t)((line_end ? line_end : end) - line);
        i_line++;
        if (lf_data_text_is_blank(line, len)) continue;
        LF_TRY(open_record(&r, t, line, len, i_line, err));
        LF_TRY(add_record(t, &r, &prompt, err));
        json_decref(r.object);
        r.object = NULL;
        LF_TRY(lf_data_text_progress(t, next, err));
    }
done:
    json_decref(r.object);
    lf_bytes_free(&prompt);
    return status;
}
