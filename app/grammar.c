/* --json-schema, --regex and --choice: texts and files into a grammar. */
#include "app.h"

#include "base/mem.h"
#include "base/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A schema is an object; what does not begin like one is the name of a file. */
static bool is_file_name(const char *text)
{
    return text[strspn(text, " \t\r\n")] != '{';
}

static lf_status read_file(lf_bytes *out, const char *path, lf_error *err)
{
    char chunk[1 << 14];
    size_t n;
    lf_status status = LF_OK;
    FILE *f = fopen(path, "rb");
    if (!f) return lf_fail(err, LF_EIO, "%s: cannot open: %s", path, strerror(errno));
    while (status == LF_OK && (n = fread(chunk, 1, sizeof chunk, f)) > 0)
        if (!lf_bytes_append(out, chunk, n)) status = lf_fail_memory(err, path, out->len + n);
    if (ferror(f)) status = lf_fail(err, LF_EIO, "%s: cannot read: %s", path, strerror(errno));
    (void)fclose(f);
    return status;
}

static lf_status list_choices(lf_bytes *out, const app_grammar_options *o, lf_error *err)
{
    json_t *list = json_array();
    for (int i = 0; i < o->n_choices; i++) {
        json_t *choice = json_string(o->choices[i]);
        if (!choice) {
            json_decref(list);
            return lf_fail(err, LF_EINVAL, "--choice: found bytes that are not UTF-8, expected a text");
        }
        (void)json_array_append_new(list, choice);
    }
    char *text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    if (!text || !lf_bytes_append(out, text, strlen(text))) {
        free(text);
        return lf_fail_memory(err, "choices", 0);
    }
    free(text);
    return LF_OK;
}

lf_status app_compile_grammar(lf_grammar **out, lf_engine *engine, const app_grammar_options *o,
                              lf_error *err)
{
    lf_bytes text = {0};
    lf_status status = LF_OK;
    if (!o->is_set) return LF_OK;
    if (o->kind == LF_GRAMMAR_CHOICE)
        LF_TRY(list_choices(&text, o, err));
    else if (o->kind == LF_GRAMMAR_JSON_SCHEMA && is_file_name(o->text))
        LF_TRY(read_file(&text, o->text, err));
    else if (!lf_bytes_append(&text, o->text, strlen(o->text)))
        LF_TRY(lf_fail_memory(err, "a grammar", strlen(o->text)));
    status = lf_grammar_compile(out, engine, o->kind, text.data, text.len, err);
done:
    lf_bytes_free(&text);
    return status;
}
