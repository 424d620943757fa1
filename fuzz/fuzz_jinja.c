/* Chat templates of strangers over conversations of strangers: the bytes are a template, a NUL, and JSON for its variables. Whatever
 * they are, they are refused, or rendered to UTF-8 within the limits. */
#include "jinja/jinja.h"

#include <string.h>
#include <utf8proc.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const lf_bytes *text)
{
    for (size_t i = 0; i < text->len;) {
        utf8proc_int32_t cp;
        const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text->data + i,
                                                    (utf8proc_ssize_t)(text->len - i), &cp);
        if (n <= 0) __builtin_trap();
        i += (size_t)n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    const size_t len = nul ? (size_t)(nul - data) : size;
    lf_jinja *t = NULL;
    lf_error err;
    lf_bytes text = {0};
    if (lf_jinja_compile(&t, (const char *)data, len, "fuzz", &err) != LF_OK) return 0;
    json_t *vars = nul ? json_loadb((const char *)nul + 1, size - len - 1, 0, NULL) : NULL;
    if (lf_jinja_render(t, vars, 0, &text, &err) == LF_OK) check_text(&text);
    lf_bytes_free(&text);
    json_decref(vars);
    lf_jinja_free(t);
    return 0;
}
