/* JSON to values, and values to JSON as Python's json.dumps writes it. */
#include "jinja/jinja_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading; strings stay where they are ---- */

static value from_object(render *r, const json_t *object)
{
    value out = lf_value_dict(r, J_DICT, json_object_size(object));
    const char *key;
    json_t *member;
    if (out.kind == J_UNDEFINED) return out;
    json_object_foreach((json_t *)object, key, member)
    {
        dict *d = out.as.dict; /* the keys differ */
        d->pairs[d->n++] = (pair){.key = value_str((str){key, strlen(key)}),
                                  .value = lf_jinja_from_json(r, member)};
    }
    return out;
}

static value from_array(render *r, const json_t *array)
{
    value out = lf_value_seq(r, J_LIST, NULL, json_array_size(array));
    if (out.kind == J_UNDEFINED) return out;
    for (size_t i = 0; i < out.as.seq->n; i++)
        out.as.seq->items[i] = lf_jinja_from_json(r, json_array_get(array, i));
    return out;
}

value lf_jinja_from_json(render *r, const json_t *json)
{
    value out = value_none();
    if (!lf_render_enter(r)) return value_undefined(-1);
    switch (json_typeof(json)) {
    case JSON_OBJECT: out = from_object(r, json); break;
    case JSON_ARRAY: out = from_array(r, json); break;
    case JSON_STRING: out = value_str((str){json_string_value(json), json_string_length(json)}); break;
    case JSON_INTEGER: out = value_int(json_integer_value(json)); break;
    case JSON_REAL: out = value_float(json_real_value(json)); break;
    case JSON_TRUE: out = value_bool(true); break;
    case JSON_FALSE: out = value_bool(false); break;
    case JSON_NULL: break;
    }
    r->depth--;
    return out;
}

/* ---- writing ---- */

typedef struct writer {
    render *r;
    const json_style *style;
    lf_bytes out;
} writer;

static void put(writer *w, const char *p, size_t n)
{
    if (!lf_render_spend(w->r, steps_of_bytes(n))) return;
    if (w->out.len + n > LF_JINJA_OUTPUT_MAX)
        (void)lf_render_fail(w->r, LF_ELIMIT, "a text grew past %d bytes", LF_JINJA_OUTPUT_MAX);
    else if (!lf_bytes_append(&w->out, p, n))
        (void)lf_render_fail(w->r, LF_ENOMEM, "out of memory");
}

static void put_line(writer *w, size_t level)
{
    if (!w->style->pretty) return;
    put(w, "\n", 1);
    for (size_t i = 0; i < level && w->r->status == LF_OK; i++)
        put(w, w->style->indent.p, w->style->indent.n);
}

/* \uXXXX, and a pair of them beyond the first 65,536. */
static void put_escape(writer *w, int32_t cp)
{
    char text[16];
    const unsigned high = (unsigned)cp - 0x10000;
    const int n = cp < 0x10000 ? snprintf(text, sizeof text, "\\u%04x", (unsigned)cp)
                               : snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD800 + (high >> 10),
                                          0xDC00 + (high & 0x3FF));
    put(w, text, (size_t)n);
}

static void put_string(writer *w, str s)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    size_t at = 0, done = 0;
    put(w, "\"", 1);
    while (at < s.n) {
        const size_t start = at;
        const int32_t cp = lf_text_next(s, &at);
        const char *simple = cp > 0 && cp < 0x80 ? strchr(plain, cp) : NULL;
        if (!simple && cp >= ' ' && (cp < 0x7F || !w->style->ensure_ascii)) continue;
        put(w, s.p + done, start - done);
        done = at;
        if (simple)
            put(w, (const char[]){'\\', letters[simple - plain]}, 2);
        else
            put_escape(w, cp);
    }
    put(w, s.p + done, s.n - done);
    put(w, "\"", 1);
}

static void put_float(writer *w, double f)
{
    char text[FLOAT_TEXT_BYTES];
    if (isnan(f))
        put(w, "NaN", 3);
    else if (isinf(f))
        put(w, f < 0 ? "-Infinity" : "Infinity", f < 0 ? 9 : 8);
    else
        put(w, text, lf_float_text(text, f));
}

static void put_value(writer *w, const value *v, size_t level);

static void put_list(writer *w, const seq *s, size_t level)
{
    put(w, "[", 1);
    for (size_t i = 0; i < s->n && w->r->status == LF_OK; i++) {
        if (i) put(w, w->style->item_separator.p, w->style->item_separator.n);
        put_line(w, level + 1);
        put_value(w, &s->items[i], level + 1);
    }
    if (s->n) put_line(w, level);
    put(w, "]", 1);
}

/* Keys of JSON are strings. */
static void put_key(writer *w, const value *key)
{
    if (key->kind == J_STRING) {
        put_string(w, key->as.s);
    } else if (value_is_number(key) || key->kind == J_NONE) {
        put(w, "\"", 1);
        put_value(w, key, 0);
        put(w, "\"", 1);
    } else {
        (void)lf_render_fail(w->r, LF_EINVAL, "tojson: found %s as a key, expected a string",
                             lf_value_type(key));
    }
}

static int compare_keys(const void *a, const void *b, void *cookie)
{
    return lf_value_compare(cookie, &((const pair *)a)->key, &((const pair *)b)->key);
}

static const pair *sorted_pairs(render *r, const dict *d)
{
    pair *pairs = lf_render_alloc(r, d->n, sizeof *pairs);
    if (!pairs) return NULL;
    if (d->n) memcpy(pairs, d->pairs, d->n * sizeof *pairs);
    qsort_r(pairs, d->n, sizeof *pairs, compare_keys, r);
    return pairs;
}

static void put_dict(writer *w, const dict *d, size_t level)
{
    const pair *pairs = w->style->sort_keys ? sorted_pairs(w->r, d) : d->pairs;
    put(w, "{", 1);
    for (size_t i = 0; i < d->n && w->r->status == LF_OK; i++) {
        if (i) put(w, w->style->item_separator.p, w->style->item_separator.n);
        put_line(w, level + 1);
        put_key(w, &pairs[i].key);
        put(w, w->style->key_separator.p, w->style->key_separator.n);
        put_value(w, &pairs[i].value, level + 1);
    }
    if (d->n) put_line(w, level);
    put(w, "}", 1);
}

static void put_value(writer *w, const value *v, size_t level)
{
    char text[24];
    if (!lf_render_enter(w->r)) return;
    switch (v->kind) {
    case J_NONE: put(w, "null", 4); break;
    case J_BOOL: put(w, v->as.truth ? "true" : "false", v->as.truth ? 4 : 5); break;
    case J_INT: put(w, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)v->as.i)); break;
    case J_FLOAT: put_float(w, v->as.f); break;
    case J_STRING: put_string(w, v->as.s); break;
    case J_LIST:
    case J_TUPLE: put_list(w, v->as.seq, level); break;
    case J_DICT: put_dict(w, v->as.dict, level); break;
    default: (void)lf_render_fail(w->r, LF_EINVAL, "tojson: found %s, which JSON has not", lf_value_type(v));
    }
    w->r->depth--;
}

value lf_jinja_to_json(render *r, const value *v, const json_style *style)
{
    writer w = {.r = r, .style = style};
    put_value(&w, v, 0);
    const value text = lf_value_copy(r, w.out.data, w.out.len);
    lf_bytes_free(&w.out);
    return text;
}
