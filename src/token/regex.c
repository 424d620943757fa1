#include "token/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

/* White_Space, and its complement. */
#define SPACES                                                                                               \
    "\\x09-\\x0D\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define NOT_SPACES                                                                                              \
    "\\x00-\\x08\\x0E-\\x1F\\x21-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-\\x{2027}" \
    "\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{10FFFF}"

/* The letters and numbers that Unicode 15, 15.1 and 16 added to those of 14, the version of PCRE2 10.42. */
#define LETTERS                                                                                                 \
    "\\p{L}\\x{1C89}-\\x{1C8A}\\x{A7CB}-\\x{A7CD}\\x{A7DA}-\\x{A7DC}\\x{105C0}-\\x{105F3}\\x{10D4A}-\\x{10D65}" \
    "\\x{10D6F}-\\x{10D85}\\x{10EC2}-\\x{10EC4}\\x{1123F}-\\x{11240}\\x{11380}-\\x{11389}\\x{1138B}\\x{1138E}"  \
    "\\x{11390}-\\x{113B5}\\x{113B7}\\x{113D1}\\x{113D3}\\x{11BC0}-\\x{11BE0}\\x{11F02}\\x{11F04}-\\x{11F10}"   \
    "\\x{11F12}-\\x{11F33}\\x{1342F}\\x{13441}-\\x{13446}\\x{13460}-\\x{143FA}\\x{16100}-\\x{1611D}"            \
    "\\x{16D40}-\\x{16D6C}\\x{18CFF}\\x{1B132}\\x{1B155}\\x{1DF25}-\\x{1DF2A}\\x{1E030}-\\x{1E06D}"             \
    "\\x{1E4D0}-\\x{1E4EB}\\x{1E5D0}-\\x{1E5ED}\\x{1E5F0}\\x{2B739}\\x{2EBF0}-\\x{2EE5D}\\x{31350}-\\x{323AF}"
#define NUMBERS                                                                                                       \
    "\\p{N}\\x{10D40}-\\x{10D49}\\x{116D0}-\\x{116E3}\\x{11BF0}-\\x{11BF9}\\x{11F50}-\\x{11F59}\\x{16130}-\\x{16139}" \
    "\\x{16D70}-\\x{16D79}\\x{1CCF0}-\\x{1CCF9}\\x{1D2C0}-\\x{1D2D3}\\x{1E4F0}-\\x{1E4F9}\\x{1E5F1}-\\x{1E5FA}"

/* ---- translation ---- */

typedef struct translator {
    const char *pattern, *p; /* p: what is not read yet */
    const char *name;
    lf_bytes *out;
    lf_error *err;
    bool in_class;
} translator;

static lf_status refuse(const translator *t, const char *what)
{
    return lf_fail(t->err, LF_EUNSUPPORTED, "%s: pre-tokenizer pattern '%s': found %s at byte %zu", t->name,
                   t->pattern, what, (size_t)(t->p - t->pattern));
}

static lf_status put(const translator *t, const char *s, size_t n)
{
    return lf_bytes_append(t->out, s, n) ? LF_OK : lf_fail_memory(t->err, "a pattern", t->out->len + n);
}

static lf_status put_string(const translator *t, const char *s)
{
    return put(t, s, strlen(s));
}

/* A class given by its members: as they are inside [...], else in brackets of its own. */
static lf_status put_class(const translator *t, const char *members, bool negated)
{
    if (t->in_class) return put_string(t, members);
    if (!lf_bytes_printf(t->out, "[%s%s]", negated ? "^" : "", members))
        return lf_fail_memory(t->err, "a pattern", t->out->len);
    return LF_OK;
}

/* \p{Name} and \P{Name}; t->p is at the p. */
static lf_status translate_property(translator *t)
{
    const bool negated = *t->p == 'P';
    const char *name = t->p + 2;
    const size_t len = t->p[1] == '{' ? strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
                                      : 0;
    if (len == 0 || name[len] != '}') return refuse(t, "a property that is not \\p{Name}");
    if (negated && t->in_class) return refuse(t, "\\P inside a class");
    const char *members = NULL;
    if (len == 1 && *name == 'L') members = LETTERS;
    if (len == 1 && *name == 'N') members = NUMBERS;
    if (!members && !lf_bytes_printf(t->out, "\\%c{%.*s}", *t->p, (int)len, name))
        return lf_fail_memory(t->err, "a pattern", t->out->len);
    t->p = name + len + 1;
    return members ? put_class(t, members, negated) : LF_OK;
}

/* \xHH, \x{H...}, \uHHHH; t->p is at the letter. */
static lf_status translate_code(translator *t)
{
    const bool braces = *t->p == 'x' && t->p[1] == '{';
    const char *digits = t->p + 1 + braces;
    const size_t n = strspn(digits, "0123456789abcdefABCDEF"), wanted = *t->p == 'u' ? 4 : 2;
    if (braces ? n < 1 || n > 6 || digits[n] != '}' : n < wanted) return refuse(t, "a malformed code point");
    /* In Oniguruma \x80 and above are bytes, not code points. */
    if (!braces && wanted == 2 && *digits > '7') return refuse(t, "a byte that is not ASCII");
    const size_t used = braces ? n : wanted;
    if (!lf_bytes_printf(t->out, "\\x{%.*s}", (int)used, digits))
        return lf_fail_memory(t->err, "a pattern", t->out->len);
    t->p = digits + used + braces;
    return LF_OK;
}

static lf_status translate_escape(translator *t)
{
    const char c = *++t->p;
    switch (c) {
    case 'p':
    case 'P': return translate_property(t);
    case 'x':
    case 'u': return translate_code(t);
    case 's': t->p++; return put_class(t, SPACES, false);
    case 'S': t->p++; return t->in_class ? put_string(t, NOT_SPACES) : put_class(t, SPACES, true);
    case 'd': t->p++; return put_string(t, "\\p{Nd}");
    case 'n':
    case 'r':
    case 't':
    case 'f': break;
    default:
        if (!strchr("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ", c) || c == '\0')
            return refuse(t, "an escape that is not supported");
    }
    const char escaped[2] = {'\\', c};
    t->p++;
    return put(t, escaped, sizeof escaped);
}

/* {n}, {n,} and {n,m}. What may follow a counted repeat differs between the libraries, so nothing may. */
static lf_status translate_count(translator *t)
{
    const size_t len = strspn(t->p + 1, "0123456789,") + 2;
    if (t->p[1] < '0' || t->p[1] > '9' || t->p[len - 1] != '}') return refuse(t, "a malformed repeat count");
    if (t->p[len] && strchr("?+*{", t->p[len])) return refuse(t, "a suffix after a repeat count");
    const lf_status status = put(t, t->p, len);
    t->p += len;
    return status;
}

static lf_status translate_group(translator *t)
{
    static const char *const openings[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    size_t len = t->p[1] == '?' || t->p[1] == '*' ? 0 : 1; /* (*...) is a verb of PCRE2 */
    for (size_t i = 0; i < sizeof openings / sizeof *openings && !len; i++)
        if (strncmp(t->p, openings[i], strlen(openings[i])) == 0) len = strlen(openings[i]);
    if (len == 0) return refuse(t, "a group that is not supported");
    const lf_status status = put(t, t->p, len);
    t->p += len;
    return status;
}

/* One element inside or outside a class; t->p is at it. */
static lf_status translate_element(translator *t)
{
    const char c = *t->p;
    if (c == '\\') return translate_escape(t);
    if (t->in_class) {
        if (c == '[') return refuse(t, "a class inside a class");
        if (c == '&' && t->p[1] == '&') return refuse(t, "an intersection of classes");
        t->in_class = c != ']';
    } else if (c == '[') {
        const size_t len = t->p[1] == '^' ? 2 : 1;
        if (t->p[len] == ']') return refuse(t, "an empty class");
        const lf_status status = put(t, t->p, len);
        t->p += len;
        t->in_class = true;
        return status;
    } else if (c == '(') {
        return translate_group(t);
    } else if (c == '{') {
        return translate_count(t);
    } else if (c == '^' || c == '$') {
        return refuse(t, "an anchor");
    }
    return put(t, t->p++, 1);
}

lf_status lf_regex_translate(lf_bytes *out, const char *pattern, const char *name, lf_error *err)
{
    translator t = {.pattern = pattern, .p = pattern, .name = name, .out = out, .err = err};
    if (strlen(pattern) > LF_REGEX_BYTES_MAX)
        return lf_fail(err, LF_ELIMIT, "%s: found a pre-tokenizer pattern of %zu bytes, expected at most %d",
                       name, strlen(pattern), LF_REGEX_BYTES_MAX);
    while (*t.p) {
        const lf_status status = translate_element(&t);
        if (status != LF_OK) return status;
    }
    return LF_OK;
}

/* ---- compiling and matching ---- */

struct lf_regex {
    pcre2_code *code;
};

struct lf_regex_match {
    pcre2_match_data *data;
    pcre2_match_context *context; /* limits */
};

enum {
    MATCH_STEPS_MAX = 50 * 1000 * 1000, /* of one match: well below a second */
    MATCH_KIB_MAX = 64 * 1024,
};

lf_status lf_regex_compile(lf_regex **out, const char *pattern, const char *name, lf_error *err)
{
    lf_bytes translated = {0};
    pcre2_compile_context *context = NULL;
    lf_regex *r = NULL;
    lf_status status = LF_OK;
    LF_TRY(lf_regex_translate(&translated, pattern, name, err));
    r = calloc(1, sizeof *r);
    context = pcre2_compile_context_create(NULL);
    if (!r || !context) LF_TRY(lf_fail_memory(err, "a pattern", sizeof *r));
    pcre2_set_newline(context, PCRE2_NEWLINE_LF); /* what '.' stops at in the other libraries */
    int code;
    PCRE2_SIZE at;
    r->code = pcre2_compile((PCRE2_SPTR)(translated.data ? translated.data : ""), translated.len,
                            PCRE2_UTF | PCRE2_UCP, &code, &at, context);
    if (!r->code && code == PCRE2_ERROR_HEAP_FAILED) LF_TRY(lf_fail_memory(err, "a pattern", translated.len));
    if (!r->code) {
        PCRE2_UCHAR text[128];
        (void)pcre2_get_error_message(code, text, sizeof text);
        LF_TRY(lf_fail(err, LF_EFORMAT, "%s: pre-tokenizer pattern '%s': %s", name, pattern, (char *)text));
    }
    (void)pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE); /* where there is none, the interpreter matches */
    *out = r;
    r = NULL;
done:
    lf_regex_free(r);
    pcre2_compile_context_free(context);
    lf_bytes_free(&translated);
    return status;
}

void lf_regex_free(lf_regex *r)
{
    if (!r) return;
    pcre2_code_free(r->code);
    free(r);
}

lf_status lf_regex_match_new(lf_regex_match **out, lf_error *err)
{
    lf_regex_match *m = calloc(1, sizeof *m);
    if (m)
        m->data = pcre2_match_data_create(1, NULL); /* the bounds of the whole match are all that is asked */
    if (m) m->context = pcre2_match_context_create(NULL);
    if (!m || !m->data || !m->context) {
        lf_regex_match_free(m);
        return lf_fail_memory(err, "a regular expression match", sizeof *m);
    }
    pcre2_set_match_limit(m->context, MATCH_STEPS_MAX);
    pcre2_set_heap_limit(m->context, MATCH_KIB_MAX);
    *out = m;
    return LF_OK;
}

void lf_regex_match_free(lf_regex_match *m)
{
    if (!m) return;
    pcre2_match_context_free(m->context);
    pcre2_match_data_free(m->data);
    free(m);
}

lf_status lf_regex_find(const lf_regex *r, lf_regex_match *m, const char *text, size_t len, size_t from,
                        size_t *start, size_t *end, lf_error *err)
{
    const int found = pcre2_match(r->code, (PCRE2_SPTR)text, len, from, PCRE2_NO_UTF_CHECK, m->data,
                                  m->context);
    if (found == PCRE2_ERROR_NOMATCH) {
        *start = *end = len;
        return LF_OK;
    }
    if (found == PCRE2_ERROR_NOMEMORY) return lf_fail_memory(err, "a regular expression match", len);
    if (found < 0) {
        PCRE2_UCHAR why[128];
        (void)pcre2_get_error_message(found, why, sizeof why);
        return lf_fail(err, LF_ELIMIT, "the pre-tokenizer pattern fails at byte %zu of a text of %zu: %s",
                       from, len, (char *)why);
    }
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(m->data);
    *start = bounds[0];
    *end = bounds[1];
    return LF_OK;
}
