/* Values as text, as Python's str() and repr() write them. */
#include "jinja/jinja_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

size_t lf_float_text(char out[FLOAT_TEXT_BYTES], double f)
{
    char digits[32];
    int precision = 0;
    if (isnan(f)) return (size_t)snprintf(out, FLOAT_TEXT_BYTES, "nan");
    if (isinf(f)) return (size_t)snprintf(out, FLOAT_TEXT_BYTES, f < 0 ? "-inf" : "inf");
    do (void)snprintf(digits, sizeof digits, "%.*e", precision, f);
    while (strtod(digits, NULL) != f && ++precision < 17);
    /* [-]d.ddde+XX: the sign, precision + 1 digits, the exponent */
    const size_t sign = digits[0] == '-';
    const int exponent = atoi(strchr(digits, 'e') + 1);
    memmove(digits + sign + 1, digits + sign + 1 + (precision > 0), (size_t)precision);
    const char *d = digits + sign;
    const int n = precision + 1;
    size_t len = sign;
    if (sign) out[0] = '-';
    if (exponent < -4 || exponent >= 16) {
        len += (size_t)snprintf(out + len, FLOAT_TEXT_BYTES - len, "%c%s%.*se%c%02d", d[0], n > 1 ? "." : "",
                                n - 1, d + 1, exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        len += (size_t)snprintf(out + len, FLOAT_TEXT_BYTES - len, "0.%.*s%.*s", -exponent - 1, "0000", n, d);
    } else {
        const int whole = exponent + 1, shown = n < whole ? n : whole;
        len += (size_t)snprintf(out + len, FLOAT_TEXT_BYTES - len, "%.*s%.*s.%.*s", shown, d, whole - shown,
                                "0000000000000000", n > whole ? n - whole : 1, n > whole ? d + whole : "0");
    }
    return len;
}

static void append(render *r, lf_bytes *out, const char *p, size_t n)
{
    if (!lf_render_spend(r, steps_of_bytes(n))) return;
    if (out->len + n > LF_JINJA_OUTPUT_MAX)
        (void)lf_render_fail(r, LF_ELIMIT, "a text grew past %d bytes", LF_JINJA_OUTPUT_MAX);
    else if (!lf_bytes_append(out, p, n))
        (void)lf_render_fail(r, LF_ENOMEM, "out of memory");
}

/* str.isprintable() for one code point */
static bool is_printable(int32_t cp)
{
    const utf8proc_category_t c = utf8proc_category(cp);
    return cp == ' ' ||
           !(c == UTF8PROC_CATEGORY_CC || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_CS ||
             c == UTF8PROC_CATEGORY_CO || c == UTF8PROC_CATEGORY_CN || c == UTF8PROC_CATEGORY_ZL ||
             c == UTF8PROC_CATEGORY_ZP || c == UTF8PROC_CATEGORY_ZS);
}

static void repr_text(render *r, lf_bytes *out, str s)
{
    const bool has_single = s.n && memchr(s.p, '\'', s.n), has_double = s.n && memchr(s.p, '"', s.n);
    const char quote = has_single && !has_double ? '"' : '\'';
    append(r, out, &quote, 1);
    for (size_t at = 0; at < s.n && r->status == LF_OK;) {
        const size_t start = at;
        const int32_t cp = lf_text_next(s, &at);
        char escape[16];
        int n = 0;
        if (cp == quote || cp == '\\')
            n = snprintf(escape, sizeof escape, "\\%c", (char)cp);
        else if (cp == '\n' || cp == '\r' || cp == '\t')
            n = snprintf(escape, sizeof escape, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
        else if (!is_printable(cp))
            n = snprintf(escape, sizeof escape,
                         cp < 0x100     ? "\\x%02x"
                         : cp < 0x10000 ? "\\u%04x"
                                        : "\\U%08x",
                         (unsigned)cp);
        append(r, out, n ? escape : s.p + start, n ? (size_t)n : at - start);
    }
    append(r, out, &quote, 1);
}

static void show(render *r, lf_bytes *out, const value *v);

static void show_items(render *r, lf_bytes *out, const seq *s, const char *open, const char *close)
{
    append(r, out, open, strlen(open));
    for (size_t i = 0; i < s->n && r->status == LF_OK; i++) {
        if (i) append(r, out, ", ", 2);
        show(r, out, &s->items[i]);
    }
    append(r, out, close, strlen(close));
}

static void show_dict(render *r, lf_bytes *out, const dict *d)
{
    append(r, out, "{", 1);
    for (size_t i = 0; i < d->n && r->status == LF_OK; i++) {
        if (i) append(r, out, ", ", 2);
        show(r, out, &d->pairs[i].key);
        append(r, out, ": ", 2);
        show(r, out, &d->pairs[i].value);
    }
    append(r, out, "}", 1);
}

/* Appends repr(v). */
static void show(render *r, lf_bytes *out, const value *v)
{
    char text[FLOAT_TEXT_BYTES];
    if (!lf_render_enter(r)) return;
    switch (v->kind) {
    case J_UNDEFINED: append(r, out, "Undefined", 9); break;
    case J_NONE: append(r, out, "None", 4); break;
    case J_BOOL: append(r, out, v->as.truth ? "True" : "False", v->as.truth ? 4 : 5); break;
    case J_INT: append(r, out, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)v->as.i)); break;
    case J_FLOAT: append(r, out, text, lf_float_text(text, v->as.f)); break;
    case J_STRING: repr_text(r, out, v->as.s); break;
    case J_LIST: show_items(r, out, v->as.seq, "[", "]"); break;
    case J_TUPLE: show_items(r, out, v->as.seq, "(", v->as.seq->n == 1 ? ",)" : ")"); break;
    case J_VIEW:
        append(r, out, v->as.seq->view, strlen(v->as.seq->view));
        show_items(r, out, v->as.seq, "([", "])");
        break;
    case J_DICT: show_dict(r, out, v->as.dict); break;
    case J_NAMESPACE:
        append(r, out, "<Namespace ", 11);
        show_dict(r, out, v->as.dict);
        append(r, out, ">", 1);
        break;
    default:
        (void)lf_render_fail(r, LF_EUNSUPPORTED, "found %s, expected something with a text%s",
                             lf_value_type(v),
                             v->kind == J_ITERATOR || v->kind == J_RANGE ? ": put it through |list" : "");
    }
    r->depth--;
}

str lf_value_repr(render *r, const value *v)
{
    lf_bytes out = {0};
    show(r, &out, v);
    const value copy = lf_value_copy(r, out.data, out.len);
    lf_bytes_free(&out);
    return copy.kind == J_STRING ? copy.as.s : STR("");
}

str lf_value_text(render *r, const value *v)
{
    if (v->kind == J_STRING) return v->as.s;
    if (v->kind == J_UNDEFINED) return STR("");
    return lf_value_repr(r, v);
}
